//! Uploads of large files, part by part.

use std::{
    io::{self, Write},
    sync::Arc,
};

use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload, path::Path};
use sha2::{Digest, Sha256};

use crate::process::runtime::runtime;

/// The size of the parts of a large file, in bytes.
const PART_BYTES: usize = 8 << 20;

/// The size and the digest of a written file, to check it later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenFile {
    /// The size in bytes.
    pub bytes: u64,
    /// The sha256 of the bytes, in hexadecimal.
    pub sha256: String,
}

/// A large file that is written part by part. Dropping an unfinished upload deletes its parts.
#[derive(Debug)]
pub struct Upload {
    store: Arc<dyn ObjectStore>,
    location: Path,
    part: Vec<u8>,
    parts: Option<Box<dyn MultipartUpload>>,
    hash: Sha256,
    bytes: u64,
}

impl Write for Upload {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.part.extend_from_slice(buffer);
        self.hash.update(buffer);
        self.bytes += buffer.len() as u64;
        if self.part.len() >= PART_BYTES {
            self.send_part()?;
        }
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // Parts are sent when they are full; stores reject smaller ones.
        Ok(())
    }
}

impl Upload {
    pub(super) fn new(store: Arc<dyn ObjectStore>, location: Path) -> Self {
        Self { store, location, part: Vec::new(), parts: None, hash: Sha256::new(), bytes: 0 }
    }

    /// Completes the file, which exists from now on.
    ///
    /// # Errors
    /// If the store fails.
    pub fn finish(mut self) -> io::Result<WrittenFile> {
        if self.parts.is_some() {
            self.send_part()?;
        }
        if let Some(parts) = &mut self.parts {
            runtime().block_on(parts.complete())?;
        } else {
            let payload = PutPayload::from(std::mem::take(&mut self.part));
            runtime().block_on(self.store.put(&self.location, payload))?;
        }
        self.parts = None;
        Ok(WrittenFile { bytes: self.bytes, sha256: hex::encode(self.hash.clone().finalize()) })
    }

    fn send_part(&mut self) -> io::Result<()> {
        let payload = PutPayload::from(std::mem::take(&mut self.part));
        let parts = match &mut self.parts {
            Some(parts) => parts,
            none => none.insert(runtime().block_on(self.store.put_multipart(&self.location))?),
        };
        Ok(runtime().block_on(parts.put_part(payload))?)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(mut parts) = self.parts.take() {
            // A store that failed may fail here too; leftovers are deleted when the shard is committed.
            let _ = runtime().block_on(parts.abort());
        }
    }
}
