//! A temporary file of rows that is read while it is written: a reader waits for rows that are not written yet.

use std::{
    fs::File,
    io::{BufReader, Write},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crds::contract::FailureReason;

use super::file::{At, create, written};
use crate::process::error::{Result, StageError};

/// How many rows of a file there are, and whether more will come.
#[derive(Default)]
struct Growth {
    state: Mutex<Grown>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default)]
struct Grown {
    rows: u64,
    ended: bool,
}

impl Growth {
    fn change(&self, change: impl FnOnce(&mut Grown)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Waits until there are so many rows; the answer is how long that took.
    fn wait_for(&self, rows: u64) -> Result<Duration> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.rows >= rows {
            return Ok(Duration::ZERO);
        }
        let since = Instant::now();
        let waiting = |grown: &mut Grown| grown.rows < rows && !grown.ended;
        let state = self.changed.wait_while(state, waiting).unwrap_or_else(PoisonError::into_inner);
        if state.rows < rows {
            let message = format!("a temporary file ends after {} of {rows} rows", state.rows);
            return Err(StageError::new(FailureReason::Internal, message));
        }
        Ok(since.elapsed())
    }
}

/// A file that is written from its beginning to its end, and read meanwhile.
pub(super) struct Growing {
    file: Arc<File>,
    growth: Arc<Growth>,
}

impl Growing {
    pub(super) fn new() -> Result<Self> {
        Ok(Self { file: Arc::new(create()?), growth: Arc::default() })
    }

    pub(super) fn push(&mut self, bytes: &[u8], rows: u64) -> Result<()> {
        (&*self.file).write_all(bytes).map_err(written)?;
        self.growth.change(|grown| grown.rows += rows);
        Ok(())
    }

    pub(super) fn so_far(&self) -> Readable {
        Readable { file: Arc::clone(&self.file), growth: Arc::clone(&self.growth) }
    }
}

impl Drop for Growing {
    /// Whoever waits for more waits no longer.
    fn drop(&mut self) {
        self.growth.change(|grown| grown.ended = true);
    }
}

/// A file that can be read from the beginning, as often as needed, while it grows.
#[derive(Clone)]
pub(super) struct Readable {
    file: Arc<File>,
    growth: Arc<Growth>,
}

impl Readable {
    pub(super) fn rows(&self) -> RowReader {
        let reader = BufReader::with_capacity(1 << 18, At { file: Arc::clone(&self.file), offset: 0 });
        RowReader { reader, growth: Arc::clone(&self.growth), rows: 0, waited: Duration::ZERO }
    }
}

/// The bytes of rows, once they are there.
pub(super) struct RowReader {
    reader: BufReader<At>,
    growth: Arc<Growth>,
    /// Rows that were asked for.
    rows: u64,
    pub(super) waited: Duration,
}

impl RowReader {
    /// The bytes of the next `count` rows.
    pub(super) fn next(&mut self, count: u64) -> Result<&mut BufReader<At>> {
        self.rows += count;
        self.waited += self.growth.wait_for(self.rows)?;
        Ok(&mut self.reader)
    }
}
