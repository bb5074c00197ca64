//! Which files a collection is made of: sorted by path, hidden ones left out.

use std::{collections::BTreeSet, path::Path};

use crds::v1alpha1::Format;

use crate::{process::error::Result, store::Store};

/// The names that `Auto` knows, for messages.
pub const EXTENSIONS: &str = ".json, .jsonl, .ndjson, .md, .markdown or .txt";

/// The files of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The files to read, sorted by path.
    pub files: Vec<String>,
    /// The files that `Auto` has no format for.
    pub ignored: Vec<String>,
}

/// Lists every file below the root of `store`.
pub fn list(store: &Store, format: Format) -> Result<Listing> {
    let mut listing = Listing::default();
    let mut seen: BTreeSet<_> = store.canonical_path("").into_iter().collect();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let level = store.list(&folder)?;
        for file in level.files.into_iter().filter(|file| !is_hidden(file)) {
            match format_of(&file, format) {
                Some(_) => listing.files.push(file),
                None => listing.ignored.push(file),
            }
        }
        // A folder that a link leads back to is read once.
        let fresh = |folder: &String| store.canonical_path(folder).is_none_or(|identity| seen.insert(identity));
        folders.extend(level.folders.into_iter().filter(|folder| !is_hidden(folder)).filter(fresh));
    }
    listing.files.sort_unstable();
    listing.ignored.sort_unstable();
    Ok(listing)
}

/// Hidden files, the `..data` folders behind the links of a ConfigMap's mount, and what ext4 puts into the root of
/// every volume.
fn is_hidden(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.starts_with('.') || name == "lost+found"
}

/// How a file is read; none where its name says nothing to `Auto`.
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
