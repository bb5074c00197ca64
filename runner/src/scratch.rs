//! What a shard keeps on the local disk while it is embedded, so that memory does not grow with its chunks: the chunks,
//! and the vectors of each pass, dense and sparse. The files have no name and are gone with the process.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::fs::FileExt,
    sync::Arc,
};

use crds::contract::FailureReason;

use crate::{
    batch::Rows,
    error::{Result, StageError, output_error},
    model::SparseVector,
    source::Chunk,
};

/// Chunks in their order.
pub struct ChunkFile {
    writer: BufWriter<File>,
    count: u64,
}

impl ChunkFile {
    /// An empty file.
    pub fn new() -> Result<Self> {
        Ok(Self { writer: BufWriter::new(create()?), count: 0 })
    }

    /// Adds a chunk.
    pub fn push(&mut self, chunk: &Chunk) -> Result<()> {
        let mut push = || -> io::Result<()> {
            for field in [&chunk.id, &chunk.text, &chunk.metadata] {
                self.writer.write_all(&(field.len() as u64).to_le_bytes())?;
                self.writer.write_all(field.as_bytes())?;
            }
            Ok(())
        };
        push().map_err(written)?;
        self.count += 1;
        Ok(())
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// No more are added: they can be read, as often as needed.
    pub fn finish(self) -> Result<Chunks> {
        let file = self.writer.into_inner().map_err(|error| written(error.into_error()))?;
        Ok(Chunks { file: Arc::new(file), count: self.count })
    }
}

/// Chunks that can be read from the beginning, as often as needed.
#[derive(Clone)]
pub struct Chunks {
    file: Arc<File>,
    count: u64,
}

impl Chunks {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The chunks in their order.
    pub fn iter(&self) -> impl Iterator<Item = Result<Chunk>> + Send + use<> {
        let mut reader = BufReader::with_capacity(1 << 18, At { file: Arc::clone(&self.file), offset: 0 });
        (0..self.count).map(move |_| read_chunk(&mut reader).map_err(read))
    }

    /// The id of the chunk in that row, for a message.
    pub fn id(&self, row: usize) -> Option<String> {
        self.iter().nth(row)?.ok().map(|chunk| chunk.id)
    }
}

fn read_chunk(reader: &mut impl Read) -> io::Result<Chunk> {
    let mut field = || -> io::Result<String> {
        let mut length = [0; 8];
        reader.read_exact(&mut length)?;
        let mut bytes = vec![0; u64::from_le_bytes(length) as usize];
        reader.read_exact(&mut bytes)?;
        String::from_utf8(bytes).map_err(io::Error::other)
    };
    Ok(Chunk { id: field()?, text: field()?, metadata: field()? })
}

/// Vectors of one width in their order.
pub struct VectorFile {
    writer: BufWriter<File>,
    dimensions: usize,
}

impl VectorFile {
    /// An empty file for vectors of that width.
    pub fn new(dimensions: usize) -> Result<Self> {
        Ok(Self { writer: BufWriter::new(create()?), dimensions })
    }

    /// Adds vectors.
    pub fn push(&mut self, rows: &Rows) -> Result<()> {
        let mut bytes = Vec::with_capacity(size_of_val(rows.values()));
        bytes.extend(rows.values().iter().flat_map(|value| value.to_le_bytes()));
        self.writer.write_all(&bytes).map_err(written)
    }

    /// No more are added: they can be read, as often as needed.
    pub fn finish(self) -> Result<Vectors> {
        let file = self.writer.into_inner().map_err(|error| written(error.into_error()))?;
        Ok(Vectors { file: Arc::new(file), dimensions: self.dimensions })
    }
}

/// Vectors that can be read from the beginning, as often as needed.
#[derive(Clone)]
pub struct Vectors {
    file: Arc<File>,
    dimensions: usize,
}

impl Vectors {
    /// The width of a vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The vectors from the first on.
    pub fn reader(&self) -> VectorReader {
        let reader = BufReader::with_capacity(1 << 18, At { file: Arc::clone(&self.file), offset: 0 });
        VectorReader { reader, dimensions: self.dimensions }
    }
}

/// Vectors that are read in their order.
pub struct VectorReader {
    reader: BufReader<At>,
    dimensions: usize,
}

impl VectorReader {
    /// The next `count` vectors.
    pub fn read(&mut self, count: usize) -> Result<Rows> {
        let mut bytes = vec![0; count * self.dimensions * size_of::<f32>()];
        self.reader.read_exact(&mut bytes).map_err(read)?;
        let values = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        Ok(Rows::new(self.dimensions, values))
    }
}

/// Where a sparse vector comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SparseSource {
    /// The model.
    Model,
    /// The terms of the chunk's metadata.
    Metadata,
}

