//! A folder of this machine that is read, and nothing outside of it: links are followed below its root only, and only
//! regular files are opened.
//!
//! Whoever writes into a volume must not make the runner read something else: `notes.txt → /proc/self/environ` would
//! put the environment of the process into the vectors' text, and a FIFO or a device would be read for ever. The kernel
//! resolves the path (`openat2` with `RESOLVE_BENEATH`), so that a folder that is replaced by a link at that very moment
//! leads nowhere either.

use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io::{self, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    },
    path::{Component, Path, PathBuf},
};

use jiff::Timestamp;
use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, open, openat, openat2, statat},
    io::Errno,
};

use super::fault::Fault;

/// `NONBLOCK`: a FIFO that took the place of a file is opened without a writer, and refused.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
const FOLDER: OFlags = READ.union(OFlags::DIRECTORY);
const LOOK: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Attempts at a path while another process renames a part of it.
const ATTEMPTS: usize = 64;

/// Why a path of a folder is not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A link leads out of the folder.
    #[error("a link leads outside")]
    Outside,
    /// The file is not a regular one.
    #[error("{0}, not a regular file")]
    Special(&'static str),
    /// The operating system cannot open it.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Errno> for OpenError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// The kind of a file; of a link, the kind of the file that it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File(FileState),
    /// A folder.
    Folder(FolderId),
    /// A FIFO, a socket or a device, in words.
    Special(&'static str),
}

/// Tells folders apart, by whatever path they are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FolderId {
    device: u64,
    inode: u64,
}

/// The state of a regular file when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileState {
    /// Its size in bytes.
    pub size: u64,
    /// When it was last modified; `None` if that is no time.
    pub modified: Option<Timestamp>,
}

impl FileState {
    fn of(stat: &Stat) -> Self {
        let modified = Timestamp::new(stat.st_mtime, stat.st_mtime_nsec as i32).ok();
        Self { size: stat.st_size as u64, modified }
    }
}

/// An entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: PathBuf,
    /// Its kind.
    pub kind: EntryKind,
}

/// The kind of an entry; links are not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File(FileState),
    /// A folder.
    Folder,
    /// A link.
    Link,
    /// A FIFO, a socket or a device, in words.
    Special(&'static str),
}

/// An open folder.
#[derive(Debug)]
pub struct Folder {
    root: OwnedFd,
    /// The path of the root without links.
    path: PathBuf,
    /// Whether the kernel resolves paths; kernels before 5.6 and some sandboxes do not.
    by_kernel: bool,
}

impl Folder {
    /// Opens the folder at `path`. Links on the way to it are followed.
    ///
    /// # Errors
    /// If it does not exist, is not a folder, or cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let root = open(path, FOLDER, Mode::empty())?;
        Ok(Self { root, path: path.canonicalize()?, by_kernel: true })
    }

    /// Opens a regular file below the folder; `path` is relative.
    ///
    /// # Errors
    /// If it is outside of the folder, is not a regular file, or cannot be opened.
    pub fn file(&self, path: impl AsRef<Path>) -> Result<File, OpenError> {
        let opened = match self.open_below(path.as_ref(), READ) {
            // A socket, or a device without a driver.
            Err(OpenError::Io(error)) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {
                return Err(OpenError::Special("a socket or a device"));
            }
            opened => opened?,
        };
        regular(opened)
    }

    /// The folder below this one; `path` is relative, the empty path is this folder.
    ///
    /// # Errors
    /// If it is outside of the folder, is not a folder, or cannot be opened.
    pub fn below(&self, path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let root = self.open_below(path, FOLDER)?;
        Ok(Self { root, path: self.path.join(path).canonicalize()?, by_kernel: self.by_kernel })
    }

    /// The kind of the file at `path`, which is relative; links are followed.
    ///
    /// # Errors
    /// If it is outside of the folder, or does not exist.
    pub fn kind(&self, path: impl AsRef<Path>) -> Result<FileKind, OpenError> {
        let opened = self.open_below(path.as_ref(), LOOK)?;
        Ok(kind_of(&fstat(opened)?))
    }

    /// The entries of the folder at `path`, which is relative, in the order of their names, and the id of the folder.
    ///
    /// # Errors
    /// If it is outside of the folder, is not a folder, or cannot be read.
    pub fn entries(&self, path: impl AsRef<Path>) -> Result<(FolderId, Vec<Entry>), OpenError> {
        let folder = self.open_below(path.as_ref(), FOLDER)?;
        let id = id_of(&fstat(&folder)?);
        let mut entries = Vec::new();
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if [&b"."[..], b".."].contains(&name.to_bytes()) {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown | FileType::RegularFile => match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => entry_kind(&stat),
                    Err(Errno::NOENT) => continue,
                    Err(errno) => return Err(errno.into()),
                },
                known => kind_of_type(known),
            };
            let name = PathBuf::from(OsStr::from_bytes(name.to_bytes()));
            entries.push(Entry { name, kind });
        }
        entries.sort_unstable_by(|a, b| a.name.as_os_str().cmp(b.name.as_os_str()));
        Ok((id, entries))
    }

    /// Opens a path below the root.
    fn open_below(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, OpenError> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let mut leads_out = false;
        if self.by_kernel {
            match resolved_by_kernel(&self.root, path, flags) {
                // An absolute link may lead back into the folder.
                Err(Errno::XDEV) => leads_out = true,
                // Kernels before 5.6 do not have the call, and some sandboxes forbid it.
                Err(Errno::NOSYS | Errno::PERM) => {}
                opened => return Ok(opened?),
            }
        }
        let target = match self.path.join(path).canonicalize() {
            Ok(target) => target,
            // Whether a file outside exists is nobody's business.
            Err(error) if leads_out && Fault::of(&error).is_final() => return Err(OpenError::Outside),
            Err(error) => return Err(error.into()),
        };
        let inside = target.strip_prefix(&self.path).map_err(|_| OpenError::Outside)?;
        without_links(&self.root, inside, flags)
    }
}

