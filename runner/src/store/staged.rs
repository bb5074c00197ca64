//! Files that appear whole and last: written beside their place, synced, then moved or linked into it.
//!
//! A file system that lacks a step gets the next best one:
//!
//! | step | where it is missing | in its place |
//! |---|---|---|
//! | hard link, to write at most once | SMB, FUSE, exFAT | `O_EXCL`: the file may be torn if its writer dies |
//! | rename | some mounted buckets | a copy: the file may be torn if its writer dies |
//! | sync of a folder, or of a file | SMB, FUSE, 9P | nothing |

use std::{
    fs::{self, File, Metadata, OpenOptions},
    hash::{BuildHasher, RandomState},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::io::Errno;

/// A file that is being written beside its place.
#[derive(Debug)]
pub(super) struct Staged {
    file: File,
    staging: PathBuf,
    target: PathBuf,
}

impl Staged {
    /// Creates the file beside `target`, and the folders above it.
    ///
    /// # Errors
    /// If the file system fails.
    pub(super) fn create(target: PathBuf) -> io::Result<Self> {
        let staging = staging_path(&target);
        let open = || OpenOptions::new().write(true).create_new(true).open(&staging);
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_folders_of(&target)?;
                open()?
            }
            file => file?,
        };
        Ok(Self { file, staging, target })
    }

    /// The file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// The path of the file.
    pub(super) fn staging(&self) -> &Path {
        &self.staging
    }

    /// Appends bytes. Deletes the file if that fails.
    ///
    /// # Errors
    /// If the file system fails.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).inspect_err(|_| remove(&self.staging))
    }

    /// Moves the file to its place, over a file that is there.
    ///
    /// # Errors
    /// If the file system fails. The file may be in its place all the same: only the sync of the folder may have failed.
    pub(super) fn publish(self) -> io::Result<()> {
        let Self { file, staging, target } = self;
        let moved = sync_and_close(file).and_then(|written| match rename(&staging, &target) {
            // NFS sends the request again, and hears that the file has gone from where it was.
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_at(&written, &target) => {
                sync_folder_of(&target)
            }
            moved => moved,
        });
        moved.inspect_err(|_| remove(&staging))
    }

    /// Moves the file to its place, unless a file is there. Returns whether it moved.
    ///
    /// # Errors
    /// If the file system fails. The file may be in its place all the same.
    pub(super) fn publish_new(self) -> io::Result<bool> {
        let Self { file, staging, target } = self;
        let published = sync_and_close(file).and_then(|_| match fs::hard_link(&staging, &target) {
            Err(error) if has_no_links(&error) => {
                copy(&staging, &target, OpenOptions::new().write(true).create_new(true))
            }
            linked => linked,
        });
        remove(&staging);
        match published {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            published => published.and_then(|()| sync_folder_of(&target)).map(|()| true),
        }
    }
}

/// Moves a file, over one that is there.
///
/// # Errors
/// If the file system fails. The file may have moved all the same.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if is_missing(&error) => {
            copy(from, to, OpenOptions::new().write(true).create(true).truncate(true))?;
            fs::remove_file(from)?;
        }
        renamed => renamed?,
    }
    sync_folder_of(to)
}

/// Syncs a file and closes it before it moves: some mounted buckets store a file when it is closed. Returns what the
/// file was.
fn sync_and_close(file: File) -> io::Result<Metadata> {
    sync_file(&file)?;
    file.metadata()
}

/// Whether a file is the one at `path`.
fn is_at(file: &Metadata, path: &Path) -> bool {
    let place = |metadata: &Metadata| (metadata.dev(), metadata.ino(), metadata.len());
    fs::metadata(path).is_ok_and(|found| place(&found) == place(file))
}

/// Copies a file to `to`, which `options` open, and deletes the copy if that fails in the middle.
fn copy(from: &Path, to: &Path, options: &OpenOptions) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mut target = options.open(to)?;
    io::copy(&mut source, &mut target).and_then(|_| sync_file(&target)).inspect_err(|_| remove(to))
}

/// `<target>#<number>`: a name that listings leave out.
fn staging_path(target: &Path) -> PathBuf {
    // The standard library seeds its hash maps with randomness of the operating system.
    let number = RandomState::new().hash_one(std::process::id());
    let mut path = target.as_os_str().to_owned();
    path.push(format!("#{number}"));
    path.into()
}

fn create_folders_of(target: &Path) -> io::Result<()> {
    let Some(folder) = target.parent() else { return Ok(()) };
    let new: Vec<&Path> = folder.ancestors().take_while(|folder| !folder.exists()).collect();
    fs::create_dir_all(folder)?;
    new.into_iter().try_for_each(sync_folder_of)
}

/// A failure is harmless: nothing reads the file.
fn remove(path: &Path) {
    let _ = fs::remove_file(path);
}

/// Whether the file system lacks an operation.
fn is_missing(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOSYS | Errno::OPNOTSUPP | Errno::XDEV | Errno::MLINK))
}

/// Whether the file system lacks hard links, which Linux reports as a lack of permission. Without the permission to
/// write, the operation in its place fails too.
fn has_no_links(error: &io::Error) -> bool {
    is_missing(error) || Errno::from_io_error(error) == Some(Errno::PERM)
}

fn sync_file(file: &File) -> io::Result<()> {
    file.sync_all().or_else(|error| match Errno::from_io_error(&error) {
        Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(()),
        _ => Err(error),
    })
}

/// Syncs the folder of a file, where that is supported and permitted.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    File::open(folder).and_then(|folder| folder.sync_all()).or_else(|error| match Errno::from_io_error(&error) {
        Some(
            Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::BADF | Errno::ISDIR | Errno::ACCESS | Errno::PERM,
        ) => Ok(()),
        _ => Err(error),
    })
}
