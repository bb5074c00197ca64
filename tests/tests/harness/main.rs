//! Tests of the harness itself, on which all other end-to-end tests rely.

mod clients;
mod ends;
mod jobs;
mod setup;
mod starts;
mod views;

use std::process::ExitCode;

use harness::ClusterOptions;

fn main() -> ExitCode {
    let tests = [jobs::tests(), views::tests(), starts::tests(), ends::tests(), clients::tests()];
    harness::suite::run(|| Ok(ClusterOptions::default()), tests.into_iter().flatten().collect())
}
