//! The JSON files of a model folder.

use std::{fs, io, path::Path};

use serde::de::DeserializeOwned;

use crate::model::ModelError;

/// Reads a JSON file of the `model`.
///
/// # Errors
/// If the file is missing, cannot be read, or does not hold a `T`.
pub fn read_json<T: DeserializeOwned>(model: &str, file: &Path) -> Result<T, ModelError> {
    let (model, path) = (model.to_owned(), file.to_owned());
    match fs::read(file) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map_err(|source| ModelError::FileInvalid { model, file: path, source })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ModelError::FileMissing { model, file: path }),
        Err(source) => Err(ModelError::Read { model, file: path, source }),
    }
}

/// Same as [`read_json`], with the default of `T` if the file does not exist.
///
/// # Errors
/// If the file cannot be read, or does not hold a `T`.
pub fn read_optional_json<T: DeserializeOwned + Default>(model: &str, file: &Path) -> Result<T, ModelError> {
    if file.exists() { read_json(model, file) } else { Ok(T::default()) }
}
