//! The files of a model folder with their digests: what was read of a model, pinned for a revision.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The files that were read of a model folder: the sha256 of each in hexadecimal, by its path from the folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ModelFiles(BTreeMap<String, String>);

impl ModelFiles {
    /// Adds a file.
    pub fn insert(&mut self, path: &str, sha256: String) {
        self.0.insert(path.to_owned(), sha256);
    }

    /// Whether there is no file.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The digest of all files: the sha256, in hexadecimal, of a line per file in the order of the paths, `<sha256>  <path>`,
    /// as `sha256sum` prints them.
    pub fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        for (path, sha256) in &self.0 {
            hasher.update(format!("{sha256}  {path}\n"));
        }
        hex::encode(hasher.finalize())
    }

    /// The first file, in the order of the paths, that is not the same in `found`: with another digest, or missing on one
    /// side. Files that only `found` has count unless `self` is a `part` of the folder.
    pub fn first_difference<'a>(&'a self, found: &'a Self, part: bool) -> Option<&'a str> {
        let changed = self.0.iter().find(|(path, sha256)| found.0.get(*path) != Some(*sha256));
        let added = found.0.keys().find(|path| !part && !self.0.contains_key(*path));
        let paths = [changed.map(|(path, _)| path), added];
        paths.into_iter().flatten().min().map(String::as_str)
    }

    /// The paths and digests.
    pub fn into_map(self) -> BTreeMap<String, String> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> ModelFiles {
        ModelFiles(list.iter().map(|(path, sha256)| ((*path).to_owned(), (*sha256).to_owned())).collect())
    }

    #[test]
    fn the_digest_is_that_of_the_list_of_sha256sum() {
        let list = "aa  1_Pooling/config.json\nbb  config.json\n";
        let found = files(&[("config.json", "bb"), ("1_Pooling/config.json", "aa")]).digest();
        assert_eq!(found, hex::encode(Sha256::digest(list)));
    }

    #[test]
    fn the_first_file_that_differs_is_named() {
        let pinned = files(&[("a", "1"), ("b", "2")]);
        assert_eq!(pinned.first_difference(&pinned, false), None);
        assert_eq!(pinned.first_difference(&files(&[("a", "1"), ("b", "3")]), false), Some("b"));
        assert_eq!(pinned.first_difference(&files(&[("b", "2")]), false), Some("a"));
        let more = files(&[("a", "1"), ("b", "2"), ("model.safetensors", "4")]);
        assert_eq!(pinned.first_difference(&more, false), Some("model.safetensors"));
        assert_eq!(pinned.first_difference(&more, true), None);
    }
}
