//! Reads a file of a source in slices: lines are counted, records are bounded, and an interrupt ends the reading.

use std::{
    cell::Cell,
    error::Error as StdError,
    io::{self, BufRead, Read},
};

use crate::process::interrupt::Interrupt;

/// Bytes that are read at a time.
const SLICE_BYTES: usize = 1 << 18;
const BOM: [u8; 3] = [0xef, 0xbb, 0xbf];

/// A reader of a file, without its byte order mark.
pub(super) struct SliceReader<'a, R> {
    inner: R,
    interrupt: &'a Interrupt,
    progress: &'a Progress,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

/// How far a file was read, and how much of it may be read before the next record. The reader and its user share it.
#[derive(Debug)]
pub(super) struct Progress {
    line: Cell<u64>,
    limit: u64,
    left: Cell<u64>,
}

impl Progress {
    /// The beginning of a file whose records have at most `limit` bytes.
    pub(super) fn new(limit: u64) -> Self {
        Self { line: Cell::new(1), limit, left: Cell::new(limit) }
    }

    /// The line of the next byte, from 1.
    pub(super) fn line(&self) -> u64 {
        self.line.get()
    }

    /// Begins the next record.
    pub(super) fn next_record(&self) {
        self.left.set(self.limit);
    }

    fn take(&self, bytes: &[u8]) -> io::Result<()> {
        let fits = bytes.len().min(usize::try_from(self.left.get()).unwrap_or(usize::MAX));
        self.left.set(self.left.get() - fits as u64);
        self.line.set(self.line.get() + (bytes[..fits].split(|byte| *byte == b'\n').count() - 1) as u64);
        if fits < bytes.len() { Err(io::Error::other(TooLarge)) } else { Ok(()) }
    }
}

/// A record is larger than the limit.
#[derive(Debug, thiserror::Error)]
#[error("too large")]
pub(super) struct TooLarge;

/// Whether an error says that a record is too large.
pub(super) fn is_too_large(error: &io::Error) -> bool {
    error.get_ref().is_some_and(<dyn StdError + Send + Sync>::is::<TooLarge>)
}

impl<'a, R: Read> SliceReader<'a, R> {
    /// A reader that counts its lines in `progress`.
    pub(super) fn new(inner: R, interrupt: &'a Interrupt, progress: &'a Progress) -> io::Result<Self> {
        let mut reader = Self { inner, interrupt, progress, buffer: vec![0; SLICE_BYTES].into(), start: 0, end: 0 };
        while reader.end < BOM.len() && reader.fill(reader.end)? > 0 {}
        if reader.buffer[..reader.end].starts_with(&BOM) {
            reader.start = BOM.len();
        }
        Ok(reader)
    }

    /// Reads a slice into the buffer behind `at`. Returns the number of bytes; 0 at the end of the file.
    fn fill(&mut self, at: usize) -> io::Result<usize> {
        self.interrupt.check().map_err(io::Error::other)?;
        loop {
            match self.inner.read(&mut self.buffer[at..]) {
                Ok(count) => {
                    self.end = at + count;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Appends a line with its end to `line`; 0 bytes at the end of the file.
    pub(super) fn read_line(&mut self, line: &mut Vec<u8>) -> io::Result<usize> {
        let (before, progress) = (line.len(), self.progress);
        loop {
            let available = self.fill_buf()?;
            let (count, ended) = match available.iter().position(|byte| *byte == b'\n') {
                Some(end) => (end + 1, true),
                None => (available.len(), available.is_empty()),
            };
            progress.take(&available[..count])?;
            line.extend_from_slice(&available[..count]);
            self.consume(count);
            if ended {
                return Ok(line.len() - before);
            }
        }
    }
}

impl<R: Read> BufRead for SliceReader<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            self.fill(0)?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
    }
}

impl<R: Read> Read for SliceReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let progress = self.progress;
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        progress.take(&available[..count])?;
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that come one at a time.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(1).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    #[test]
    fn a_byte_order_mark_is_skipped_at_the_beginning_only() {
        for text in ["\u{feff}a\u{feff}b", "", "a", "ab", "\u{feff}"] {
            let (interrupt, progress) = (Interrupt::default(), Progress::new(u64::MAX));
            let mut read = String::new();
            let mut reader = SliceReader::new(Drip(text.as_bytes()), &interrupt, &progress).expect("a reader");
            reader.read_to_string(&mut read).expect("read");
            assert_eq!(read, text.strip_prefix('\u{feff}').unwrap_or(text));
        }
    }

    #[test]
    fn a_record_of_the_limit_is_read_and_a_larger_one_is_not() {
        let (interrupt, progress) = (Interrupt::default(), Progress::new(4));
        let mut reader = SliceReader::new(&b"abc\nabc\nabcde"[..], &interrupt, &progress).expect("a reader");
        for line in 1..3 {
            assert_eq!(progress.line(), line);
            progress.next_record();
            assert_eq!(reader.read_line(&mut Vec::new()).expect("a line"), 4);
        }
        progress.next_record();
        assert!(is_too_large(&reader.read_line(&mut Vec::new()).expect_err("too large")));
        assert_eq!(progress.line(), 3);
    }
}
