//! The cache of a repository. It has the layout of the hub's own libraries, so that all programs share it:
//! `blobs/<etag>` holds the content, `snapshots/<commit>/<path>` links to it, `refs/<revision>` names a commit.
//!
//! In addition, `.embedrun/<commit>.2.json` records the files that a model needs and their sizes, once all are cached. Without
//! it a snapshot may be partial: other programs cache only the files that they have used.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::error::HubFailure;
use crate::store::Fault;

/// The time between two attempts to lock a file that another process fetches.
const LOCK_INTERVAL: Duration = Duration::from_millis(200);

/// The cache of a repository.
pub struct RepoCache {
    folder: PathBuf,
    locks: PathBuf,
}

/// Whether a revision is a whole commit, which never changes.
pub fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl RepoCache {
    /// The cache of `repo` below the folder `cache` of all repositories.
    pub fn new(cache: &Path, repo: &str) -> Self {
        let name = format!("models--{}", repo.replace('/', "--"));
        Self { folder: cache.join(&name), locks: cache.join(".locks").join(name) }
    }

    /// The folder of a commit.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// The path of the content that the hub stores under an ETag.
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// The commit that a revision resolved to when it was last fetched; `None` if it never was.
    ///
    /// # Errors
    /// If the cache cannot be read: that it lacks something is no conclusion from a failure.
    pub fn cached_ref(&self, revision: &str) -> Result<Option<String>, HubFailure> {
        let path = self.folder.join("refs").join(revision);
        let text = found(&path, fs::read_to_string(&path))?;
        Ok(text.map(|text| text.trim().to_owned()).filter(|commit| is_commit(commit)))
    }

    /// Records the commit that a revision resolves to. A failure is only logged: a read-only cache works without the record.
    pub fn record_ref(&self, revision: &str, commit: &str) {
        let recorded = || self.cached_ref(revision).ok().flatten();
        if !is_commit(revision) && recorded().as_deref() != Some(commit) {
            write_record(&self.folder.join("refs").join(revision), commit);
        }
    }

    /// Whether every file that the model needs was fetched and still exists.
    ///
    /// # Errors
    /// If the cache cannot be read.
    pub fn is_complete(&self, commit: &str) -> Result<bool, HubFailure> {
        let record = self.record_file(commit);
        let Some(text) = found(&record, fs::read(&record))? else { return Ok(false) };
        let Ok(files) = serde_json::from_slice::<BTreeMap<String, u64>>(&text) else { return Ok(false) };
        let snapshot = self.snapshot(commit);
        for (path, size) in files {
            let path = snapshot.join(path);
            if found(&path, fs::metadata(&path))?.is_none_or(|file| file.len() != size) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Records the files of a model and their sizes in bytes.
    pub fn record_files(&self, commit: &str, files: &BTreeMap<String, u64>) {
        write_record(&self.record_file(commit), &serde_json::to_string(files).expect("a map of numbers"));
    }

    /// Whether the snapshot of a commit has safetensors, whichever program fetched them.
    ///
    /// # Errors
    /// If the cache cannot be read.
    pub fn has_weights(&self, commit: &str) -> Result<bool, HubFailure> {
        let snapshot = self.snapshot(commit);
        let mut folders = vec![(snapshot, true)];
        while let Some((folder, is_snapshot)) = folders.pop() {
            for entry in found(&folder, fs::read_dir(&folder))?.into_iter().flatten() {
                let path = found(&folder, entry)?.map(|entry| entry.path()).unwrap_or_default();
                let Some(file) = found(&path, fs::metadata(&path))? else { continue };
                if file.is_dir() && is_snapshot {
                    folders.push((path, false));
                } else if file.is_file() && path.extension().is_some_and(|extension| extension == "safetensors") {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Links a path of a commit to its blob.
    ///
    /// # Errors
    /// If the cache cannot be written.
    pub fn link(&self, commit: &str, path: &str, etag: &str) -> Result<(), HubFailure> {
        let link = self.snapshot(commit).join(path);
        // The relative path from the folder of the link up to that of the repository.
        let up = "../".repeat(2 + path.matches('/').count());
        let target = PathBuf::from(format!("{up}blobs/{etag}"));
        if fs::read_link(&link).is_ok_and(|existing| existing == target) {
            return Ok(());
        }
        create_parent(&link)?;
        let failed = |source| HubFailure::Cache { path: link.clone(), source };
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        match std::os::unix::fs::symlink(&target, &link) {
            // Another process created the link meanwhile.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result.map_err(failed),
        }
    }

    /// Waits until no other process writes the blob. The lock lasts as long as the file is open.
    pub async fn lock(&self, etag: &str) -> Result<File, HubFailure> {
        let path = self.locks.join(format!("{etag}.lock"));
        create_parent(&path)?;
        let failed = |source| HubFailure::Cache { path: path.clone(), source };
        let file = File::options().create(true).append(true).open(&path).map_err(failed)?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_INTERVAL).await,
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
    }

    fn record_file(&self, commit: &str) -> PathBuf {
        // The number grows with the list of files: a record of earlier releases may lack some.
        self.folder.join(".embedrun").join(format!("{commit}.2.json"))
    }
}

/// What was found at a path of the cache; `None` if nothing is there.
fn found<T>(path: &Path, result: io::Result<T>) -> Result<Option<T>, HubFailure> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(Fault::of(&error), Fault::NotFound | Fault::WrongKind) => Ok(None),
        Err(source) => Err(HubFailure::Cache { path: path.to_owned(), source }),
    }
}

/// Creates the folder of a file.
pub fn create_parent(path: &Path) -> Result<(), HubFailure> {
    let Some(parent) = path.parent() else { return Ok(()) };
    fs::create_dir_all(parent).map_err(|source| HubFailure::Cache { path: parent.to_owned(), source })
}

/// Writes a small file atomically. It only saves later runs some requests, so a failure is only logged.
fn write_record(path: &Path, text: &str) {
    let temporary = path.with_added_extension(std::process::id().to_string());
    let write = || {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(&temporary, text)?;
        fs::rename(&temporary, path)
    };
    if let Err(error) = write() {
        tracing::debug!("cannot write the record {} of the hub cache: {error}", path.display());
    }
}
