//! The sparse vectors of a pass on the local disk.

use std::{
    io::{self, Read},
    time::Duration,
};

use super::{
    file::read_error,
    growing::{GrowingFile, ReadableFile, RowReader},
};
use crate::{process::error::Result, vectors::SparseVector};

/// The origin of a sparse vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SparseSource {
    /// The model computed it.
    Model,
    /// It was made from the terms of the chunk's metadata.
    Metadata,
}

/// Bytes of sparse vectors that are written together.
const BUFFER_BYTES: usize = 1 << 18;

/// A file that sparse vectors are appended to.
pub struct SparseFile {
    file: GrowingFile,
    buffer: Vec<u8>,
    /// Vectors in the buffer.
    buffered: u64,
}

impl SparseFile {
    /// An empty file.
    ///
    /// # Errors
    /// If the temporary file cannot be created.
    pub fn new() -> Result<Self> {
        Ok(Self { file: GrowingFile::new()?, buffer: Vec::with_capacity(BUFFER_BYTES), buffered: 0 })
    }

    /// Appends a vector. It is readable after the next [`SparseFile::flush`] at the latest.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn push(&mut self, source: SparseSource, vector: &SparseVector) -> Result<()> {
        self.buffer.push(source as u8);
        self.buffer.extend((vector.indices.len() as u32).to_le_bytes());
        self.buffer.extend(vector.indices.iter().flat_map(|index| index.to_le_bytes()));
        self.buffer.extend(vector.values.iter().flat_map(|value| value.to_le_bytes()));
        self.buffered += 1;
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// Makes all appended vectors readable.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn flush(&mut self) -> Result<()> {
        self.file.push(&self.buffer, self.buffered)?;
        self.buffer.clear();
        self.buffered = 0;
        Ok(())
    }

    /// The vectors for readers, while they are written. When this file is dropped, reading beyond its end fails.
    pub fn vectors(&self) -> SparseVectors {
        SparseVectors { file: self.file.readable() }
    }
}

/// Sparse vectors that can be read from the beginning, as often as needed.
#[derive(Clone)]
pub struct SparseVectors {
    file: ReadableFile,
}

impl SparseVectors {
    /// A reader at the first vector.
    pub fn reader(&self) -> SparseReader {
        SparseReader(self.file.rows())
    }
}

/// Reads sparse vectors in their order.
pub struct SparseReader(RowReader);

impl SparseReader {
    /// Reads the next vector; waits until it is written.
    ///
    /// # Errors
    /// If the file ends before, or the disk fails.
    pub fn read(&mut self) -> Result<(SparseSource, SparseVector)> {
        read_sparse(self.0.next(1)?).map_err(read_error)
    }

    /// The time that it has waited for vectors.
    pub fn waited(&self) -> Duration {
        self.0.waited
    }
}

fn read_sparse(reader: &mut impl Read) -> io::Result<(SparseSource, SparseVector)> {
    let mut head = [0; 5];
    reader.read_exact(&mut head)?;
    let source = if head[0] == SparseSource::Model as u8 { SparseSource::Model } else { SparseSource::Metadata };
    let count = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
    let mut bytes = vec![0; count * 8];
    reader.read_exact(&mut bytes)?;
    let (indices, values) = bytes.split_at(count * 4);
    let indices = indices.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
    let values = values.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    Ok((source, SparseVector { indices, values }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparse_vectors_are_read_in_their_order() -> Result<()> {
        let vectors = [
            (SparseSource::Model, SparseVector { indices: vec![3, 70_000], values: vec![0.5, 2.0] }),
            (SparseSource::Metadata, SparseVector::default()),
            (SparseSource::Model, SparseVector { indices: vec![0], values: vec![1.0] }),
        ];
        let mut file = SparseFile::new()?;
        vectors.iter().try_for_each(|(source, vector)| file.push(*source, vector))?;
        file.flush()?;
        let mut reader = file.vectors().reader();
        drop(file);
        for expected in vectors {
            assert_eq!(reader.read()?, expected);
        }
        assert!(reader.read().is_err());
        Ok(())
    }
}
