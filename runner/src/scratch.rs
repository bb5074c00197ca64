//! What a shard keeps on the local disk while it is embedded, so that memory does not grow with its chunks: the chunks,
//! and the vectors of each pass, dense and sparse. The files have no name and are gone with the process.
//!
//! Vectors can be read while they are written: a reader waits for rows that are not there yet.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::fs::FileExt,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
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
struct Growing {
    file: Arc<File>,
    growth: Arc<Growth>,
}

impl Growing {
    fn new() -> Result<Self> {
        Ok(Self { file: Arc::new(create()?), growth: Arc::default() })
    }

    fn push(&mut self, bytes: &[u8], rows: u64) -> Result<()> {
        (&*self.file).write_all(bytes).map_err(written)?;
        self.growth.change(|grown| grown.rows += rows);
        Ok(())
    }

    fn so_far(&self) -> Readable {
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
struct Readable {
    file: Arc<File>,
    growth: Arc<Growth>,
}

impl Readable {
    fn rows(&self) -> RowReader {
        let reader = BufReader::with_capacity(1 << 18, At { file: Arc::clone(&self.file), offset: 0 });
        RowReader { reader, growth: Arc::clone(&self.growth), rows: 0, waited: Duration::ZERO }
    }
}

/// The bytes of rows, once they are there.
struct RowReader {
    reader: BufReader<At>,
    growth: Arc<Growth>,
    /// Rows that were asked for.
    rows: u64,
    waited: Duration,
}

impl RowReader {
    /// The bytes of the next `count` rows.
    fn next(&mut self, count: u64) -> Result<&mut BufReader<At>> {
        self.rows += count;
        self.waited += self.growth.wait_for(self.rows)?;
        Ok(&mut self.reader)
    }
}

/// Vectors of one width in their order.
pub struct VectorFile {
    file: Growing,
    dimensions: usize,
}

impl VectorFile {
    /// An empty file for vectors of that width.
    pub fn new(dimensions: usize) -> Result<Self> {
        Ok(Self { file: Growing::new()?, dimensions })
    }

    /// Adds vectors.
    pub fn push(&mut self, rows: &Rows) -> Result<()> {
        let mut bytes = Vec::with_capacity(size_of_val(rows.values()));
        bytes.extend(rows.values().iter().flat_map(|value| value.to_le_bytes()));
        self.file.push(&bytes, rows.len() as u64)
    }

    /// What is there and what will be. A reader of more than that fails once this file is dropped.
    pub fn vectors(&self) -> Vectors {
        Vectors { file: self.file.so_far(), dimensions: self.dimensions }
    }
}

/// Vectors that can be read from the beginning, as often as needed.
#[derive(Clone)]
pub struct Vectors {
    file: Readable,
    dimensions: usize,
}

impl Vectors {
    /// The width of a vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The vectors from the first on.
    pub fn reader(&self) -> VectorReader {
        VectorReader { rows: self.file.rows(), dimensions: self.dimensions }
    }
}

/// Vectors that are read in their order.
pub struct VectorReader {
    rows: RowReader,
    dimensions: usize,
}

impl VectorReader {
    /// The next `count` vectors, once they are there.
    pub fn read(&mut self, count: usize) -> Result<Rows> {
        let mut bytes = vec![0; count * self.dimensions * size_of::<f32>()];
        self.rows.next(count as u64)?.read_exact(&mut bytes).map_err(read)?;
        let values = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        Ok(Rows::new(self.dimensions, values))
    }

    /// How long it has waited for vectors.
    pub fn waited(&self) -> Duration {
        self.rows.waited
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

/// Bytes of sparse vectors that are written together.
const SPARSE_BUFFER: usize = 1 << 18;

/// Sparse vectors in their order.
pub struct SparseFile {
    file: Growing,
    buffer: Vec<u8>,
    /// Vectors in the buffer.
    buffered: u64,
}

impl SparseFile {
    /// An empty file.
    pub fn new() -> Result<Self> {
        Ok(Self { file: Growing::new()?, buffer: Vec::with_capacity(SPARSE_BUFFER), buffered: 0 })
    }

    /// Adds a vector.
    pub fn push(&mut self, source: SparseSource, vector: &SparseVector) -> Result<()> {
        self.buffer.push(source as u8);
        self.buffer.extend((vector.indices.len() as u32).to_le_bytes());
        self.buffer.extend(vector.indices.iter().flat_map(|index| index.to_le_bytes()));
        self.buffer.extend(vector.values.iter().flat_map(|value| value.to_le_bytes()));
        self.buffered += 1;
        if self.buffer.len() >= SPARSE_BUFFER { self.flush() } else { Ok(()) }
    }

    /// Makes all vectors readable that were added.
    pub fn flush(&mut self) -> Result<()> {
        self.file.push(&self.buffer, self.buffered)?;
        self.buffer.clear();
        self.buffered = 0;
        Ok(())
    }

    /// What is there and what will be. A reader of more than that fails once this file is dropped.
    pub fn vectors(&self) -> SparseVectors {
        SparseVectors { file: self.file.so_far() }
    }
}

/// Sparse vectors that can be read from the beginning, as often as needed.
#[derive(Clone)]
pub struct SparseVectors {
    file: Readable,
}

impl SparseVectors {
    /// The vectors from the first on.
    pub fn reader(&self) -> SparseReader {
        SparseReader(self.file.rows())
    }
}

/// Sparse vectors that are read in their order.
pub struct SparseReader(RowReader);

impl SparseReader {
    /// The next vector, once it is there.
    pub fn read(&mut self) -> Result<(SparseSource, SparseVector)> {
        read_sparse(self.0.next(1)?).map_err(read)
    }

    /// How long it has waited for vectors.
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
    fn a_reader_waits_for_vectors_until_no_more_can_come() -> Result<()> {
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