/// Opens a path below `root`; the kernel follows its links, unless they lead out of it.
fn resolved_by_kernel(root: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 1..ATTEMPTS {
        match openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            opened => return opened,
        }
    }
    openat2(root, path, flags, Mode::empty(), resolve)
}

/// Opens a path without links below `root`, part by part, so that a part that becomes a link meanwhile is refused.
fn without_links(root: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd, OpenError> {
    let mut parts: Vec<&OsStr> = path
        .components()
        .filter_map(|part| if let Component::Normal(name) = part { Some(name) } else { None })
        .collect();
    let last = parts.pop().unwrap_or(OsStr::new("."));
    let outside = |errno: Errno| if errno == Errno::LOOP { OpenError::Outside } else { errno.into() };
    let mut folder = openat(root, ".", FOLDER, Mode::empty())?;
    for part in parts {
        folder = openat(&folder, part, FOLDER | OFlags::NOFOLLOW, Mode::empty()).map_err(outside)?;
    }
    openat(&folder, last, flags | OFlags::NOFOLLOW, Mode::empty()).map_err(outside)
}

/// Opens a regular file at `path`, wherever its links lead: for the files of a model, whose links the caller has checked.
///
/// # Errors
/// If it does not exist, is not a regular file, or cannot be opened.
pub fn open_regular(path: &Path) -> io::Result<File> {
    // Through the C library, which the tests of failing file systems replace.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    regular(opened.into()).map_err(|error| match error {
        OpenError::Io(error) => error,
        special => io::Error::new(io::ErrorKind::InvalidData, special),
    })
}

/// The bytes of a regular file at `path`, at most `limit`.
///
/// # Errors
/// Same as [`open_regular`]; or if it is larger or cannot be read.
pub fn read_regular(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let message = format!("it is larger than {} MiB", limit >> 20);
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(bytes)
}

fn regular(file: OwnedFd) -> Result<File, OpenError> {
    match kind_of(&fstat(file.as_fd())?) {
        FileKind::File(_) => Ok(File::from(file)),
        FileKind::Folder(_) => Err(Errno::ISDIR.into()),
        FileKind::Special(kind) => Err(OpenError::Special(kind)),
    }
}

fn kind_of(stat: &Stat) -> FileKind {
    match entry_kind(stat) {
        EntryKind::File(state) => FileKind::File(state),
        EntryKind::Folder => FileKind::Folder(id_of(stat)),
        EntryKind::Link => FileKind::Special("a link"),
        EntryKind::Special(kind) => FileKind::Special(kind),
    }
}

fn id_of(stat: &Stat) -> FolderId {
    FolderId { device: stat.st_dev, inode: stat.st_ino }
}

fn entry_kind(stat: &Stat) -> EntryKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => EntryKind::File(FileState::of(stat)),
        other => kind_of_type(other),
    }
}

