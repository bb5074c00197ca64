//! The Parquet file of a shard, written while its vectors are computed.

use std::{error::Error, io, sync::Arc, time::Instant};

use crds::contract::FailureReason;
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::properties::{EnabledStatistics, WriterProperties},
    schema::types::ColumnPath,
};

use super::arrow::{BatchError, Columns, LIST_ELEMENT};
use crate::{
    process::{
        error::{Result, StageError},
        interrupt::Interrupt,
    },
    source::Chunk,
    spill::Chunks,
    store::{Store, WrittenFile},
};

/// Rows of a row group; it bounds the memory in use.
const ROW_GROUP: usize = 4096;

/// The figures of a written file.
pub struct ExportedFile {
    /// Its size and digest.
    pub file: WrittenFile,
    /// The time of writing in seconds, without waiting for vectors.
    pub seconds: f64,
}

/// Writes the file of a shard to `path` while the vectors are computed; the file appears whole or not at all.
/// `first_ordinal` is the number of the first chunk in its collection.
///
/// # Errors
/// If the store fails, vectors are missing, or the run is interrupted.
pub fn write(
    store: &Store,
    path: &str,
    first_ordinal: u64,
    chunks: &Chunks,
    columns: &Columns,
    interrupt: &Interrupt,
) -> Result<ExportedFile> {
    let started = Instant::now();
    let upload = store.upload(path)?;
    let write = || -> Result<ExportedFile, WriteError> {
        let schema = columns.schema();
        let mut writer = ArrowWriter::try_new(upload, Arc::clone(&schema), Some(properties(columns)))?;
        let mut readers = columns.readers();
        let mut chunks = chunks.iter();
        let mut ordinal = first_ordinal;
        loop {
            interrupt.check()?;
            let group: Vec<Chunk> = chunks.by_ref().take(ROW_GROUP).collect::<Result<_>>()?;
            if group.is_empty() {
                let file = writer.into_inner()?.finish()?;
                let seconds = started.elapsed().saturating_sub(readers.waited()).as_secs_f64();
                return Ok(ExportedFile { file, seconds });
            }
            writer.write(&readers.batch(&schema, ordinal, &group)?)?;
            writer.flush()?;
            ordinal += group.len() as u64;
        }
    };
    write().map_err(|error| match error {
        WriteError::Stage(error) => error,
        WriteError::Parquet(ParquetError::External(cause)) if cause.is::<io::Error>() => {
            store.error("write", path, cause)
        }
        WriteError::Parquet(error) => encoding_error(store, path, error),
        WriteError::Io(error) => store.error("write", path, error),
    })
}

/// Why a file cannot be written.
enum WriteError {
    Stage(StageError),
    Parquet(ParquetError),
    Io(io::Error),
}

impl From<StageError> for WriteError {
    fn from(error: StageError) -> Self {
        Self::Stage(error)
    }
}

impl From<ParquetError> for WriteError {
    fn from(error: ParquetError) -> Self {
        Self::Parquet(error)
    }
}

impl From<BatchError> for WriteError {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::Stage(error) => Self::Stage(error),
            BatchError::Arrow(error) => Self::Parquet(error.into()),
        }
    }
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn encoding_error(store: &Store, path: &str, error: impl Error + Send + Sync + 'static) -> StageError {
    StageError::new(FailureReason::Internal, format!("cannot encode {}", store.uri_of(path))).caused_by(error)
}

/// Text is compressed; the numbers of a vector neither repeat nor compress, and have no useful minimum.
fn properties(columns: &Columns) -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_dictionary_enabled(false)
        .set_created_by(format!("embedrun {}", env!("CARGO_PKG_VERSION")));
    for column in &columns.dense {
        let path = ColumnPath::new(vec![column.name.clone(), "list".into(), LIST_ELEMENT.into()]);
        properties = properties
            .set_column_compression(path.clone(), Compression::UNCOMPRESSED)
            .set_column_statistics_enabled(path, EnabledStatistics::None);
    }
    properties.build()
}
