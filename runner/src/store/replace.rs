//! Replacing a file that other processes may replace too: the new bytes are written only over the bytes that the writer
//! has seen.
//!
//! Buckets have writes with a precondition. A folder has none, so that a lock file, which the operating system ties to
//! the process, makes reading and writing one step. A file system without locks (some network file systems) has neither;
//! there the time between the two is a moment.

use object_store::{ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion};

use super::{
    client::{PutNew, Store},
    local,
};
use crate::process::{error::Result, runtime::runtime};

/// The result of a write that replaces only what the writer has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// The file has the new bytes.
    Written,
    /// The file had other bytes than expected, and was not changed.
    Changed,
}

impl Store {
    /// Writes a file if it still has the `expected` bytes; `None` means that it does not exist. Of concurrent writers
    /// that expect the same bytes exactly one succeeds.
    ///
    /// # Errors
    /// If the store fails.
    pub fn replace(&self, path: &str, expected: Option<&[u8]>, bytes: Vec<u8>) -> Result<Replaced> {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let _lock = local::lock_folder(&self.place, folder).map_err(|error| self.error("lock", folder, error))?;
        let Some(expected) = expected else {
            return Ok(match self.put_new(path, bytes)? {
                PutNew::Written => Replaced::Written,
                PutNew::Existed => Replaced::Changed,
            });
        };
        let location = self.location(path)?;
        let failed = |action, error| self.error(action, path, error);
        let read = runtime().block_on(async {
            let found = self.inner.get(&location).await?;
            let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
            Ok((found.bytes().await?, version))
        });
        let version = match read {
            Ok((found, version)) if found == expected => version,
            Ok(_) | Err(object_store::Error::NotFound { .. }) => return Ok(Replaced::Changed),
            Err(error) => return Err(failed("read", error)),
        };
        let options = PutOptions::from(PutMode::Update(version));
        let payload = PutPayload::from(bytes);
        match runtime().block_on(self.inner.put_opts(&location, payload.clone(), options)) {
            Ok(_) => Ok(Replaced::Written),
            Err(object_store::Error::Precondition { .. } | object_store::Error::NotFound { .. }) => {
                Ok(Replaced::Changed)
            }
            // A folder, which is locked.
            Err(object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. }) => {
                runtime().block_on(self.inner.put(&location, payload)).map_err(|error| failed("write", error))?;
                Ok(Replaced::Written)
            }
            Err(error) => Err(failed("write", error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use crds::contract::Place;
    use object_store::memory::InMemory;

    use super::{
        super::{access::Access, open::open},
        *,
    };

    const WRITERS: usize = 4;
    const WRITES: usize = 25;

    /// Every writer counts up in the same file; a lost update would be missing in the sum.
    fn count_up(store: &Store) {
        thread::scope(|scope| {
            for _ in 0..WRITERS {
                scope.spawn(|| {
                    let mut written = 0;
                    while written < WRITES {
                        let seen = store.get("current/docs").expect("read");
                        let next = seen.as_deref().map_or(0, number) + 1;
                        let replaced = store.replace("current/docs", seen.as_deref(), next.to_string().into_bytes());
                        written += usize::from(replaced.expect("written") == Replaced::Written);
                    }
                });
            }
        });
        assert_eq!(number(&store.get("current/docs").expect("read").expect("a file")), WRITERS * WRITES);
    }

    fn number(bytes: &[u8]) -> usize {
        String::from_utf8_lossy(bytes).parse().expect("a number")
    }

    fn place(path: &str) -> Place {
        Place { path: path.into(), uri: "pvc://vectors/x".into() }
    }

    #[test]
    fn concurrent_writers_of_a_folder_lose_no_update() {
        let folder = tempfile::tempdir().expect("a folder");
        count_up(&open(&place(&folder.path().to_string_lossy()), Access::Write).expect("a store"));
    }

    #[test]
    fn concurrent_writers_of_a_bucket_lose_no_update() {
        count_up(&Store { inner: Arc::new(InMemory::new()), access: Access::Write, place: place("") });
    }

    #[test]
    fn other_bytes_than_expected_are_not_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(&place(&folder.path().to_string_lossy()), Access::Write).expect("a store");
        let replace = |expected: Option<&[u8]>| store.replace("current/docs", expected, b"new".to_vec()).expect("done");
        assert_eq!(replace(Some(b"old")), Replaced::Changed, "there is none");
        store.put("current/docs", b"old".to_vec()).expect("written");
        assert_eq!((replace(None), replace(Some(b"older"))), (Replaced::Changed, Replaced::Changed));
        assert_eq!(store.get("current/docs").expect("read"), Some(b"old".to_vec()));
        assert_eq!(replace(Some(b"old")), Replaced::Written);
        assert_eq!(store.get("current/docs").expect("read"), Some(b"new".to_vec()));
    }
}
