//! Substitutes for container images: files of this machine, or a root folder, and an entrypoint.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

/// An image without layers, read-only to its containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The root of its containers. If `None`, they see the system directories of this machine (`/usr`, `/etc/ssl`, …).
    pub root: Option<PathBuf>,
    /// Further files or directories of this machine, each with its path in the containers.
    pub files: Vec<(PathBuf, PathBuf)>,
    /// The command of a container that sets no `command`.
    pub entrypoint: Vec<String>,
}

impl Image {
    /// An image of one program, which is also its entrypoint.
    pub fn of_binary(host: impl Into<PathBuf>, container: impl Into<PathBuf>) -> Self {
        let container = container.into();
        Self { entrypoint: entrypoint(&container), files: vec![(host.into(), container)], root: None }
    }

    /// An image that was unpacked to a folder of this machine, and the program that it runs.
    pub fn of_root(root: impl Into<PathBuf>, program: impl AsRef<Path>) -> Self {
        Self { root: Some(root.into()), entrypoint: entrypoint(program.as_ref()), files: Vec::new() }
    }

    /// The image `sh`: the shell of this machine.
    pub(crate) fn shell() -> Self {
        Self { entrypoint: entrypoint(Path::new("/bin/sh")), ..Self::default() }
    }
}

fn entrypoint(program: &Path) -> Vec<String> {
    vec![program.to_string_lossy().into_owned()]
}

/// The images that can be "pulled", by reference.
#[derive(Debug, Default)]
pub(crate) struct Images(RwLock<HashMap<String, Image>>);

impl Images {
    pub(crate) fn insert(&self, name: &str, image: Image) {
        let mut images = self.0.write().unwrap_or_else(PoisonError::into_inner);
        images.insert(name.to_owned(), image);
    }

    /// The image of exactly this reference, else that of its repository, with any tag and digest.
    pub(crate) fn find(&self, reference: &str) -> Option<Image> {
        let images = self.0.read().unwrap_or_else(PoisonError::into_inner);
        images.get(reference).or_else(|| images.get(repository(reference))).cloned()
    }
}

/// `reference` without its tag and digest.
fn repository(reference: &str) -> &str {
    let name = reference.split_once('@').map_or(reference, |(name, _)| name);
    match name.rsplit_once(':') {
        // A colon before the last slash belongs to the port of the registry.
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_the_reference_without_tag_and_digest() {
        for (reference, expected) in [
            ("sh", "sh"),
            ("sh:latest", "sh"),
            ("example.test:5000/team/app", "example.test:5000/team/app"),
            ("example.test:5000/team/app:v1@sha256:00ff", "example.test:5000/team/app"),
            ("app@sha256:00ff", "app"),
        ] {
            assert_eq!(repository(reference), expected);
        }
    }

    #[test]
    fn an_exact_reference_wins_over_its_repository() {
        let images = Images::default();
        let [old, new] = ["/old", "/new"].map(|path| Image::of_binary(path, "/app"));
        images.insert("app", old.clone());
        images.insert("app:v2", new.clone());
        assert_eq!(images.find("app:v1"), Some(old));
        assert_eq!(images.find("app:v2"), Some(new));
        assert_eq!(images.find("other"), None);
    }
}
