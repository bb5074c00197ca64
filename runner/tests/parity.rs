//! Every architecture and head gives the vectors that the reference implementation gives.
//!
//! A case is a folder of `tests/parity/fixtures`: a small model as the reference saves it (or the name of a real one
//! below `$EMBEDRUN_TEST_MODELS`), texts, and what the reference computes of them; `tests/parity/README.md` says how
//! they are made. Each text is computed alone, in a batch of all in any order, and among texts of its own length. On the
//! CPU the models of `candle-transformers` are a second reference ([`second`]).

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

use libtest_mimic::Arguments;

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
    libtest_mimic::run(&Arguments::from_args(), first.chain(second).collect()).exit();
}
