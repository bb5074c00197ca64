//! Every architecture and head gives the vectors that the reference implementation gives.
//!
//! A case is a folder of `tests/parity/fixtures`: a small model as the reference saves it (or the name of a real one
//! below `$EMBEDRUN_TEST_MODELS`), texts, and what the reference computes of them; `tests/parity/README.md` says how
//! they are made. Each text is computed alone, in a batch of all in any order, and among texts of its own length. On the
//! CPU the models of `candle-transformers` are a second reference ([`second`]), and the kernels are tested in every form
//! that the processor has.

#[path = "parity/cases.rs"]
mod cases;
#[path = "parity/dense.rs"]
mod dense;
#[path = "common/models.rs"]
mod models;
#[path = "parity/rerank.rs"]
mod rerank;
#[path = "parity/second/mod.rs"]
mod second;
#[path = "parity/sparse.rs"]
mod sparse;

use std::{env, process::Command};

use kernels::form::{self, Form};
use libtest_mimic::{Arguments, Trial};

/// A test per narrower form of the kernels that this processor has: the cases of the fixtures, in a process of its own. The
/// portable form takes its time, and gets the BERT family of them.
fn forms() -> Vec<Trial> {
    if env::var_os(form::VARIABLE).is_some() || !cases::device().is_cpu() {
        return Vec::new();
    }
    let narrower = Form::available().into_iter().skip(1);
    let trial = |form: Form| {
        Trial::test(format!("kernels/{}", form.name()), move || {
            let mut tests = Command::new(env::current_exe()?);
            tests.args(["--skip", "second-reference/"]).env(form::VARIABLE, form.name());
            if form == Form::Portable {
                tests.arg("bert-m");
            }
            let tests = tests.env_remove("EMBEDRUN_TEST_MODELS").env_remove("CI").output()?;
            if tests.status.success() {
                return Ok(());
            }
            Err(String::from_utf8_lossy(&tests.stdout).into_owned().into())
        })
    };
    narrower.map(trial).collect()
}

fn main() {
    let first = cases::all().into_iter().map(|case| {
        case.clone().trial(case.name, |case| match case.task.as_str() {
            "dense" => dense::check(case),
            "sparse" => sparse::check(case),
            "rerank" => rerank::check(case),
            task => Err(format!("{}: no such task: {task}", case.name)),
        })
    });
    // Where the runner's arithmetic is another one, the tolerances of the first reference say by how much.
    let second = if cases::is_rounded() { Vec::new() } else { second::trials(cases::all()) };
    libtest_mimic::run(&Arguments::from_args(), first.chain(second).chain(forms()).collect()).exit();
}
