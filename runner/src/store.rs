//! The stores that a run reads and writes, as blocking calls.
//!
//! [`open`] is the only place that knows what kind of store a [`Place`] is; today it is a folder. The pipeline is
//! blocking code: the asynchronous clients of the stores end in this file.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::{Path as FilePath, PathBuf},
    sync::{Arc, LazyLock},
};

use crds::contract::{FailureReason, Place};
use futures::TryStreamExt;
use object_store::{
    GetResultPayload, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    local::LocalFileSystem, path::Path,
};
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;
use tokio_util::io::{StreamReader, SyncIoBridge};

use crate::error::{Cause, Result, StageError, output_error};

/// The size of the parts of a large file.
const PART: usize = 8 << 20;

/// The runtime of the stores' clients and of the signal handler; small, since both mostly wait.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("threads can be started")
    });
    &RUNTIME
}

/// Whether a store is read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It must exist.
    Read,
    /// It is made where it does not exist.
    Write,
}

/// An open store.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    access: Access,
    place: Place,
}

/// Opens the store at a place.
pub fn open(place: &Place, access: Access) -> Result<Store> {
    let folder = FilePath::new(&place.path);
    if access == Access::Write {
        std::fs::create_dir_all(folder)
            .map_err(|error| output_error(format!("cannot create the folder {} ({})", place.uri, place.path), error))?;
    }
    let closed = |cause: Cause| {
        StageError::new(FailureReason::SourceNotFound, format!("cannot open {} ({})", place.uri, place.path))
            .caused_by(cause)
    };
    std::fs::read_dir(folder).map_err(|error| closed(error.into()))?;
    let inner = LocalFileSystem::new_with_prefix(folder)
        .map_err(|error| closed(error.into()))?
        .with_fsync(access == Access::Write);
    Ok(Store { inner: Arc::new(inner), access, place: place.clone() })
}

/// Opens the store that a source is in. The name is that of the file, where the source is a single one.
pub fn open_source(place: &Place) -> Result<(Store, Option<String>)> {
    let path = FilePath::new(&place.path);
    let is_file = std::fs::metadata(path)
        .map_err(|error| {
            StageError::new(FailureReason::SourceNotFound, format!("{} ({}) is not there", place.uri, place.path))
                .caused_by(error)
        })?
        .is_file();
    match path.file_name().zip(path.parent()) {
        Some((name, folder)) if is_file => {
            let name = name.to_string_lossy().into_owned();
            let uri = place.uri.trim_end_matches('/');
            let uri = uri.strip_suffix(&name).unwrap_or(uri).trim_end_matches('/').to_owned();
            let folder = Place { path: folder.to_string_lossy().into_owned(), uri };
            Ok((open(&folder, Access::Read)?, Some(name)))
        }
        _ => Ok((open(place, Access::Read)?, None)),
    }
}

/// What was written: enough to check it later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its size.
    pub bytes: u64,
    /// The sha256 of its bytes, in hexadecimal.
    pub sha256: String,
}

/// Whether a thing that is written at most once was written now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutNew {
    /// It was.
    Written,
    /// It had been there before, and was left alone.
    Existed,
}

/// One level of a store: paths from its root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// The files in it.
    pub files: Vec<String>,
    /// The folders in it.
    pub folders: Vec<String>,
}

impl Store {
    /// The user's name of something in this store.
    pub fn uri_of(&self, path: &str) -> String {
        self.place.uri_of(path)
    }

    /// The files and folders in `folder`, sorted; the root is the empty path.
    pub fn level(&self, folder: &str) -> Result<Level> {
        let prefix = (!folder.is_empty()).then(|| self.location(folder)).transpose()?;
        let listed = runtime()
            .block_on(self.inner.list_with_delimiter(prefix.as_ref()))
            .map_err(|error| self.error("list", folder, error))?;
        let mut level = Level {
            files: listed.objects.into_iter().map(|object| object.location.to_string()).collect(),
            folders: listed.common_prefixes.into_iter().map(|prefix| prefix.to_string()).collect(),
        };
        level.files.sort_unstable();
        level.folders.sort_unstable();
        Ok(level)
    }

