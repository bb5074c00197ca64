//! Every architecture and head gives the vectors that the reference implementation gives.
//!
//! A case is a folder of `tests/parity/fixtures`: a small model as the reference saves it (or the name of a real one
//! below `$EMBEDRUN_TEST_MODELS`), texts, and what the reference computes of them; `tests/parity/README.md` says how
//! they are made. Each text is computed alone, in a batch of all in any order, and among texts of its own length.

#[path = "parity/cases.rs"]
mod cases;
#[path = "parity/dense.rs"]
mod dense;
#[path = "parity/rerank.rs"]
mod rerank;
#[path = "parity/sparse.rs"]
mod sparse;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let trials = cases::all().into_iter().map(|case| {
        let name = case.name.clone();
        Trial::test(name, move || {
            match case.task.as_str() {
                "dense" => dense::check(&case),
                "sparse" => sparse::check(&case),
                "rerank" => rerank::check(&case),
                task => Err(format!("{}: no such task: {task}", case.name)),
            }
            .map_err(Into::into)
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit();
}
