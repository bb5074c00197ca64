//! The published models below `$EMBEDRUN_TEST_MODELS`, which `make test` sets.
//!
//! A test of a model that is not there is reported as ignored; where the variable `CI` is set it fails.

use std::{env, path::PathBuf};

use libtest_mimic::{Failed, Trial};

/// The folder of a published model; nothing without the variable.
pub fn folder(name: &str) -> Option<PathBuf> {
    env::var_os("EMBEDRUN_TEST_MODELS")
        .filter(|models| !models.is_empty())
        .map(|models| PathBuf::from(models).join(name))
}

/// A test that takes the folder of a published model.
pub fn trial(
    name: impl Into<String>,
    model: &str,
    test: impl FnOnce(PathBuf) -> Result<(), Failed> + Send + 'static,
) -> Trial {
    let (name, folder, model) = (name.into(), folder(model), model.to_owned());
    let ignored = folder.is_none() && !is_ci();
    Trial::test(name, move || match folder {
        Some(folder) => test(folder),
        None => Err(format!("EMBEDRUN_TEST_MODELS names no folder with {model}; `make test` sets it").into()),
    })
    .with_ignored_flag(ignored)
}

/// Whether nothing may be left out.
fn is_ci() -> bool {
    env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}