/// Sparse vectors in their order.
pub struct SparseFile {
    writer: BufWriter<File>,
}

impl SparseFile {
    /// An empty file.
    pub fn new() -> Result<Self> {
        Ok(Self { writer: BufWriter::new(create()?) })
    }

    /// Adds a vector.
    pub fn push(&mut self, source: SparseSource, vector: &SparseVector) -> Result<()> {
        let mut bytes = Vec::with_capacity(5 + vector.indices.len() * 8);
        bytes.push(source as u8);
        bytes.extend((vector.indices.len() as u32).to_le_bytes());
        bytes.extend(vector.indices.iter().flat_map(|index| index.to_le_bytes()));
        bytes.extend(vector.values.iter().flat_map(|value| value.to_le_bytes()));
        self.writer.write_all(&bytes).map_err(written)
    }

    /// No more are added: they can be read, as often as needed.
    pub fn finish(self) -> Result<SparseVectors> {
        let file = self.writer.into_inner().map_err(|error| written(error.into_error()))?;
        Ok(SparseVectors { file: Arc::new(file) })
    }
}

/// Sparse vectors that can be read from the beginning, as often as needed.
#[derive(Clone)]
pub struct SparseVectors {
    file: Arc<File>,
}

impl SparseVectors {
    /// The vectors from the first on.
    pub fn reader(&self) -> SparseReader {
        SparseReader(BufReader::with_capacity(1 << 18, At { file: Arc::clone(&self.file), offset: 0 }))
    }
}

/// Sparse vectors that are read in their order.
pub struct SparseReader(BufReader<At>);

impl SparseReader {
    /// The next vector.
    pub fn read(&mut self) -> Result<(SparseSource, SparseVector)> {
        read_sparse(&mut self.0).map_err(read)
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

/// A reader with a position of its own.
struct At {
    file: Arc<File>,
    offset: u64,
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

fn create() -> Result<File> {
    tempfile::tempfile().map_err(|error| {
        let folder = std::env::temp_dir();
        output_error(
            format!("cannot make a temporary file in {} (TMPDIR names another folder)", folder.display()),
            error,
        )
    })
}

fn written(error: io::Error) -> StageError {
    let folder = std::env::temp_dir();
    output_error(format!("cannot write a temporary file in {} (TMPDIR names another folder)", folder.display()), error)
}

fn read(error: io::Error) -> StageError {
    StageError::new(FailureReason::Internal, "cannot read a temporary file back").caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_read_as_they_were_written_as_often_as_needed() -> Result<()> {
        let chunk = |n: usize| Chunk { id: format!("é{n}"), text: "x".repeat(n * 1000), metadata: "{}".into() };
        let mut file = ChunkFile::new()?;
        (0..300).try_for_each(|n| file.push(&chunk(n)))?;
        let chunks = file.finish()?;
        let (mut one, mut other) = (chunks.iter(), chunks.iter());
        for n in 0..300 {
            assert_eq!(one.next().transpose()?, Some(chunk(n)));
            assert_eq!(other.next().transpose()?, Some(chunk(n)));
        }
        assert!(one.next().is_none());
        assert_eq!((chunks.count(), chunks.id(7)), (300, Some("é7".into())));
        Ok(())
    }

    #[test]
    fn vectors_are_read_in_their_order() -> Result<()> {
        let rows = |from: usize, count: usize| Rows::new(3, (from * 3..(from + count) * 3).map(|n| n as f32).collect());
        let mut file = VectorFile::new(3)?;
        file.push(&rows(0, 5))?;
        file.push(&rows(5, 2))?;
        let vectors = file.finish()?;
        for _ in 0..2 {
            let mut reader = vectors.reader();
            assert_eq!((reader.read(4)?, reader.read(3)?, vectors.dimensions()), (rows(0, 4), rows(4, 3), 3));
            assert!(reader.read(1).is_err());
        }
        Ok(())
    }

    #[test]
    fn sparse_vectors_are_read_in_their_order() -> Result<()> {
        let vectors = [
            (SparseSource::Model, SparseVector { indices: vec![3, 70_000], values: vec![0.5, 2.0] }),
            (SparseSource::Metadata, SparseVector::default()),
            (SparseSource::Model, SparseVector { indices: vec![0], values: vec![1.0] }),
        ];
        let mut file = SparseFile::new()?;
        vectors.iter().try_for_each(|(source, vector)| file.push(*source, vector))?;
        let file = file.finish()?;
        let mut reader = file.reader();
        for expected in vectors {
            assert_eq!(reader.read()?, expected);
        }
        assert!(reader.read().is_err());
        Ok(())
    }
}
