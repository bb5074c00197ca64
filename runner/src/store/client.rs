//! The client of a store, with blocking calls.

use std::{
    fs::File,
    io::{self, Read},
    sync::Arc,
};

use crds::contract::Place;
use futures::TryStreamExt;
use jiff::Timestamp;
use object_store::{
    GetResultPayload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, path::Path,
};
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::{
    access::Access,
    error::{output_error, source_error},
    local,
    upload::Upload,
};
use crate::process::{
    error::{Cause, Result, StageError},
    runtime::runtime,
};

/// An open store.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) inner: Arc<dyn ObjectStore>,
    pub(super) access: Access,
    pub(super) place: Place,
}

/// The result of a write that must not replace a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutNew {
    /// The file was written.
    Written,
    /// The file existed and was not changed.
    Existed,
}

/// The entries of one folder, without those of its subfolders; paths are relative to the root of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The files, sorted by path.
    pub files: Vec<ListedFile>,
    /// The subfolders, sorted.
    pub folders: Vec<String>,
}

/// A file of a listing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListedFile {
    /// Its path, relative to the root of the store.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last modified; `None` if the store does not say so.
    pub modified: Option<Timestamp>,
}

impl ListedFile {
    fn of(object: &ObjectMeta) -> Self {
        let time = object.last_modified;
        let modified = Timestamp::new(time.timestamp(), time.timestamp_subsec_nanos() as i32).ok();
        Self { path: object.location.to_string(), size: object.size, modified }
    }
}

impl Store {
    /// The URI of a path in this store, for messages.
    pub fn uri_of(&self, path: &str) -> String {
        self.place.uri_of(path)
    }

    /// Lists `folder`; the root of the store is the empty path.
    ///
    /// # Errors
    /// If the store fails.
    pub fn list(&self, folder: &str) -> Result<Listing> {
        let prefix = (!folder.is_empty()).then(|| self.location(folder)).transpose()?;
        let listed = runtime()
            .block_on(self.inner.list_with_delimiter(prefix.as_ref()))
            .map_err(|error| self.error("list", folder, error))?;
        let mut listing = Listing {
            files: listed.objects.iter().map(ListedFile::of).collect(),
            folders: listed.common_prefixes.into_iter().map(|prefix| prefix.to_string()).collect(),
        };
        listing.files.sort_unstable();
        listing.folders.sort_unstable();
        Ok(listing)
    }

    /// The entry of a file in a listing; `None` if it does not exist.
    ///
    /// # Errors
    /// If the store fails.
    pub fn find(&self, path: &str) -> Result<Option<ListedFile>> {
        let location = self.location(path)?;
        match runtime().block_on(self.inner.head(&location)) {
            Ok(object) => Ok(Some(ListedFile::of(&object))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.error("read", path, error)),
        }
    }

    /// Opens a file for reading; `None` if it does not exist.
    ///
    /// # Errors
    /// If the store fails.
    pub fn read(&self, path: &str) -> Result<Option<Box<dyn Read + Send>>> {
        let location = self.location(path)?;
        let result = match runtime().block_on(self.inner.get(&location)) {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            result => result.map_err(|error| self.error("read", path, error))?,
        };
        Ok(Some(reader(result.payload)))
    }

    /// Opens a file for random access, as Parquet needs; `None` if it does not exist. A file that is not on a local
    /// disk is copied to a temporary file first, so that memory does not grow with it.
    ///
    /// # Errors
    /// If the store or the disk fails.
    pub fn open_file(&self, path: &str) -> Result<Option<File>> {
        let location = self.location(path)?;
        let result = match runtime().block_on(self.inner.get(&location)) {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            result => result.map_err(|error| self.error("read", path, error))?,
        };
        if let GetResultPayload::File(file, _) = result.payload {
            return Ok(Some(file));
        }
        let mut reader = reader(result.payload);
        let copied = tempfile::tempfile().and_then(|mut file| {
            io::copy(&mut reader, &mut file)?;
            Ok(file)
        });
        copied.map(Some).map_err(|error| self.error("read", path, error))
    }

    /// The bytes of a file; `None` if it does not exist.
    ///
    /// # Errors
    /// If the store fails.
    pub fn get(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let Some(mut reader) = self.read(path)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(|error| self.error("read", path, error))?;
        Ok(Some(bytes))
    }

    /// Writes a file, and replaces an existing one.
    ///
    /// # Errors
    /// If the store fails.
    pub fn put(&self, path: &str, bytes: Vec<u8>) -> Result<()> {
        let location = self.location(path)?;
        runtime()
            .block_on(self.inner.put(&location, PutPayload::from(bytes)))
            .map_err(|error| self.error("write", path, error))?;
        Ok(())
    }

    /// Writes a file unless it exists. Of concurrent writers exactly one succeeds.
    ///
    /// # Errors
    /// If the store fails.
    pub fn put_new(&self, path: &str, bytes: Vec<u8>) -> Result<PutNew> {
        let location = self.location(path)?;
        let options = PutOptions::from(PutMode::Create);
        match runtime().block_on(self.inner.put_opts(&location, PutPayload::from(bytes), options)) {
            Ok(_) => Ok(PutNew::Written),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(PutNew::Existed),
            Err(error) => Err(self.error("write", path, error)),
        }
    }

    /// Deletes a file; a missing file is not an error.
    ///
    /// # Errors
    /// If the store fails.
    pub fn delete(&self, path: &str) -> Result<()> {
        let location = self.location(path)?;
        match runtime().block_on(self.inner.delete(&location)) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.error("delete", path, error)),
        }
    }

    /// Deletes every file in `folder` except the paths that `keep` accepts; also the staging files of killed writers,
    /// which a listing does not show.
    ///
    /// # Errors
    /// If the store fails.
    pub fn keep_only(&self, folder: &str, keep: impl Fn(&str) -> bool) -> Result<()> {
        for file in self.list(folder)?.files {
            if !keep(&file.path) {
                self.delete(&file.path)?;
            }
        }
        local::delete_staging_files(&self.place, folder);
        Ok(())
    }

    /// Starts a large file; it does not exist until [`Upload::finish`].
    ///
    /// # Errors
    /// If the path is not valid.
    pub fn upload(&self, path: &str) -> Result<Upload> {
        Ok(Upload::new(Arc::clone(&self.inner), self.location(path)?))
    }

    pub(super) fn location(&self, path: &str) -> Result<Path> {
        Path::parse(path).map_err(|error| self.error("name", path, error))
    }

    /// An error of this store: "cannot `action` URI".
    pub fn error(&self, action: &str, path: &str, cause: impl Into<Cause>) -> StageError {
        let message = format!("cannot {action} {}", self.uri_of(path));
        match self.access {
            Access::Write => output_error(message, cause),
            Access::Read => source_error(message, cause),
        }
    }
}

fn reader(payload: GetResultPayload) -> Box<dyn Read + Send> {
    match payload {
        GetResultPayload::File(file, _) => Box::new(file),
        GetResultPayload::Stream(stream) => Box::new(SyncIoBridge::new_with_handle(
            StreamReader::new(stream.map_err(io::Error::other)),
            runtime().handle().clone(),
        )),
    }
}
