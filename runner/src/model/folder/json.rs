//! The JSON files of a model folder.

use std::{
    fs::{self, Metadata},
    io,
    path::Path,
};

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
    if is_file(model, file)? { read_json(model, file) } else { Ok(T::default()) }
}

/// Whether `path` is a file. A file system that fails does not pass for a missing file.
///
/// # Errors
/// If the file system fails.
pub fn is_file(model: &str, path: &Path) -> Result<bool, ModelError> {
    Ok(metadata(model, path)?.is_some_and(|metadata| metadata.is_file()))
}

/// Whether `path` is a folder.
///
/// # Errors
/// Same as [`is_file`].
pub fn is_folder(model: &str, path: &Path) -> Result<bool, ModelError> {
    Ok(metadata(model, path)?.is_some_and(|metadata| metadata.is_dir()))
}

fn metadata(model: &str, path: &Path) -> Result<Option<Metadata>, ModelError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(source) => Err(ModelError::Read { model: model.to_owned(), file: path.to_owned(), source }),
    }
}
