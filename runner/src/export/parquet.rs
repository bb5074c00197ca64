//! The Parquet file of a shard, written while its vectors are computed.

use std::{error::Error, io, sync::Arc, time::Instant};

use crds::{
    contract::FailureReason,
    fingerprint::{self, Fingerprint},
    identity::Revision,
    v1alpha1::Precision,
};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::{
        metadata::KeyValue,
        properties::{EnabledStatistics, WriterProperties},
    },
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

/// The shard that a file is of, as its footer names it.
#[derive(Clone, Copy, Debug)]
pub struct ShardName<'a> {
    /// The revision.
    pub revision: &'a Revision,
    /// The collection.
    pub collection: &'a str,
    /// The index of the shard in the plan.
    pub shard: u32,
    /// The sha256 of the content of its chunks, as the plan has it.
    pub content_sha256: &'a str,
}

/// Writes the file of a shard to `path` while the vectors are computed; the file appears whole or not at all, and names
/// in its footer what made it. `first_ordinal` is the number of the first chunk in its collection.
///
/// # Errors
/// If the store fails, vectors are missing, or the run is interrupted.
pub fn write(
    store: &Store,
    path: &str,
    name: ShardName<'_>,
    first_ordinal: u64,
    chunks: &Chunks,
    columns: &Columns,
    interrupt: &Interrupt,
) -> Result<ExportedFile> {
    let started = Instant::now();
    let upload = store.upload(path)?;
    let write = || -> Result<ExportedFile, WriteError> {
        let schema = columns.schema();
        let mut writer = ArrowWriter::try_new(upload, Arc::clone(&schema), Some(properties(name, columns)))?;
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
fn properties(name: ShardName<'_>, columns: &Columns) -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_dictionary_enabled(false)
        .set_created_by(format!("embedrun {}", env!("CARGO_PKG_VERSION")))
        .set_key_value_metadata(Some(vec![footer(name, columns)]));
    for column in &columns.dense {
        let path = match column.precision {
            Precision::F32 | Precision::F16 => vec![column.name.clone(), "list".into(), LIST_ELEMENT.into()],
            Precision::Int8 | Precision::Binary => vec![column.name.clone()],
        };
        let path = ColumnPath::new(path);
        properties = properties
            .set_column_compression(path.clone(), Compression::UNCOMPRESSED)
            .set_column_statistics_enabled(path, EnabledStatistics::None);
    }
    properties.build()
}

/// The entry of the footer that says what made the file.
fn footer(name: ShardName<'_>, columns: &Columns) -> KeyValue {
    let fingerprint = Fingerprint {
        version: fingerprint::VERSION,
        revision: name.revision.clone(),
        collection: name.collection.to_owned(),
        shard: name.shard,
        content_sha256: name.content_sha256.to_owned(),
        columns: columns.fingerprints(),
    };
    let json = serde_json::to_string(&fingerprint).expect("a fingerprint has string keys and finite numbers");
    KeyValue::new(fingerprint::KEY.to_owned(), json)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crds::{
        contract::Place,
        fingerprint::{ColumnFingerprint, FusedFingerprint},
        v1alpha1::{FusionMethod, Similarity},
    };
    use parquet::file::{
        metadata::RowGroupMetaData,
        reader::{FileReader, SerializedFileReader},
    };

    use super::*;
    use crate::{
        spill::{ChunkFile, VectorColumn, VectorFile},
        store::{self, Access},
        vectors::Rows,
    };

    const ROWS: usize = 1000;
    const DIMENSIONS: usize = 384;

    /// The bytes that a row takes in every column of a file with one vector column `v`.
    fn bytes_per_row(precision: Precision) -> Vec<(String, f64)> {
        let mut chunks = ChunkFile::new().expect("a file");
        for number in 0..ROWS {
            let chunk = Chunk { id: number.to_string(), text: "text".into(), metadata: "{}".into() };
            chunks.push(&chunk).expect("written");
        }
        let mut state = 1u32;
        let mut value = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        let mut vectors = VectorFile::new(DIMENSIONS).expect("a file");
        vectors.push(&Rows::new(DIMENSIONS, (0..ROWS * DIMENSIONS).map(|_| value()).collect())).expect("written");
        let made_by = FusedFingerprint {
            column: "v".into(),
            method: FusionMethod::WeightedConcat,
            models: Vec::new(),
            dimensions: DIMENSIONS as u32,
            precision,
            similarity: Similarity::Cosine,
        };
        let fingerprint = ColumnFingerprint::Fused(made_by);
        let column = VectorColumn { name: "v".into(), vectors: vectors.vectors(), precision, fingerprint };
        let folder = tempfile::tempdir().expect("a folder");
        let place = Place { path: folder.path().to_string_lossy().into(), uri: "file:///out".into() };
        let store = store::open(&place, Access::Write).expect("a store");
        let (revision, columns) = (Revision::from_recorded("aa"), Columns { dense: vec![column], sparse: Vec::new() });
        let name = ShardName { revision: &revision, collection: "c", shard: 0, content_sha256: "" };
        let chunks = chunks.finish().expect("chunks");
        write(&store, "v.parquet", name, 0, &chunks, &columns, &Interrupt::default()).map(|_| ()).expect("written");
        let file = fs::File::open(folder.path().join("v.parquet")).expect("a file");
        let reader = SerializedFileReader::new(file).expect("Parquet");
        let mut sizes: Vec<(String, f64)> = Vec::new();
        for column in reader.metadata().row_groups().iter().flat_map(RowGroupMetaData::columns) {
            let bytes = column.compressed_size() as f64 / ROWS as f64;
            sizes.push((column.column_path().parts()[0].clone(), bytes));
        }
        sizes
    }

    #[test]
    fn a_row_takes_the_bytes_of_its_precision() {
        for (precision, bytes) in [
            (Precision::F32, 4 * DIMENSIONS),
            (Precision::F16, 2 * DIMENSIONS),
            (Precision::Int8, DIMENSIONS),
            (Precision::Binary, DIMENSIONS / 8),
        ] {
            let sizes = bytes_per_row(precision);
            let of = |name: &str| sizes.iter().find(|(column, _)| column == name).map(|(_, bytes)| *bytes);
            let (bytes, vector) = (bytes as f64, of("v").expect("a column"));
            // Page headers, and the levels of a list.
            assert!((bytes..bytes + 6.0).contains(&vector), "{precision:?}: {vector} bytes per row, not {bytes}");
            let scale = of("v_scale");
            assert_eq!(scale.is_some(), precision == Precision::Int8, "{precision:?}");
            assert!(scale.is_none_or(|bytes| bytes < 6.0), "{scale:?} bytes per scale");
        }
    }
}
