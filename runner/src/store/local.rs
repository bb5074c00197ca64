//! Folders of this machine as stores: claims, host paths and ConfigMaps that are mounted into the pod.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use crds::contract::Place;
use object_store::{ObjectStore, local::LocalFileSystem};

use super::{
    access::Access,
    durable::DurableFolder,
    error::{output_error, source_error},
};
use crate::process::error::{Cause, Result};

/// The name of the lock file of a folder; listings leave it out.
const LOCK_FILE: &str = ".lock";
/// The number of attempts to lock a folder, and the time between two: the lock is held for the writing of one small file.
const LOCK_ATTEMPTS: u32 = 1500;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Opens the folder of a place.
///
/// # Errors
/// If the folder cannot be read, or created for writing.
pub(super) fn open(place: &Place, access: Access) -> Result<Arc<dyn ObjectStore>> {
    let folder = Path::new(&place.path);
    if access == Access::Write {
        std::fs::create_dir_all(folder)
            .map_err(|error| output_error(format!("cannot create the folder {} ({})", place.uri, place.path), error))?;
    }
    let failed = |cause: Cause| source_error(format!("cannot open {} ({})", place.uri, place.path), cause);
    std::fs::read_dir(folder).map_err(|error| failed(error.into()))?;
    let files = LocalFileSystem::new_with_prefix(folder).map_err(|error| failed(error.into()))?;
    Ok(match access {
        Access::Read => Arc::new(files),
        Access::Write => Arc::new(DurableFolder::new(files)),
    })
}

/// Locks a folder for the processes that share it, until the lock is dropped; `None` if the folder does not exist yet or
/// its file system has no locks.
///
/// # Errors
/// If another process holds the lock for too long.
pub(super) fn lock_folder(place: &Place, folder: &str) -> io::Result<Option<File>> {
    let folder = Path::new(&place.path).join(folder);
    if place.path.is_empty() || !folder.is_dir() {
        return Ok(None);
    }
    let path = folder.join(LOCK_FILE);
    let file = match OpenOptions::new().create(true).truncate(false).write(true).open(&path) {
        Ok(file) => file,
        Err(error) => {
            tracing::debug!("cannot open the lock {}: {error}", path.display());
            return Ok(None);
        }
    };
    for _ in 0..LOCK_ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => {
                tracing::debug!("cannot lock {}: {error}", path.display());
                return Ok(None);
            }
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, format!("another process holds the lock {}", path.display())))
}

/// Deletes the staging files of uploads in a folder, which the client of the store does not list.
pub(super) fn delete_staging_files(place: &Place, folder: &str) {
    for entry in std::fs::read_dir(Path::new(&place.path).join(folder)).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().contains('#') {
            // A failure is harmless: the writer may have deleted it.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
