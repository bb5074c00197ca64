//! Looks at the files that markers and summaries name: a reader must never be pointed to a file that is gone.

use super::marker::{Commit, CommittedFile};
use crate::{process::error::Result, store::Store};

/// How closely files are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// That they exist and have their size.
    #[default]
    Size,
    /// That their bytes have their digest, too: every file is read.
    Digest,
}

/// What is wrong with the files of a shard, as a sentence; `None` if nothing is.
///
/// # Errors
/// If the store fails.
pub fn defect(store: &Store, commit: &Commit, depth: Depth) -> Result<Option<String>> {
    first_defect(store, commit.files(), depth)
}

/// The first of these files that is missing or another, as a sentence; `None` if all are there.
///
/// # Errors
/// If the store fails.
pub fn first_defect<'a>(
    store: &Store,
    files: impl Iterator<Item = CommittedFile<'a>>,
    depth: Depth,
) -> Result<Option<String>> {
    for file in files {
        let uri = || store.uri_of(file.path);
        match (store.size(file.path)?, file.bytes) {
            (None, _) => return Ok(Some(format!("{} is missing", uri()))),
            (Some(found), Some(expected)) if found != expected => {
                return Ok(Some(format!("{} has {found} bytes and was committed with {expected}", uri())));
            }
            _ => {}
        }
        if let (Depth::Digest, Some(expected)) = (depth, file.sha256)
            && store.sha256(file.path)?.as_deref() != Some(expected)
        {
            return Ok(Some(format!("{} was committed with other bytes: its sha256 is not {expected}", uri())));
        }
    }
    Ok(None)
}
