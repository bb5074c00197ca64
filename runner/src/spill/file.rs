//! Unnamed temporary files: how one is created and read at any position, and its errors.

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

/// A reader with its own position, so that several readers share a file.
pub(super) struct FileReader {
    pub(super) file: Arc<File>,
    pub(super) offset: u64,
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// An empty file in the folder of temporary files.
pub(super) fn create() -> Result<File> {
    tempfile::tempfile().map_err(|error| {
        let folder = std::env::temp_dir();
        output_error(
            format!("cannot create a temporary file in {} (set TMPDIR to use another folder)", folder.display()),
            error,
        )
    })
}

/// The error of a failed write.
pub(super) fn write_error(error: io::Error) -> StageError {
    let folder = std::env::temp_dir();
    output_error(
        format!("cannot write a temporary file in {} (set TMPDIR to use another folder)", folder.display()),
        error,
    )
}

/// The error of a failed read.
pub(super) fn read_error(error: io::Error) -> StageError {
    StageError::new(FailureReason::Internal, "cannot read a temporary file").caused_by(error)
}
