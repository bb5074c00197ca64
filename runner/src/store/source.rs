//! What a run reads: a folder or a single file at a [`Place`], opened below the root of its volume.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use crds::contract::{FailureReason, Place};

use super::{
    error::source_error,
    folder::{FileKind, Folder, OpenError},
};
use crate::process::error::{Result, StageError};

/// An open source.
#[derive(Debug)]
pub struct OpenSource {
    /// The folder that the paths of its files are relative to. Nothing outside of it is read.
    pub folder: Folder,
    /// The file, if the source is a single one.
    pub single: Option<SingleFile>,
}

/// A source that is a single file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SingleFile {
    /// Its name.
    pub name: String,
    /// Its path in the folder of the [`OpenSource`].
    pub path: PathBuf,
}

/// Opens the source at a place.
///
/// # Errors
/// If it does not exist, leads out of its volume, or cannot be read.
pub fn open_source(place: &Place) -> Result<OpenSource> {
    let failed = |error: OpenError| open_error(&format!("{} ({})", place.uri, place.path), error);
    let (volume, below) = place.volume();
    if below.is_empty() {
        return open_root(Path::new(volume)).map_err(failed);
    }
    let root = Folder::open(Path::new(volume)).map_err(|error| failed(error.into()))?;
    match root.kind(below).map_err(failed)? {
        FileKind::Folder(_) => Ok(OpenSource { folder: root.below(below).map_err(failed)?, single: None }),
        FileKind::File(_) => {
            let name = below.rsplit('/').next().unwrap_or(below).to_owned();
            Ok(OpenSource { folder: root, single: Some(SingleFile { name, path: below.into() }) })
        }
        FileKind::Special(kind) => Err(failed(OpenError::Special(kind))),
    }
}

/// Opens a folder or a file that the user names by its path: links on the way to it are followed.
fn open_root(path: &Path) -> Result<OpenSource, OpenError> {
    let target = path.canonicalize()?;
    if target.metadata()?.is_dir() {
        return Ok(OpenSource { folder: Folder::open(&target)?, single: None });
    }
    let (Some(folder), Some(file), Some(name)) = (target.parent(), target.file_name(), path.file_name()) else {
        return Ok(OpenSource { folder: Folder::open(&target)?, single: None });
    };
    let folder = Folder::open(folder)?;
    if let FileKind::Special(kind) = folder.kind(file)? {
        return Err(OpenError::Special(kind));
    }
    let single = SingleFile { name: name.to_string_lossy().into_owned(), path: file.into() };
    Ok(OpenSource { folder, single: Some(single) })
}

/// The bytes of the file at a place, at most `limit`.
///
/// # Errors
/// If it is not a file, is larger, leads out of its volume, or cannot be read.
pub fn read_file(place: &Place, limit: u64) -> Result<Vec<u8>> {
    let OpenSource { folder, single } = open_source(place)?;
    let Some(SingleFile { path, .. }) = single else {
        let message = format!("{} ({}) is a folder, not a file", place.uri, place.path);
        return Err(StageError::new(FailureReason::SourceNotFound, message));
    };
    let file = folder.file(path).map_err(|error| open_error(&place.uri, error))?;
    let mut bytes = Vec::new();
    let message = || format!("cannot read {}", place.uri);
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| source_error(message(), error))?;
    if bytes.len() as u64 > limit {
        let message = format!("{} is larger than {} MiB: split it", place.uri, limit >> 20);
        return Err(StageError::new(FailureReason::InvalidFile, message));
    }
    Ok(bytes)
}

/// The error of a file of a source that is not opened.
pub fn open_error(uri: &str, error: OpenError) -> StageError {
    match error {
        OpenError::Outside | OpenError::Special(_) => {
            StageError::new(FailureReason::InvalidFile, format!("{uri} is not read: {error}"))
        }
        OpenError::Io(error) => source_error(format!("{uri} cannot be read"), error),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn the_path_of_a_source_does_not_leave_its_volume() {
        let world = tempfile::tempdir().expect("a folder");
        let at = |name: &str| world.path().join(name);
        fs::create_dir_all(at("volume/v1/docs")).expect("a folder");
        fs::create_dir_all(at("outside/docs")).expect("a folder");
        fs::write(at("volume/v1/q.jsonl"), "queries").expect("a file");
        fs::write(at("outside/q.jsonl"), "secret").expect("a file");
        symlink("v1", at("volume/current")).expect("a link");
        symlink("../outside", at("volume/out")).expect("a link");
        let place = |path: &str, uri: &str| Place {
            path: at("volume").join(path).to_string_lossy().into_owned(),
            uri: format!("{uri}/{path}"),
        };
        assert_eq!(open_source(&place("current/docs", "pvc://c")).expect("inside").single, None);
        let single = open_source(&place("current/q.jsonl", "pvc://c")).expect("inside").single.expect("a file");
        assert_eq!((single.name.as_str(), single.path), ("q.jsonl", "current/q.jsonl".into()));
        assert_eq!(read_file(&place("current/q.jsonl", "configmap://q"), 7).expect("read"), b"queries");
        for (path, reason) in [
            ("out/docs", FailureReason::InvalidFile),
            ("out/q.jsonl", FailureReason::InvalidFile),
            ("gone", FailureReason::SourceNotFound),
            ("current/q.jsonl/x", FailureReason::SourceNotFound),
        ] {
            for uri in ["pvc://c", "configmap://q"] {
                let error = open_source(&place(path, uri)).expect_err(path);
                assert_eq!(error.reason, reason, "{}", error.sentence());
                assert!(error.sentence().contains(&format!("{uri}/{path}")), "{}", error.sentence());
                assert_eq!(read_file(&place(path, uri), 7).expect_err(path).reason, reason);
            }
        }
        let error = read_file(&place("current/q.jsonl", "configmap://q"), 6).expect_err("larger");
        assert_eq!(error.reason, FailureReason::InvalidFile);
        // A path that the user names may be a link.
        let named =
            Place { path: at("volume/out/q.jsonl").to_string_lossy().into_owned(), uri: "file:///q.jsonl".into() };
        assert_eq!(read_file(&named, 7).expect("read"), b"secret");
    }
}