/// The kind of a file that is not a regular one.
fn kind_of_type(file_type: FileType) -> EntryKind {
    match file_type {
        FileType::Directory => EntryKind::Folder,
        FileType::Symlink => EntryKind::Link,
        FileType::Fifo => EntryKind::Special("a FIFO"),
        FileType::Socket => EntryKind::Special("a socket"),
        FileType::CharacterDevice | FileType::BlockDevice => EntryKind::Special("a device"),
        FileType::RegularFile | FileType::Unknown => EntryKind::Special("a file of unknown kind"),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    /// A folder `root` with files and links, beside a `secret`; opened as the kernel resolves paths, and without it.
    fn world() -> (tempfile::TempDir, [Folder; 2]) {
        let world = tempfile::tempdir().expect("a folder");
        let at = |name: &str| world.path().join(name);
        fs::create_dir_all(at("root/sub")).expect("a folder");
        fs::write(at("secret"), "secret").expect("a file");
        fs::write(at("root/plain"), "plain").expect("a file");
        fs::write(at("root/sub/deep"), "deep").expect("a file");
        for (target, link) in [
            ("plain", "inside"),
            ("sub", "folder"),
            ("../plain", "sub/up"),
            ("../secret", "outside"),
            ("..", "parent"),
            ("/proc/self/environ", "environ"),
            ("/proc/self/root/etc/hostname", "magic"),
            ("loop", "loop"),
            ("nowhere", "broken"),
        ] {
            symlink(target, at("root").join(link)).expect(link);
        }
        symlink(at("root/plain"), at("root/absolute")).expect("a link");
        symlink(at("secret"), at("root/absolute-outside")).expect("a link");
        let open = |by_kernel| Folder { by_kernel, ..Folder::open(&at("root")).expect("a folder") };
        let folders = [open(true), open(false)];
        (world, folders)
    }

    #[test]
    fn links_are_followed_below_the_root_only() {
        let (_world, folders) = world();
        for folder in folders {
            let read = |path: &str| {
                let mut text = String::new();
                folder.file(path)?.read_to_string(&mut text)?;
                Ok::<_, OpenError>(text)
            };
            for (path, text) in [
                ("plain", "plain"),
                ("inside", "plain"),
                ("folder/deep", "deep"),
                ("sub/up", "plain"),
                ("absolute", "plain"),
                ("sub/../plain", "plain"),
            ] {
                assert_eq!(read(path).expect(path), text, "{path}, {}", folder.by_kernel);
            }
            for path in [
                "outside",
                "parent/secret",
                "../secret",
                "environ",
                "magic",
                "absolute-outside",
                "/etc/hostname",
                "folder/../../secret",
            ] {
                assert!(matches!(read(path), Err(OpenError::Outside)), "{path}, {}", folder.by_kernel);
            }
            for path in ["loop", "broken", "missing", "plain/x"] {
                assert!(matches!(read(path), Err(OpenError::Io(_))), "{path}, {}", folder.by_kernel);
            }
            assert!(folder.below("sub").expect("a folder").file("deep").is_ok());
            assert!(matches!(folder.below("sub").expect("a folder").file("up"), Err(OpenError::Outside)));
            assert!(matches!(folder.below("parent"), Err(OpenError::Outside)));
        }
    }

    #[test]
    fn only_regular_files_are_opened() {
        let (world, folders) = world();
        let at = |name: &str| world.path().join("root").join(name);
        rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), FileType::Fifo, Mode::RUSR, 0).expect("a FIFO");
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).expect("a socket");
        for folder in folders {
            for path in ["fifo", "socket"] {
                assert!(matches!(folder.file(path), Err(OpenError::Special(_))), "{path}");
            }
            assert!(matches!(folder.file("sub"), Err(OpenError::Io(_))));
            assert_eq!(folder.kind("fifo").expect("a kind"), FileKind::Special("a FIFO"));
            let FileKind::File(state) = folder.kind("inside").expect("a kind") else { panic!("not a file") };
            assert_eq!((state.size, state.modified.is_some()), (5, true));
            assert_eq!(folder.kind("sub").expect("a kind"), folder.kind("folder").expect("a kind"));
            let (_, entries) = folder.entries("").expect("entries");
            let kind = |name: &str| entries.iter().find(|entry| entry.name == Path::new(name)).map(|entry| entry.kind);
            assert_eq!(kind("plain"), Some(EntryKind::File(state)));
            assert_eq!(kind("broken"), Some(EntryKind::Link));
            assert_eq!(kind("socket"), Some(EntryKind::Special("a socket")));
        }
        for path in [Path::new("/dev/zero"), &at("fifo")] {
            let error = open_regular(path).expect_err("not regular");
            assert_eq!(Fault::of(&error), Fault::Invalid);
        }
        assert_eq!(read_regular(&at("inside"), 5).expect("read"), b"plain");
        assert_eq!(Fault::of(&read_regular(&at("inside"), 4).expect_err("larger")), Fault::Invalid);
    }

    #[test]
    fn a_folder_that_becomes_a_link_meanwhile_is_refused() {
        let (world, [_, folder]) = world();
        let inside = Path::new("sub/deep");
        without_links(&folder.root, inside, READ).expect("opened");
        fs::rename(world.path().join("root/sub"), world.path().join("moved")).expect("moved");
        symlink("../moved", world.path().join("root/sub")).expect("a link");
        assert!(without_links(&folder.root, inside, READ).is_err());
    }
}
