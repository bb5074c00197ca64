//! Opens stores. Only this file decides which kind of store a [`Place`] is.

use crds::contract::Place;

use super::{access::Access, client::Store, local};
use crate::process::error::Result;

/// Opens the store at a place.
///
/// # Errors
/// If it does not exist, or cannot be created for writing.
pub fn open(place: &Place, access: Access) -> Result<Store> {
    Ok(Store { inner: local::open(place, access)?, access, place: place.clone() })
}

/// A store over a client, for tests of clients that fail.
#[cfg(test)]
pub fn over(inner: std::sync::Arc<dyn object_store::ObjectStore>) -> Store {
    let place = Place { path: "/faulty".into(), uri: "test://faulty".into() };
    Store { inner, access: Access::Write, place }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{
        super::client::{ListedFile, PutNew},
        *,
    };

    fn store(access: Access) -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().expect("a folder");
        let place = Place { path: folder.path().to_string_lossy().into(), uri: "pvc://vectors/x".into() };
        let store = open(&place, access).expect("a store");
        (folder, store)
    }

    #[test]
    fn put_new_does_not_replace_a_file() {
        let (_folder, store) = store(Access::Write);
        assert_eq!(store.put_new("a/b.json", b"1".to_vec()).expect("put"), PutNew::Written);
        assert_eq!(store.put_new("a/b.json", b"2".to_vec()).expect("put"), PutNew::Existed);
        assert_eq!(store.get("a/b.json").expect("get"), Some(b"1".to_vec()));
        assert_eq!(store.get("a/c.json").expect("get"), None);
    }

    #[test]
    fn an_upload_is_visible_only_when_it_is_finished() {
        let (folder, store) = store(Access::Write);
        let mut upload = store.upload("s/one").expect("an upload");
        upload.write_all(&vec![7; 11 << 20]).expect("written");
        assert_eq!(store.get("s/one").expect("get"), None);
        drop(upload);
        let mut upload = store.upload("s/two").expect("an upload");
        upload.write_all(b"two").expect("written");
        let written = upload.finish().expect("finished");
        assert_eq!((written.bytes, store.get("s/two").expect("get")), (3, Some(b"two".to_vec())));
        std::fs::write(folder.path().join("s/three.parquet#1"), "killed").expect("a file");
        store.keep_only("s", |path| path == "s/two").expect("leftovers deleted");
        let left: Vec<_> = std::fs::read_dir(folder.path().join("s")).expect("a folder").flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn listed_names_are_those_of_the_files_even_with_special_characters() {
        let (folder, store) = store(Access::Read);
        for name in ["a b.txt", "100%.txt", "ü.txt", "a%20b.txt", "q?#x.txt"] {
            std::fs::write(folder.path().join(name), name).expect(name);
        }
        let listing = store.list("").expect("a listing");
        for ListedFile { path: name, size, modified } in &listing.files {
            assert_eq!(store.get(name).expect(name).as_deref(), Some(name.as_bytes()));
            assert_eq!(*size, name.len() as u64);
            assert!(modified.is_some_and(|modified| modified.as_second() > 0));
        }
        assert_eq!(listing.files.len(), 5, "{listing:?}");
    }
}
