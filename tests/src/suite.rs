//! The tests of one binary on one cluster.
//!
//! A test binary with `harness = false` calls [`run`] from its `main`. The cluster starts with the first test
//! that runs, so that listing the tests costs nothing, and stops after the last one. If the binary is killed, the
//! kernel ends the processes and a janitor removes the files.

use std::env;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use futures::future::LocalBoxFuture;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

use crate::{Cluster, ClusterOptions};

/// A test of a cluster. [`tests!`](crate::tests) makes tests from functions.
pub struct Test {
    /// The name in the list of tests.
    pub name: &'static str,
    /// The function of the test.
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
/// `E2E=skip` skips the tests and prints their number. Otherwise every test fails if the cluster cannot start.
pub fn run(options: fn() -> Result<ClusterOptions>, tests: Vec<Test>) -> ExitCode {
    let arguments = Arguments::from_args();
    let skip = env::var("E2E").is_ok_and(|value| value == "skip");
    if skip && !arguments.list {
        eprintln!("\nE2E=skip: {} END-TO-END TESTS ARE SKIPPED", tests.len());
    }
    let shared = match Runtime::new() {
        Ok(runtime) => Arc::new(Shared { runtime, cluster: OnceCell::new(), options }),
        Err(error) => {
            eprintln!("cannot create a runtime: {error}");
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
    /// The cluster; `None` if it could not start.
    cluster: OnceCell<Option<Cluster>>,
    options: fn() -> Result<ClusterOptions>,
}

impl Shared {
    fn run(&self, test: &Test) -> Result<(), Failed> {
        self.runtime.block_on(async {
            let cluster = self.cluster.get_or_init(|| self.start()).await;
            let Some(cluster) = cluster else {
                return Err(Failed::from("the cluster did not start; the reason is above"));
            };
            (test.run)(cluster).await.map_err(|error| Failed::from(format!("{error:#}")))
        })
    }

    async fn start(&self) -> Option<Cluster> {
        let started = async { Cluster::start((self.options)()?).await };
        started.await.inspect_err(|error| eprintln!("\nTHE CLUSTER CANNOT BE STARTED: {error:#}\n")).ok()
    }
}
