//! A model folder on a volume: its author may be another than the user of the process, so its links must not leave the
//! volume. Links within it are fine: the cache of a hub links to its blobs.

use std::path::Path;

use crds::contract::{FailureReason, Place};

use crate::{
    process::{
        error::{Result, StageError},
        message::printable,
    },
    store::{EntryKind, Fault, Folder, OpenError},
};

/// The deepest folder of a model with files that are read.
const DEPTH: usize = 3;

/// Checks the files of a model on a claim.
///
/// # Errors
/// If one is a link out of the volume or a special file, or the folder cannot be listed.
pub(super) fn check_links(model: &str, source: &Place) -> Result<()> {
    if !source.uri.starts_with("pvc://") {
        return Ok(());
    }
    let (root, below) = source.volume();
    let failed = |path: &str, error: OpenError| {
        let path = printable(path);
        match error {
            OpenError::Outside | OpenError::Special(_) => {
                let message = format!(
                    "model {model}: {path} on the volume of {} is not read ({error}); put a copy of the file in its place",
                    source.uri
                );
                StageError::new(FailureReason::InvalidModel, message)
            }
            OpenError::Io(error) => {
                let message = format!("model {model}: {path} on the volume of {} cannot be read", source.uri);
                StageError::new(Fault::of(&error).of_model(), message).caused_by(error)
            }
        }
    };
    // The loader names what is missing.
    let is_missing = |error: &OpenError| matches!(error, OpenError::Io(error) if matches!(Fault::of(error), Fault::NotFound | Fault::WrongKind));
    let volume = match Folder::open(Path::new(root)) {
        Ok(volume) => volume,
        Err(error) => {
            let error = error.into();
            return if is_missing(&error) { Ok(()) } else { Err(failed("", error)) };
        }
    };
    let mut folders = vec![(below.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let entries = match volume.entries(&folder) {
            Ok((_, entries)) => entries,
            Err(error) if is_missing(&error) => continue,
            Err(error) => return Err(failed(&folder, error)),
        };
        for entry in entries {
            // No file of a model has such a name.
            let Some(name) = entry.name.to_str().filter(|name| !name.starts_with('.')) else { continue };
            let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            match entry.kind {
                EntryKind::Folder if depth < DEPTH => folders.push((path, depth + 1)),
                EntryKind::File(_) | EntryKind::Folder => {}
                EntryKind::Special(kind) => return Err(failed(&path, OpenError::Special(kind))),
                EntryKind::Link => match volume.kind(&path) {
                    Err(error) if !is_missing(&error) => return Err(failed(&path, error)),
                    _ => {}
                },
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn a_link_out_of_the_volume_is_rejected_and_one_inside_it_is_not() {
        let world = tempfile::tempdir().expect("a folder");
        let at = |name: &str| world.path().join(name);
        fs::create_dir_all(at("volume/snapshots/1/1_Pooling")).expect("a folder");
        fs::create_dir_all(at("volume/blobs")).expect("a folder");
        fs::write(at("volume/blobs/b"), "{}").expect("a file");
        symlink("../../blobs/b", at("volume/snapshots/1/config.json")).expect("a link");
        symlink("../../blobs/gone", at("volume/snapshots/1/model.safetensors")).expect("a link");
        let place =
            |uri: &str| Place { path: at("volume/snapshots/1").to_string_lossy().into_owned(), uri: uri.to_owned() };
        let pvc = place("pvc://models/snapshots/1");
        check_links("m", &pvc).expect("links inside");
        let link = at("volume/snapshots/1/1_Pooling/config.json");
        for target in ["/proc/self/environ", "../../../../secret.json"] {
            symlink(target, &link).expect("a link");
            let error = check_links("m", &pvc).expect_err("a link out");
            assert_eq!(error.reason, FailureReason::InvalidModel);
            let sentence = error.sentence();
            assert!(
                sentence.contains("snapshots/1/1_Pooling/config.json") && sentence.contains("leads out"),
                "{sentence}"
            );
            // A folder that the user names is not a volume of somebody else.
            check_links("m", &place("file:///snapshots/1")).expect("not checked");
            fs::remove_file(&link).expect("removed");
        }
        let gone = Place { path: at("volume/gone").to_string_lossy().into_owned(), uri: "pvc://models/gone".into() };
        check_links("m", &gone).expect("the loader names it");
        fs::remove_dir_all(at("volume/snapshots")).expect("removed");
        symlink("/", at("volume/snapshots")).expect("a link");
        assert!(check_links("m", &pvc).is_err());
    }
}
