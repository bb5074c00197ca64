//! A temporary file of rows that is read while it grows: a reader waits for rows that are not written yet.

use std::{
    fs::File,
    io::{BufReader, Write},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crds::contract::FailureReason;

use super::file::{FileReader, create, write_error};
use crate::process::error::{Result, StageError};

/// The growth of a file, shared by its writer and its readers.
#[derive(Default)]
struct Growth {
    state: Mutex<GrowthState>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default)]
struct GrowthState {
    /// Rows that are written.
    rows: u64,
    /// Whether the writer is dropped, so that no more rows come.
    ended: bool,
}

impl Growth {
    fn change(&self, change: impl FnOnce(&mut GrowthState)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Waits until the file has `rows` rows. Returns the time waited.
    ///
    /// # Errors
    /// If the file ends before.
    fn wait_for(&self, rows: u64) -> Result<Duration> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.rows >= rows {
            return Ok(Duration::ZERO);
        }
        let start = Instant::now();
        let is_missing = |state: &mut GrowthState| state.rows < rows && !state.ended;
        let state = self.changed.wait_while(state, is_missing).unwrap_or_else(PoisonError::into_inner);
        if state.rows < rows {
            let message = format!("a temporary file ended after {} of {rows} rows", state.rows);
            return Err(StageError::new(FailureReason::Internal, message));
        }
        Ok(start.elapsed())
    }
}

/// The writer of a file that is read while it grows.
pub(super) struct GrowingFile {
    file: Arc<File>,
    growth: Arc<Growth>,
}

impl GrowingFile {
    /// An empty file.
    pub(super) fn new() -> Result<Self> {
        Ok(Self { file: Arc::new(create()?), growth: Arc::default() })
    }

    /// Appends the `bytes` of a number of rows.
    pub(super) fn push(&mut self, bytes: &[u8], rows: u64) -> Result<()> {
        (&*self.file).write_all(bytes).map_err(write_error)?;
        self.growth.change(|state| state.rows += rows);
        Ok(())
    }

    /// The file for readers.
    pub(super) fn readable(&self) -> ReadableFile {
        ReadableFile { file: Arc::clone(&self.file), growth: Arc::clone(&self.growth) }
    }
}

impl Drop for GrowingFile {
    /// Ends the file, so that readers stop waiting for more rows.
    fn drop(&mut self) {
        self.growth.change(|state| state.ended = true);
    }
}

/// A file that can be read from the beginning, as often as needed, while it grows.
#[derive(Clone)]
pub(super) struct ReadableFile {
    file: Arc<File>,
    growth: Arc<Growth>,
}

impl ReadableFile {
    /// A reader at the first row.
    pub(super) fn rows(&self) -> RowReader {
        let reader = BufReader::with_capacity(1 << 18, FileReader { file: Arc::clone(&self.file), offset: 0 });
        RowReader { reader, growth: Arc::clone(&self.growth), requested_rows: 0, waited: Duration::ZERO }
    }
}

/// Reads rows, and waits for those that are not written yet.
pub(super) struct RowReader {
    reader: BufReader<FileReader>,
    growth: Arc<Growth>,
    requested_rows: u64,
    /// The time that it has waited for rows.
    pub(super) waited: Duration,
}

impl RowReader {
    /// Waits for the next `count` rows. Returns the reader of their bytes.
    ///
    /// # Errors
    /// If the file ends before.
    pub(super) fn next(&mut self, count: u64) -> Result<&mut BufReader<FileReader>> {
        self.requested_rows += count;
        self.waited += self.growth.wait_for(self.requested_rows)?;
        Ok(&mut self.reader)
    }
}