    /// What tells that two paths are the same folder, where the store knows links.
    pub fn identity(&self, folder: &str) -> Option<PathBuf> {
        FilePath::new(&self.place.path).join(folder).canonicalize().ok()
    }

    /// Opens a file for reading, none where there is no such file.
    pub fn read(&self, path: &str) -> Result<Option<Box<dyn Read + Send>>> {
        let location = self.location(path)?;
        let found = match runtime().block_on(self.inner.get(&location)) {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            found => found.map_err(|error| self.error("read", path, error))?,
        };
        Ok(Some(reader(found.payload)))
    }

    /// Opens a file that is read here and there, as Parquet is, none where there is no such file. One that is not on a
    /// disk of this machine is copied to a temporary file first: memory does not grow with it.
    pub fn open_file(&self, path: &str) -> Result<Option<File>> {
        let location = self.location(path)?;
        let found = match runtime().block_on(self.inner.get(&location)) {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            found => found.map_err(|error| self.error("read", path, error))?,
        };
        if let GetResultPayload::File(file, _) = found.payload {
            return Ok(Some(file));
        }
        let mut reader = reader(found.payload);
        let copied = tempfile::tempfile().and_then(|mut file| {
            io::copy(&mut reader, &mut file)?;
            Ok(file)
        });
        copied.map(Some).map_err(|error| self.error("read", path, error))
    }

    /// The bytes of a file, none where there is no such file.
    pub fn get(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let Some(mut reader) = self.read(path)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(|error| self.error("read", path, error))?;
        Ok(Some(bytes))
    }

    /// Writes a file, in place of any that is there.
    pub fn put(&self, path: &str, bytes: Vec<u8>) -> Result<()> {
        let location = self.location(path)?;
        runtime()
            .block_on(self.inner.put(&location, PutPayload::from(bytes)))
            .map_err(|error| self.error("write", path, error))?;
        Ok(())
    }

    /// Writes a file unless it is there already. Of writers that do this at the same time exactly one succeeds.
    pub fn put_new(&self, path: &str, bytes: Vec<u8>) -> Result<PutNew> {
        let location = self.location(path)?;
        let options = PutOptions::from(PutMode::Create);
        match runtime().block_on(self.inner.put_opts(&location, PutPayload::from(bytes), options)) {
            Ok(_) => Ok(PutNew::Written),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(PutNew::Existed),
            Err(error) => Err(self.error("write", path, error)),
        }
    }

