//! Writes the generated files of this crate: the CRD and the JSON Schema of the summary.
//!
//! `crdgen DIR` writes them into `DIR`; a test compares them with `crds/generated/`.

use std::{env, fs, path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    let Some(dir) = env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: crdgen DIR");
        return ExitCode::from(2);
    };
    for (name, text) in crds::generated::files() {
        let path = dir.join(name);
        if let Err(error) = fs::create_dir_all(&dir).and_then(|()| fs::write(&path, text)) {
            eprintln!("crdgen: cannot write {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
        println!("{}", path.display());
    }
    ExitCode::SUCCESS
}
