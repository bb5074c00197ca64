//! What a commit needs of a store: files that get their name last, and a look at files that were committed.

use std::{io, thread, time::Duration};

use object_store::{ObjectStoreExt, path::Path};
use sha2::{Digest, Sha256};

use super::{client::Store, local};
use crate::process::{error::Result, runtime::runtime};

/// How often, and how long apart, a torn file is read again: its writer may be alive.
const TORN_READS: u32 = 10;
const TORN_PAUSE: Duration = Duration::from_millis(200);

/// A JSON file that is written at most once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonFile {
    /// There is none.
    Missing,
    /// It is not whole, and no one goes on with it: its writer died on a file system without hard links.
    Torn,
    /// Its bytes, which are JSON.
    Whole(Vec<u8>),
}

impl Store {
    /// Reads a JSON file that is written at most once. A torn one is read again for two seconds.
    ///
    /// # Errors
    /// If the store fails.
    pub fn get_json(&self, path: &str) -> Result<JsonFile> {
        for read in 0..TORN_READS {
            if read > 0 {
                thread::sleep(TORN_PAUSE);
            }
            match self.get(path)? {
                None => return Ok(JsonFile::Missing),
                Some(bytes) if serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_ok() => {
                    return Ok(JsonFile::Whole(bytes));
                }
                Some(_) => {}
            }
        }
        tracing::warn!("{} is not whole: its writer died in the middle", self.uri_of(path));
        Ok(JsonFile::Torn)
    }

    /// The size of a file in bytes; `None` if it does not exist.
    ///
    /// # Errors
    /// If the store fails.
    pub fn size(&self, path: &str) -> Result<Option<u64>> {
        self.size_at(&self.location(path)?).map_err(|error| self.error("look at", path, error))
    }

    fn size_at(&self, location: &Path) -> object_store::Result<Option<u64>> {
        match runtime().block_on(self.inner.head(location)) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The sha256 of a file, in hexadecimal; `None` if it does not exist. Reads the whole file.
    ///
    /// # Errors
    /// If the store fails.
    pub fn sha256(&self, path: &str) -> Result<Option<String>> {
        let Some(mut reader) = self.read(path)? else { return Ok(None) };
        let mut hash = Sha256::new();
        io::copy(&mut reader, &mut hash).map_err(|error| self.error("read", path, error))?;
        Ok(Some(hex::encode(hash.finalize())))
    }

    /// Gives a file of `bytes` its last name, over a file of that name. A failure whose file is in its place is none:
    /// the reply was lost, or another attempt moved the same bytes there.
    ///
    /// # Errors
    /// If the store fails.
    pub fn rename(&self, from: &str, to: &str, bytes: u64) -> Result<()> {
        let (source, target) = (self.location(from)?, self.location(to)?);
        let Err(error) = runtime().block_on(self.inner.rename(&source, &target)) else { return Ok(()) };
        let is_done =
            matches!(self.size_at(&source), Ok(None)) && self.size_at(&target).is_ok_and(|size| size == Some(bytes));
        if is_done { Ok(()) } else { Err(self.error("write", to, error)) }
    }

    /// Deletes the files in `folder` whose names end with `suffix`, and what killed writers left of unfinished files.
    ///
    /// # Errors
    /// If the store fails.
    pub fn delete_leftovers(&self, folder: &str, suffix: &str) -> Result<()> {
        for file in self.list(folder)?.files.iter().filter(|file| file.path.ends_with(suffix)) {
            self.delete(&file.path)?;
        }
        local::delete_staging_files(&self.place, folder);
        Ok(())
    }
}
