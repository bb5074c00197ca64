//! Writes the files that are generated from the types to their paths below the root of the repository: `crdgen ROOT`.
//!
//! A test compares the committed files with the types.

use std::{env, fs, path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    let Some(root) = env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: crdgen ROOT (the root of the repository)");
        return ExitCode::from(2);
    };
    for (path, text) in crds::generated::files() {
        let path = root.join(path);
        let folder = path.parent().unwrap_or(&root);
        if let Err(error) = fs::create_dir_all(folder).and_then(|()| fs::write(&path, text)) {
            eprintln!("crdgen: cannot write {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
        println!("{}", path.display());
    }
    ExitCode::SUCCESS
}
