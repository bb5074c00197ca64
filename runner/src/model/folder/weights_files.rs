//! The weights files of a module: one `model.safetensors`, or those that its index lists.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::files::Files;
use crate::model::{
    ModelError,
    files::{WEIGHTS, WEIGHTS_INDEX},
};

/// Extensions of files that are pickles, or hold one.
const PICKLES: [&str; 5] = ["bin", "ckpt", "pkl", "pt", "pth"];

/// The weights files in the folder `dir`.
///
/// # Errors
/// If there are none, or only a pickle.
pub fn weights_files(files: &Files, dir: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let model = files.model();
    let weights = dir.join(WEIGHTS);
    if files.has(&weights)? {
        return Ok(vec![weights]);
    }
    let index = dir.join(WEIGHTS_INDEX);
    if files.has(&index)? {
        return files_of_index(files, dir, &index);
    }
    let read_error = |source| ModelError::Read { model: model.to_owned(), file: dir.to_owned(), source };
    let entries: Vec<PathBuf> = fs::read_dir(dir)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>())
        .map_err(read_error)?;
    match entries.into_iter().filter(|file| is_pickle(file)).min() {
        Some(file) => Err(ModelError::Pickle { model: model.to_owned(), file }),
        None => Err(ModelError::NoWeights { model: model.to_owned(), dir: dir.to_owned() }),
    }
}

fn files_of_index(files: &Files, dir: &Path, index: &Path) -> Result<Vec<PathBuf>, ModelError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let model = files.model();
    let parsed: Index = files.strict_json(index, &["metadata"])?;
    let names: BTreeSet<String> = parsed.weight_map.into_values().collect();
    let paths = names.iter().map(|name| {
        let file = dir.join(name);
        let is_plain = Path::new(name).file_name().is_some_and(|file_name| file_name == name.as_str());
        match (is_plain, is_pickle(&file), files.has(&file)?) {
            (true, false, true) => Ok(file),
            (true, true, _) => Err(ModelError::Pickle { model: model.to_owned(), file }),
            (true, false, false) => Err(ModelError::FileMissing { model: model.to_owned(), file }),
            (false, ..) => Err(ModelError::unsupported(
                model,
                index,
                "weight_map",
                name,
                &["the name of a file in the same folder"],
            )),
        }
    });
    paths.collect()
}

fn is_pickle(file: &Path) -> bool {
    file.extension().and_then(|extension| extension.to_str()).is_some_and(|extension| PICKLES.contains(&extension))
}
