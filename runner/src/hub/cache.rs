//! The cache of a repository, laid out as the hub's own libraries lay it out, so that all share it:
//! `blobs/<etag>` holds the content, `snapshots/<commit>/<path>` links to it, `refs/<revision>` names a commit.
//!
//! Beside them `.embedrun/<commit>.json` records the files that a model needs and their sizes, once all are there:
//! other programs leave snapshots with only the files that they have used.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::error::HubFailure;

/// How often a file that another process fetches is looked at.
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
    /// The cache of `repo` in the folder of all of them.
    pub fn new(cache: &Path, repo: &str) -> Self {
        let name = format!("models--{}", repo.replace('/', "--"));
        Self { folder: cache.join(&name), locks: cache.join(".locks").join(name) }
    }

    /// The folder of a commit.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// The content that the hub stores under an ETag.
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// The commit that a revision named when it was last fetched.
    pub fn referred(&self, revision: &str) -> Option<String> {
        let text = fs::read_to_string(self.folder.join("refs").join(revision)).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Notes which commit a revision names. A cache that is only read has its use without the note.
    pub fn refer(&self, revision: &str, commit: &str) {
        if !is_commit(revision) && self.referred(revision).as_deref() != Some(commit) {
            note(&self.folder.join("refs").join(revision), commit);
        }
    }

    /// Whether every file that the model needs was fetched, and is there.
    pub fn is_complete(&self, commit: &str) -> bool {
        let Ok(text) = fs::read(self.record_file(commit)) else { return false };
        let Ok(files) = serde_json::from_slice::<BTreeMap<String, u64>>(&text) else { return false };
        let snapshot = self.snapshot(commit);
        files.iter().all(|(path, size)| fs::metadata(snapshot.join(path)).is_ok_and(|file| file.len() == *size))
    }

    /// Notes the files of a model and their sizes in bytes.
    pub fn record(&self, commit: &str, files: &BTreeMap<String, u64>) {
        note(&self.record_file(commit), &serde_json::to_string(files).expect("a map of numbers"));
    }

    /// Whether the snapshot of a commit, which any program may have filled, holds safetensors.
    pub fn has_weights(&self, commit: &str) -> bool {
        let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let is_weights =
            |path: &Path| path.extension().is_some_and(|extension| extension == "safetensors") && path.is_file();
        entries(&self.snapshot(commit)).any(|path| is_weights(&path) || entries(&path).any(|path| is_weights(&path)))
    }

    /// Makes a blob the content of a path of a commit.
    pub fn link(&self, commit: &str, path: &str, etag: &str) -> Result<(), HubFailure> {
        let link = self.snapshot(commit).join(path);
        // From the folder of the link, which may lie deeper, up to the repository.
        let up = "../".repeat(2 + path.matches('/').count());
        let target = PathBuf::from(format!("{up}blobs/{etag}"));
        if fs::read_link(&link).is_ok_and(|found| found == target) {
            return Ok(());
        }
        make_parent(&link)?;
        let failed = |source| HubFailure::Cache { path: link.clone(), source };
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        match std::os::unix::fs::symlink(&target, &link) {
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made.map_err(failed),
        }
    }

    /// Waits until no other process writes the blob. The lock lasts as long as the file is open.
    pub async fn lock(&self, etag: &str) -> Result<File, HubFailure> {
        let path = self.locks.join(format!("{etag}.lock"));
        make_parent(&path)?;
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
        self.folder.join(".embedrun").join(format!("{commit}.json"))
    }
}

/// Makes the folder that a file goes into.
pub fn make_parent(path: &Path) -> Result<(), HubFailure> {
    let Some(parent) = path.parent() else { return Ok(()) };
    fs::create_dir_all(parent).map_err(|source| HubFailure::Cache { path: parent.to_owned(), source })
}

/// Writes a small file that the next run is faster with, at once or not at all.
fn note(path: &Path, text: &str) {
    let unfinished = path.with_added_extension(std::process::id().to_string());
    let write = || {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(&unfinished, text)?;
        fs::rename(&unfinished, path)
    };
    if let Err(error) = write() {
        tracing::debug!("the cache of the hub is not noted in {}: {error}", path.display());
    }
}
