//! The JSON files of a model folder.

use std::{fs, io, path::Path};

use serde::de::DeserializeOwned;

use crate::{model::ModelError, store};

/// The largest settings file, in bytes.
const MAX_BYTES: u64 = 1 << 29;

/// Reads a JSON file of the `model`.
///
/// # Errors
/// If the file is missing, cannot be read, or does not hold a `T`.
pub fn read_json<T: DeserializeOwned>(model: &str, file: &Path) -> Result<T, ModelError> {
    let (model, path) = (model.to_owned(), file.to_owned());
    match store::read_regular(file, MAX_BYTES) {
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
    match read_json(model, file) {
        Err(ModelError::FileMissing { .. }) => Ok(T::default()),
        read => read,
    }
}

/// Whether there is a file. A failure to look is no answer: a file that is there would be ignored.
///
/// # Errors
/// If the file system fails.
pub fn is_file(model: &str, file: &Path) -> Result<bool, ModelError> {
    match fs::metadata(file) {
        Ok(metadata) => Ok(metadata.is_file()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(ModelError::Read { model: model.to_owned(), file: file.to_owned(), source }),
    }
}
