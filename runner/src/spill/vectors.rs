//! The dense vectors of a pass on the local disk.

use std::{io::Read, time::Duration};

use super::{
    file::read_error,
    growing::{GrowingFile, ReadableFile, RowReader},
};
use crate::{process::error::Result, vectors::Rows};

/// A file that vectors of one width are appended to.
pub struct VectorFile {
    file: GrowingFile,
    dimensions: usize,
}

impl VectorFile {
    /// An empty file for vectors with this number of dimensions.
    ///
    /// # Errors
    /// If the temporary file cannot be created.
    pub fn new(dimensions: usize) -> Result<Self> {
        Ok(Self { file: GrowingFile::new()?, dimensions })
    }

    /// Appends vectors; they are readable at once.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn push(&mut self, rows: &Rows) -> Result<()> {
        let mut bytes = Vec::with_capacity(size_of_val(rows.values()));
        bytes.extend(rows.values().iter().flat_map(|value| value.to_le_bytes()));
        self.file.push(&bytes, rows.len() as u64)
    }

    /// The vectors for readers, while they are written. When this file is dropped, reading beyond its end fails.
    pub fn vectors(&self) -> Vectors {
        Vectors { file: self.file.readable(), dimensions: self.dimensions }
    }
}

/// Vectors that can be read from the beginning, as often as needed.
#[derive(Clone)]
pub struct Vectors {
    file: ReadableFile,
    dimensions: usize,
}

impl Vectors {
    /// The number of dimensions of a vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// A reader at the first vector.
    pub fn reader(&self) -> VectorReader {
        VectorReader { rows: self.file.rows(), dimensions: self.dimensions }
    }
}

/// Reads vectors in their order.
pub struct VectorReader {
    rows: RowReader,
    dimensions: usize,
}

impl VectorReader {
    /// Reads the next `count` vectors; waits until they are written.
    ///
    /// # Errors
    /// If the file ends before, or the disk fails.
    pub fn read(&mut self, count: usize) -> Result<Rows> {
        let mut bytes = vec![0; count * self.dimensions * size_of::<f32>()];
        self.rows.next(count as u64)?.read_exact(&mut bytes).map_err(read_error)?;
        let values = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        Ok(Rows::new(self.dimensions, values))
    }

    /// The time that it has waited for vectors.
    pub fn waited(&self) -> Duration {
        self.rows.waited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_read_in_their_order() -> Result<()> {
        let rows = |from: usize, count: usize| Rows::new(3, (from * 3..(from + count) * 3).map(|n| n as f32).collect());
        let mut file = VectorFile::new(3)?;
        file.push(&rows(0, 5))?;
        file.push(&rows(5, 2))?;
        let vectors = file.vectors();
        drop(file);
        for _ in 0..2 {
            let mut reader = vectors.reader();
            assert_eq!((reader.read(4)?, reader.read(3)?, vectors.dimensions()), (rows(0, 4), rows(4, 3), 3));
            assert!(reader.read(1).is_err());
        }
        Ok(())
    }

    #[test]
    fn a_reader_waits_for_vectors_until_the_file_ends() -> Result<()> {
        let row = |n: u64| Rows::new(1, vec![n as f32]);
        let mut file = VectorFile::new(1)?;
        let mut reader = file.vectors().reader();
        std::thread::scope(|scope| {
            let reading = scope.spawn(move || (0..100).map(|_| reader.read(1)).collect::<Vec<_>>());
            (0..99).try_for_each(|n| {
                std::thread::yield_now();
                file.push(&row(n))
            })?;
            drop(file);
            let read = reading.join().expect("no panic");
            for (n, rows) in read[..99].iter().enumerate() {
                assert_eq!(rows.as_ref().ok(), Some(&row(n as u64)));
            }
            let error = read[99].as_ref().expect_err("there are no more");
            assert!(error.sentence().contains("after 99 of 100 rows"), "{}", error.sentence());
            Ok(())
        })
    }
}
