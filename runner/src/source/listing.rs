//! The files of a collection, sorted by path, without hidden files, and the entries that are left out of it.

use std::{collections::BTreeSet, fmt, fmt::Write as _, os::unix::ffi::OsStrExt, path::Path};

use crds::v1alpha1::Format;

use super::uri::Uris;
use crate::{
    process::{error::Result, interrupt::Interrupt, message::printable},
    store::{Entry, EntryKind, Fault, FileKind, FileState, Folder, FolderId, ListedFile, OpenError, open_error},
};

/// The extensions that `Auto` knows, for messages.
pub const EXTENSIONS: &str = ".json, .jsonl, .ndjson, .md, .markdown or .txt";

/// The files of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The files to read, sorted by path.
    pub files: Vec<ListedFile>,
    /// The files with extensions that `Auto` does not know.
    pub ignored: Vec<String>,
    /// What cannot be read, each with the reason.
    pub left_out: Vec<String>,
}

/// Why an entry of a source is left out.
enum LeftOut {
    OutsideLink,
    BrokenLink,
    Special(&'static str),
    NotUtf8,
    LongPath,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutsideLink => "a link out of the source",
            Self::BrokenLink => "a link to nothing",
            Self::Special(kind) => kind,
            Self::NotUtf8 => "its name is not UTF-8",
            Self::LongPath => "its path is too long",
        })
    }
}

/// Lists every file below `folder`. Links are followed inside of it only; a folder that several links lead to is read once,
/// by its own path if that is not hidden.
///
/// # Errors
/// If a folder cannot be listed, or the run is interrupted.
pub(super) fn list(folder: &Folder, format: Format, uris: &Uris, interrupt: &Interrupt) -> Result<Listing> {
    let mut walk =
        Walk { folder, format, uris, interrupt, listing: Listing::default(), seen: BTreeSet::new(), links: Vec::new() };
    walk.visit(String::new())?;
    // Links last, so that no folder is read by a link that has a path of its own.
    while let Some(link) = walk.links.pop() {
        walk.follow(link)?;
    }
    let Walk { mut listing, .. } = walk;
    listing.files.sort_unstable();
    listing.ignored.sort_unstable();
    listing.left_out.sort_unstable();
    Ok(listing)
}

struct Walk<'a> {
    folder: &'a Folder,
    format: Format,
    uris: &'a Uris,
    interrupt: &'a Interrupt,
    listing: Listing,
    seen: BTreeSet<FolderId>,
    /// Links that were not followed yet, the next one last.
    links: Vec<String>,
}

impl Walk<'_> {
    /// Lists a folder and those below it.
    fn visit(&mut self, folder: String) -> Result<()> {
        let mut folders = vec![folder];
        let mut links = Vec::new();
        while let Some(folder) = folders.pop() {
            self.interrupt.check()?;
            let (id, entries) = match self.folder.entries(&folder) {
                Ok(listed) => listed,
                // Deleted, or replaced by something else, since its parent was listed.
                Err(OpenError::Io(error))
                    if !folder.is_empty() && matches!(Fault::of(&error), Fault::NotFound | Fault::WrongKind) =>
                {
                    if error.kind() == std::io::ErrorKind::InvalidFilename {
                        self.leave_out(Path::new(&folder), &LeftOut::LongPath);
                    }
                    continue;
                }
                Err(error) => return Err(open_error(&self.uris.of(&folder), error)),
            };
            self.seen.insert(id);
            for Entry { name, kind } in entries {
                if is_hidden(&name) {
                    continue;
                }
                let Some(name) = name.to_str() else {
                    self.leave_out(&Path::new(&folder).join(&name), &LeftOut::NotUtf8);
                    continue;
                };
                let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
                match kind {
                    EntryKind::File(state) => self.add(path, state),
                    EntryKind::Folder => folders.push(path),
                    EntryKind::Link => links.push(path),
                    EntryKind::Special(kind) => self.leave_out(Path::new(&path), &LeftOut::Special(kind)),
                }
            }
        }
        // The next one is taken from the end.
        links.sort_unstable_by(|a, b| b.cmp(a));
        self.links.extend(links);
        Ok(())
    }

    /// Lists the target of a link.
    fn follow(&mut self, link: String) -> Result<()> {
        match self.folder.kind(&link) {
            Ok(FileKind::File(state)) => self.add(link, state),
            Ok(FileKind::Folder(id)) if self.seen.contains(&id) => {}
            Ok(FileKind::Folder(_)) => self.visit(link)?,
            Ok(FileKind::Special(kind)) | Err(OpenError::Special(kind)) => {
                self.leave_out(Path::new(&link), &LeftOut::Special(kind));
            }
            Err(OpenError::Outside) => self.leave_out(Path::new(&link), &LeftOut::OutsideLink),
            Err(OpenError::Io(error)) if matches!(Fault::of(&error), Fault::NotFound | Fault::WrongKind) => {
                self.leave_out(Path::new(&link), &LeftOut::BrokenLink);
            }
            Err(error) => return Err(open_error(&self.uris.of(&link), error)),
        }
        Ok(())
    }

    fn add(&mut self, path: String, state: FileState) {
        match format_of(&path, self.format) {
            Some(_) => self.listing.files.push(listed(path, state)),
            None => self.listing.ignored.push(path),
        }
    }

    fn leave_out(&mut self, path: &Path, reason: &LeftOut) {
        self.listing.left_out.push(format!("{} ({reason})", shown(path)));
    }
}

/// The entry of a file.
pub(super) fn listed(path: String, FileState { size, modified }: FileState) -> ListedFile {
    ListedFile { path, size, modified }
}

/// A path for messages: bytes that are not UTF-8 and control characters are escaped.
fn shown(path: &Path) -> String {
    let mut shown = String::new();
    for part in path.as_os_str().as_bytes().utf8_chunks() {
        shown.push_str(&printable(part.valid()));
        for byte in part.invalid() {
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

/// Whether a file or folder is hidden: names with a leading dot, among them the `..data` folders of a mounted ConfigMap, and
/// `lost+found`, which ext4 creates in the root of every volume.
fn is_hidden(name: &Path) -> bool {
    let name = name.as_os_str().as_bytes();
    name.starts_with(b".") || name == b"lost+found"
}

/// The format of a file; `None` if `Auto` does not know its extension.
pub fn format_of(file: &str, format: Format) -> Option<Format> {
    if format != Format::Auto {
        return Some(format);
    }
    let extension = Path::new(file).extension()?.to_str()?.to_ascii_lowercase();
    match extension.as_str() {
        "json" => Some(Format::ChunksJson),
        "jsonl" | "ndjson" => Some(Format::JsonLines),
        "md" | "markdown" => Some(Format::Markdown),
        "txt" => Some(Format::Text),
        _ => None,
    }
}