    /// Deletes a file; one that is not there is no error.
    pub fn delete(&self, path: &str) -> Result<()> {
        let location = self.location(path)?;
        match runtime().block_on(self.inner.delete(&location)) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.error("delete", path, error)),
        }
    }

    /// Deletes every file in `folder` but those in `keep`, the staging files of writers that were killed included,
    /// which a listing does not show.
    pub fn keep_only(&self, folder: &str, keep: &[&str]) -> Result<()> {
        for file in self.level(folder)?.files {
            if !keep.contains(&file.as_str()) {
                self.delete(&file)?;
            }
        }
        for entry in std::fs::read_dir(FilePath::new(&self.place.path).join(folder)).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().contains('#') {
                // Whoever it belonged to is gone, or deletes it too.
                let _ = std::fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// Starts a large file; nothing is to be seen of it until [`Upload::finish`].
    pub fn upload(&self, path: &str) -> Result<Upload> {
        Ok(Upload {
            store: Arc::clone(&self.inner),
            location: self.location(path)?,
            part: Vec::new(),
            parts: None,
            hash: Sha256::new(),
            bytes: 0,
        })
    }

    fn location(&self, path: &str) -> Result<Path> {
        Path::parse(path).map_err(|error| self.error("name", path, error))
    }

    /// An error of this store with the user's name of the thing.
    pub fn error(&self, action: &str, path: &str, cause: impl Into<Cause>) -> StageError {
        let message = format!("cannot {action} {}", self.uri_of(path));
        match self.access {
            Access::Write => output_error(message, cause),
            Access::Read => StageError::new(FailureReason::SourceNotFound, message).caused_by(cause),
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

/// A large file that is being written, part after part. One that is dropped unfinished frees what was written of it.
#[derive(Debug)]
pub struct Upload {
    store: Arc<dyn ObjectStore>,
    location: Path,
    part: Vec<u8>,
    parts: Option<Box<dyn MultipartUpload>>,
    hash: Sha256,
    bytes: u64,
}

impl Write for Upload {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.part.extend_from_slice(buffer);
        self.hash.update(buffer);
        self.bytes += buffer.len() as u64;
        if self.part.len() >= PART {
            self.send_part()?;
        }
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // Parts are sent as they fill up; stores refuse smaller ones.
        Ok(())
    }
}

impl Upload {
    /// Completes the file.
    pub fn finish(mut self) -> io::Result<Written> {
        if self.parts.is_some() {
            self.send_part()?;
        }
        if let Some(parts) = &mut self.parts {
            runtime().block_on(parts.complete())?;
        } else {
            let payload = PutPayload::from(std::mem::take(&mut self.part));
            runtime().block_on(self.store.put(&self.location, payload))?;
        }
        self.parts = None;
        Ok(Written { bytes: self.bytes, sha256: hex::encode(self.hash.clone().finalize()) })
    }

    fn send_part(&mut self) -> io::Result<()> {
        let payload = PutPayload::from(std::mem::take(&mut self.part));
        let parts = match &mut self.parts {
            Some(parts) => parts,
            none => none.insert(runtime().block_on(self.store.put_multipart(&self.location))?),
        };
        Ok(runtime().block_on(parts.put_part(payload))?)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(mut parts) = self.parts.take() {
            // A store that failed may fail here too; what it keeps is swept when the shard is committed.
            let _ = runtime().block_on(parts.abort());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(access: Access) -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().expect("a folder");
        let place = Place { path: folder.path().to_string_lossy().into(), uri: "pvc://vectors/x".into() };
        let store = open(&place, access).expect("a store");
        (folder, store)
    }

    #[test]
    fn a_thing_is_written_once() {
        let (_folder, store) = store(Access::Write);
        assert_eq!(store.put_new("a/b.json", b"1".to_vec()).expect("put"), PutNew::Written);
        assert_eq!(store.put_new("a/b.json", b"2".to_vec()).expect("put"), PutNew::Existed);
        assert_eq!(store.get("a/b.json").expect("get"), Some(b"1".to_vec()));
        assert_eq!(store.get("a/c.json").expect("get"), None);
    }

    #[test]
    fn an_upload_is_seen_only_when_it_is_finished() {
        let (folder, store) = store(Access::Write);
        let mut upload = store.upload("s/one").expect("an upload");
        upload.write_all(&vec![7; 11 << 20]).expect("written");
        assert_eq!(store.get("s/one").expect("get"), None);
        drop(upload);
        let mut upload = store.upload("s/two").expect("an upload");
        upload.write_all(b"two").expect("written");
        let written = upload.finish().expect("finished");
        assert_eq!((written.bytes, store.get("s/two").expect("get")), (3, Some(b"two".to_vec())));
        std::fs::write(folder.path().join("s/three.parquet#1"), "killed").expect("a file");
        store.keep_only("s", &["s/two"]).expect("swept");
        let left: Vec<_> = std::fs::read_dir(folder.path().join("s")).expect("a folder").flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn names_are_what_users_called_the_files() {
        let (folder, store) = store(Access::Read);
        for name in ["a b.txt", "100%.txt", "ü.txt", "a%20b.txt", "q?#x.txt"] {
            std::fs::write(folder.path().join(name), name).expect(name);
        }
        let level = store.level("").expect("a level");
        for name in &level.files {
            assert_eq!(store.get(name).expect(name).as_deref(), Some(name.as_bytes()));
        }
        assert_eq!(level.files.len(), 5, "{level:?}");
    }
}
