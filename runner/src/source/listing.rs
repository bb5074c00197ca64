//! The files of a collection, sorted by path, without hidden files.

use std::{collections::BTreeSet, path::Path};

use crds::v1alpha1::Format;

use crate::{
    process::error::Result,
    store::{ListedFile, Store},
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
}

/// Lists every file below the root of `store`.
pub fn list(store: &Store, format: Format) -> Result<Listing> {
    let mut listing = Listing::default();
    let mut seen: BTreeSet<_> = store.canonical_path("").into_iter().collect();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let level = store.list(&folder)?;
        for file in level.files.into_iter().filter(|file| !is_hidden(&file.path)) {
            match format_of(&file.path, format) {
                Some(_) => listing.files.push(file),
                None => listing.ignored.push(file.path),
            }
        }
        // A folder that several links lead to is read once.
        let unseen = |folder: &String| store.canonical_path(folder).is_none_or(|path| seen.insert(path));
        folders.extend(level.folders.into_iter().filter(|folder| !is_hidden(folder)).filter(unseen));
    }
    listing.files.sort_unstable();
    listing.ignored.sort_unstable();
    Ok(listing)
}

/// Whether a file or folder is hidden: names with a leading dot, among them the `..data` folders of a mounted ConfigMap, and
/// `lost+found`, which ext4 creates in the root of every volume.
fn is_hidden(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.starts_with('.') || name == "lost+found"
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
