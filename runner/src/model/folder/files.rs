//! The files of a model folder: each is read through [`Files`], which recognises pointers of Git LFS, rejects unknown fields
//! of JSON and records the digest of what was read.

use std::{
    cell::RefCell,
    fs, io,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{model::ModelError, plan::ModelFiles, store};

/// The beginning of a file that Git LFS has left in place of a large one.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";
/// The largest settings file or tokenizer, in bytes; real ones have up to 40 MB.
const MAX_BYTES: u64 = 1 << 29;

/// The files of a model folder that were read.
#[derive(Debug)]
pub struct Files {
    model: String,
    root: PathBuf,
    read: RefCell<ModelFiles>,
}

impl Files {
    /// None of the files of the folder `root` of the `model`.
    pub fn new(model: &str, root: &Path) -> Self {
        Self { model: model.to_owned(), root: root.to_owned(), read: RefCell::default() }
    }

    /// The name of the model.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The files that were read so far, with their digests.
    pub fn read_so_far(&self) -> ModelFiles {
        self.read.borrow().clone()
    }

    /// Records a file whose bytes the caller has read.
    pub fn record(&self, file: &Path, sha256: String) {
        let path = file.strip_prefix(&self.root).unwrap_or(file);
        self.read.borrow_mut().insert(&path.to_string_lossy(), sha256);
    }

    /// Whether there is a regular file. A failure to look is no answer: a file that is there would be ignored.
    ///
    /// # Errors
    /// If the file system fails.
    pub fn has(&self, file: &Path) -> Result<bool, ModelError> {
        match fs::metadata(file) {
            Ok(metadata) => Ok(metadata.is_file()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(self.read_error(file, source)),
        }
    }

    /// The bytes of a settings file.
    ///
    /// # Errors
    /// If it is missing, cannot be read, is too large, or is a pointer of Git LFS.
    pub fn bytes(&self, file: &Path) -> Result<Vec<u8>, ModelError> {
        let bytes = store::read_regular(file, MAX_BYTES).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ModelError::FileMissing { model: self.model.clone(), file: file.to_owned() },
            _ => self.read_error(file, source),
        })?;
        reject_pointer(&self.model, file, &bytes)?;
        self.record(file, hex::encode(Sha256::digest(&bytes)));
        Ok(bytes)
    }

    /// A JSON file, whose fields the caller checks.
    ///
    /// # Errors
    /// Same as [`Files::bytes`]; or if it does not hold a `T`.
    pub fn json<T: DeserializeOwned>(&self, file: &Path) -> Result<T, ModelError> {
        serde_json::from_slice(&self.bytes(file)?).map_err(|source| self.invalid(file, source))
    }

    /// Same as [`Files::json`], with the default of `T` if the file does not exist.
    ///
    /// # Errors
    /// Same as [`Files::json`].
    pub fn optional_json<T: DeserializeOwned + Default>(&self, file: &Path) -> Result<T, ModelError> {
        or_default(self.json(file))
    }

    /// A JSON file all of whose fields are fields of `T`, or one of those `without_effect`.
    ///
    /// # Errors
    /// Same as [`Files::json`]; or if the file has another field.
    pub fn strict_json<T: DeserializeOwned>(&self, file: &Path, without_effect: &[&str]) -> Result<T, ModelError> {
        let bytes = self.bytes(file)?;
        let mut unknown = Vec::new();
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        let parsed = serde_ignored::deserialize(&mut json, |path| {
            let path = field_path(&path);
            let name = path.rsplit('.').next().unwrap_or_default();
            if !without_effect.contains(&name) {
                unknown.push(path);
            }
        });
        let parsed =
            parsed.and_then(|parsed| json.end().map(|()| parsed)).map_err(|source| self.invalid(file, source))?;
        let Some(field) = unknown.into_iter().next() else { return Ok(parsed) };
        let whole: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let value = whole.pointer(&format!("/{}", field.replace('.', "/"))).map(Value::to_string).unwrap_or_default();
        Err(ModelError::UnknownField { model: self.model.clone(), file: file.to_owned(), field, value })
    }

    /// Same as [`Files::strict_json`], with the default of `T` if the file does not exist.
    ///
    /// # Errors
    /// Same as [`Files::strict_json`].
    pub fn optional_strict_json<T: DeserializeOwned + Default>(
        &self,
        file: &Path,
        without_effect: &[&str],
    ) -> Result<T, ModelError> {
        or_default(self.strict_json(file, without_effect))
    }

    fn read_error(&self, file: &Path, source: io::Error) -> ModelError {
        ModelError::Read { model: self.model.clone(), file: file.to_owned(), source }
    }

    fn invalid(&self, file: &Path, source: serde_json::Error) -> ModelError {
        ModelError::FileInvalid { model: self.model.clone(), file: file.to_owned(), source }
    }
}

/// What was read, or the default if there is no file.
fn or_default<T: Default>(read: Result<T, ModelError>) -> Result<T, ModelError> {
    match read {
        Err(ModelError::FileMissing { .. }) => Ok(T::default()),
        read => read,
    }
}

/// The path of a field as people write it, `rope_parameters.rope_theta`.
pub fn field_path(path: &serde_ignored::Path<'_>) -> String {
    // An optional value is a step of its own, shown as a question mark.
    path.to_string().split('.').filter(|step| *step != "?").collect::<Vec<_>>().join(".")
}

/// Rejects a file that begins with `bytes` if it is a pointer of Git LFS.
///
/// # Errors
/// If it is one.
pub fn reject_pointer(model: &str, file: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    if bytes.starts_with(LFS_POINTER) {
        return Err(ModelError::LfsPointer { model: model.to_owned(), file: file.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Deserialize)]
    struct Settings {
        #[serde(default)]
        width: usize,
        #[serde(default)]
        nested: Option<Nested>,
    }

    #[derive(Debug, Deserialize)]
    struct Nested {
        depth: usize,
    }

    fn folder(content: &str) -> (tempfile::TempDir, Files, PathBuf) {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("settings.json");
        fs::write(&file, content).expect("a file");
        let files = Files::new("m", dir.path());
        (dir, files, file)
    }

    #[test]
    fn an_unknown_field_is_rejected_with_file_field_and_value() {
        for (content, field, value) in [
            (r#"{"width": 3, "widht": 4}"#, "widht", "4"),
            (r#"{"nested": {"depth": 1, "deep": [true]}}"#, "nested.deep", "[true]"),
            (r#"{"gone": null}"#, "gone", "null"),
        ] {
            let (_dir, files, file) = folder(content);
            let error = files.strict_json::<Settings>(&file, &["note"]).expect_err("an unknown field").to_string();
            assert!(error.contains("settings.json") && error.contains(field) && error.contains(value), "{error}");
        }
        let (_dir, files, file) = folder(r#"{"note": 1, "width": 3, "nested": {"depth": 2, "note": {}}}"#);
        let settings: Settings = files.strict_json(&file, &["note"]).expect("known fields");
        assert_eq!((settings.width, settings.nested.map(|nested| nested.depth)), (3, Some(2)));
        assert_eq!(files.read_so_far().into_map().into_keys().collect::<Vec<_>>(), ["settings.json"]);
    }

    #[test]
    fn a_pointer_of_git_lfs_is_named_as_one() {
        let (_dir, files, file) =
            folder("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 90868376\n");
        let error = files.json::<Settings>(&file).expect_err("a pointer");
        assert!(matches!(error, ModelError::LfsPointer { .. }), "{error}");
        assert!(error.to_string().contains("git lfs pull"), "{error}");
    }
}
