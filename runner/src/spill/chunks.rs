//! The chunks of a shard on the local disk.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    sync::Arc,
};

use super::file::{FileReader, create, read_error, write_error};
use crate::{process::error::Result, source::Chunk};

/// A file that chunks are appended to.
pub struct ChunkFile {
    writer: BufWriter<File>,
    count: u64,
}

impl ChunkFile {
    /// An empty file.
    ///
    /// # Errors
    /// If the temporary file cannot be created.
    pub fn new() -> Result<Self> {
        Ok(Self { writer: BufWriter::new(create()?), count: 0 })
    }

    /// Appends a chunk.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn push(&mut self, chunk: &Chunk) -> Result<()> {
        let mut push = || -> io::Result<()> {
            for field in [&chunk.id, &chunk.text, &chunk.metadata] {
                self.writer.write_all(&(field.len() as u64).to_le_bytes())?;
                self.writer.write_all(field.as_bytes())?;
            }
            Ok(())
        };
        push().map_err(write_error)?;
        self.count += 1;
        Ok(())
    }

    /// The number of chunks.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Ends the file. The chunks can be read from now on.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn finish(self) -> Result<Chunks> {
        let file = self.writer.into_inner().map_err(|error| write_error(error.into_error()))?;
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
    /// The number of chunks.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The chunks in their order.
    pub fn iter(&self) -> impl Iterator<Item = Result<Chunk>> + Send + use<> {
        let mut reader = BufReader::with_capacity(1 << 18, FileReader { file: Arc::clone(&self.file), offset: 0 });
        (0..self.count).map(move |_| read_chunk(&mut reader).map_err(read_error))
    }

    /// The id of the chunk at the index `row`, for messages; `None` if the chunk does not exist or cannot be read.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_read_as_they_were_written_as_often_as_needed() -> Result<()> {
        let chunk = |n: usize| Chunk { id: format!("é{n}"), text: "x".repeat(n * 1000), metadata: "{}".into() };
        let mut file = ChunkFile::new()?;
        (0..300).try_for_each(|n| file.push(&chunk(n)))?;
        let chunks = file.finish()?;
        let (mut first, mut second) = (chunks.iter(), chunks.iter());
        for n in 0..300 {
            assert_eq!(first.next().transpose()?, Some(chunk(n)));
            assert_eq!(second.next().transpose()?, Some(chunk(n)));
        }
        assert!(first.next().is_none());
        assert_eq!((chunks.count(), chunks.id(7)), (300, Some("é7".into())));
        Ok(())
    }
}
