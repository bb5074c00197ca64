//! The seeds of the fuzz targets: inputs that were written by hand, and every one that has ever made a target fail.
//!
//! `tests/fuzz/src/inputs` has the functions that the targets call; here each one gets the seeds of its folder, and some
//! damaged forms of each. They are the same in every run; `EMBEDRUN_TEST_MUTATIONS` asks for more of them.

#[path = "seeds/damaged.rs"]
mod damaged;
#[path = "../../tests/fuzz/src/inputs/mod.rs"]
mod inputs;

use std::{
    env, fs, panic,
    path::{Path, PathBuf},
};

use libtest_mimic::{Arguments, Trial};

/// Damaged forms of each seed, unless `EMBEDRUN_TEST_MUTATIONS` says otherwise.
const MUTATIONS: u64 = 20;

fn main() {
    let mutations = env::var("EMBEDRUN_TEST_MUTATIONS").map_or(MUTATIONS, |value| value.parse().expect("a number"));
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz");
    let seeds = inputs::INPUTS.into_iter().flat_map(|(target, input)| {
        let seeds = files(&fuzz.join("seeds").join(target));
        assert!(!seeds.is_empty(), "{target} has no seeds");
        seeds.into_iter().map(move |seed| {
            let name = seed.file_name().expect("a name").to_string_lossy();
            Trial::test(format!("{target}/{name}"), move || {
                let seed = fs::read(&seed)?;
                input(&seed);
                for number in 0..mutations {
                    let damaged = damaged::damaged(&seed, number);
                    let outcome = panic::catch_unwind(|| input(&damaged));
                    // As bytes, so that it can be made a seed.
                    outcome.map_err(|_| format!("damaged form {number}: {:?}", damaged.escape_ascii().to_string()))?;
                }
                Ok(())
            })
        })
    });
    let mut trials: Vec<Trial> = seeds.collect();
    let targets: Vec<String> = files(&fuzz.join("targets")).iter().map(|file| stem(file)).collect();
    trials.push(Trial::test("every-input-has-a-target", move || {
        let mut inputs = inputs::INPUTS.map(|(name, _)| name.to_owned());
        inputs.sort();
        assert_eq!(inputs[..], targets);
        Ok(())
    }));
    // The inputs share a folder of the process, in which each one is written in turn.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    libtest_mimic::run(&arguments, trials).exit();
}

/// The files of a folder, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files
}

fn stem(file: &Path) -> String {
    file.file_stem().expect("a name").to_string_lossy().into_owned()
}
