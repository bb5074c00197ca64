//! The tests of one binary on one cluster.
//!
//! A test binary with `harness = false` calls [`run`] from its `main`. The cluster starts with the first test
//! that runs, so that listing the tests costs nothing, and stops when the last has ended. The kernel and a
//! janitor see to it that nothing is left behind when the binary is killed.

use std::env;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use futures::future::LocalBoxFuture;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

use crate::{Cluster, ClusterOptions};

/// A test: its name and what it does with the cluster. [`tests!`](crate::tests) makes them from functions.
pub struct Test {
    /// The name in the list of tests.
    pub name: &'static str,
    /// What the test does.
    pub run: for<'a> fn(&'a Cluster) -> LocalBoxFuture<'a, Result<()>>,
}

/// Makes a `Vec<Test>` of functions `async fn(&Cluster) -> anyhow::Result<()>`.
#[macro_export]
macro_rules! tests {
    ($($name:ident),+ $(,)?) => {
        vec![$($crate::Test {
            name: stringify!($name),
            run: |cluster| ::std::boxed::Box::pin($name(cluster)),
        }),+]
    };
}

/// Runs `tests` with the arguments of `cargo test` and returns the exit code of the binary.
///
/// `E2E=skip` leaves the tests out, and says so. Without it, a cluster that cannot be had fails every test.
pub fn run(options: fn() -> Result<ClusterOptions>, tests: Vec<Test>) -> ExitCode {
    let arguments = Arguments::from_args();
    let skip = env::var("E2E").is_ok_and(|value| value == "skip");
    if skip && !arguments.list {
        eprintln!("\nE2E=skip: {} END-TO-END TESTS ARE LEFT OUT", tests.len());
    }
    let shared = match Runtime::new() {
        Ok(runtime) => Arc::new(Shared { runtime, cluster: OnceCell::new(), options }),
        Err(error) => {
            eprintln!("cannot make a runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let trials = tests
        .into_iter()
        .map(|test| {
            let shared = shared.clone();
            Trial::test(test.name, move || shared.run(&test)).with_ignored_flag(skip)
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

struct Shared {
    runtime: Runtime,
    /// The cluster, or nothing where it could not be started.
    cluster: OnceCell<Option<Cluster>>,
    options: fn() -> Result<ClusterOptions>,
}

impl Shared {
    fn run(&self, test: &Test) -> Result<(), Failed> {
        self.runtime.block_on(async {
            let cluster = self.cluster.get_or_init(|| self.start()).await;
            let Some(cluster) = cluster else {
                return Err(Failed::from("there is no cluster; the reason is above"));
            };
            (test.run)(cluster).await.map_err(|error| Failed::from(format!("{error:#}")))
        })
    }

    async fn start(&self) -> Option<Cluster> {
        let started = async { Cluster::start((self.options)()?).await };
        started.await.inspect_err(|error| eprintln!("\nTHE CLUSTER CANNOT BE STARTED: {error:#}\n")).ok()
    }
}
