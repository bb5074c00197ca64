//! One unnamed temporary file: created, read at any position, and its errors.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    sync::Arc,
};

use crds::contract::FailureReason;

use crate::{
    process::error::{Result, StageError},
    store::output_error,
};

/// A reader with a position of its own.
pub(super) struct At {
    pub(super) file: Arc<File>,
    pub(super) offset: u64,
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

pub(super) fn create() -> Result<File> {
    tempfile::tempfile().map_err(|error| {
        let folder = std::env::temp_dir();
        output_error(
            format!("cannot make a temporary file in {} (TMPDIR names another folder)", folder.display()),
            error,
        )
    })
}

pub(super) fn written(error: io::Error) -> StageError {
    let folder = std::env::temp_dir();
    output_error(format!("cannot write a temporary file in {} (TMPDIR names another folder)", folder.display()), error)
}

pub(super) fn read(error: io::Error) -> StageError {
    StageError::new(FailureReason::Internal, "cannot read a temporary file back").caused_by(error)
}
