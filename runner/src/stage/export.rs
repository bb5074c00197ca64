//! The vectors of a shard as Parquet: `id`, `ordinal` (the chunk's number in its collection), `text`, `text_hash`
//! (sha256, hexadecimal), `metadata` (JSON), and per model a fixed-size list that has the model's name, of the type that
//! its precision says; for Int8 also a column of scales. A sparse model has three columns: `NAME_indices` and
//! `NAME_values`, lists of the same length, and `NAME_source`, `model` or `metadata`. The fused vector is a column of its
//! own.

use std::{
    error::Error,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use arrow_array::{
    ArrayRef, FixedSizeListArray, Float16Array, Float32Array, Int8Array, ListArray, RecordBatch, StringArray,
    UInt8Array, UInt32Array, UInt64Array,
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{ArrowError, DataType, Field, Schema};
use crds::{contract::FailureReason, v1alpha1::Precision};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::properties::{EnabledStatistics, WriterProperties},
    schema::types::ColumnPath,
};
use sha2::{Digest, Sha256};

use super::sparse::SparseColumn;
use crate::{
    batch::Rows,
    error::{Result, StageError},
    interrupt::Interrupt,
    precision,
    scratch::{Chunks, SparseReader, SparseSource, VectorReader, Vectors},
    source::Chunk,
    store::{Store, Written},
};

/// Rows of a row group; it bounds what is in memory.
const ROW_GROUP: usize = 4096;
/// The name of the values in a list column, as the Parquet specification has it.
const ELEMENT: &str = "element";

/// One vector column.
#[derive(Clone)]
pub struct VectorColumn {
    /// The model's name.
    pub name: String,
    /// A row per chunk.
    pub vectors: Vectors,
    /// The form in which they are stored.
    pub precision: Precision,
}

impl VectorColumn {
    /// The name of the column of scales.
    fn scale_name(&self) -> String {
        format!("{}_scale", self.name)
    }

    /// The type of a stored value and the number of them in a row.
    fn stored(&self) -> (DataType, usize) {
        let width = self.vectors.dimensions();
        match self.precision {
            Precision::F32 => (DataType::Float32, width),
            Precision::F16 => (DataType::Float16, width),
            Precision::Int8 => (DataType::Int8, width),
            Precision::Binary => (DataType::UInt8, width / 8),
        }
    }

    fn element(&self) -> Arc<Field> {
        Arc::new(Field::new(ELEMENT, self.stored().0, false))
    }

    /// The arrays of the next rows: the vectors, and the scales where there are some.
    fn arrays(&self, rows: &Rows) -> Result<Vec<ArrayRef>, ArrowError> {
        let (values, scales): (ArrayRef, Option<ArrayRef>) = match self.precision {
            Precision::F32 => (Arc::new(Float32Array::from(rows.values().to_vec())), None),
            Precision::F16 => (Arc::new(Float16Array::from(precision::to_f16(rows))), None),
            Precision::Int8 => {
                let (values, scales) = precision::to_int8(rows);
                (Arc::new(Int8Array::from(values)), Some(Arc::new(Float32Array::from(scales))))
            }
            Precision::Binary => (Arc::new(UInt8Array::from(precision::to_binary(rows))), None),
        };
        let list = FixedSizeListArray::try_new(self.element(), self.stored().1 as i32, values, None)?;
        Ok(std::iter::once(Arc::new(list) as ArrayRef).chain(scales).collect())
    }
}

/// The columns of a file.
pub struct Columns {
    /// The dense models, in the order of the spec, then the fused vector.
    pub dense: Vec<VectorColumn>,
    /// The sparse models, in the order of the spec.
    pub sparse: Vec<SparseColumn>,
}

/// What was written, and how long that took beside waiting for vectors, in seconds.
pub struct Exported {
    /// The file.
    pub file: Written,
    /// The time.
    pub seconds: f64,
}

/// Writes the file as the vectors come; it appears whole or not at all.
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
) -> Result<Exported> {
    let started = Instant::now();
    let upload = store.upload(path)?;
    let write = || -> Result<Exported, Failed> {
        let schema = schema(columns);
        let mut writer = ArrowWriter::try_new(upload, Arc::clone(&schema), Some(properties(columns)))?;
        let mut readers = Readers::of(columns);
        let mut chunks = chunks.iter();
        let mut ordinal = first_ordinal;
        loop {
            interrupt.check()?;
            let group: Vec<Chunk> = chunks.by_ref().take(ROW_GROUP).collect::<Result<_>>()?;
            if group.is_empty() {
                let file = writer.into_inner()?.finish()?;
                let seconds = started.elapsed().saturating_sub(readers.waited()).as_secs_f64();
                return Ok(Exported { file, seconds });
            }
            writer.write(&batch(&schema, ordinal, &group, columns, &mut readers)?)?;
            writer.flush()?;
            ordinal += group.len() as u64;
        }
    };
    write().map_err(|failed| match failed {
        Failed::Stage(error) => error,
        Failed::Parquet(ParquetError::External(cause)) if cause.is::<io::Error>() => store.error("write", path, cause),
        Failed::Parquet(other) => encoding(store, path, other),
        Failed::Io(error) => store.error("write", path, error),
    })
}

/// Why a file is not written.
enum Failed {
    Stage(StageError),
    Parquet(ParquetError),
    Io(io::Error),
}

impl From<StageError> for Failed {
    fn from(error: StageError) -> Self {
        Self::Stage(error)
    }
}

impl From<ParquetError> for Failed {
    fn from(error: ParquetError) -> Self {
        Self::Parquet(error)
    }
}

impl From<ArrowError> for Failed {
    fn from(error: ArrowError) -> Self {
        Self::Parquet(error.into())
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn encoding(store: &Store, path: &str, error: impl Error + Send + Sync + 'static) -> StageError {
    StageError::new(FailureReason::Internal, format!("cannot encode {}", store.uri_of(path))).caused_by(error)
}

fn schema(columns: &Columns) -> Arc<Schema> {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let mut fields = vec![
        text("id"),
        Field::new("ordinal", DataType::UInt64, false),
        text("text"),
        text("text_hash"),
        text("metadata"),
    ];
    for column in &columns.dense {
        let list = DataType::FixedSizeList(column.element(), column.stored().1 as i32);
        fields.push(Field::new(&column.name, list, false));
        if column.precision == Precision::Int8 {
            fields.push(Field::new(column.scale_name(), DataType::Float32, false));
        }
    }
    for column in &columns.sparse {
        fields.push(Field::new(column.part("indices"), DataType::List(entry(DataType::UInt32)), false));
        fields.push(Field::new(column.part("values"), DataType::List(entry(DataType::Float32)), false));
        fields.push(text(&column.part("source")));
    }
    Arc::new(Schema::new(fields))
}

/// The values of a list.
fn entry(of: DataType) -> Arc<Field> {
    Arc::new(Field::new(ELEMENT, of, false))
}

/// Text is compressed; the numbers of a vector neither repeat nor compress, and have no useful minimum.
fn properties(columns: &Columns) -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_dictionary_enabled(false)
        .set_created_by(format!("embedrun {}", env!("CARGO_PKG_VERSION")));
    for column in &columns.dense {
        let path = ColumnPath::new(vec![column.name.clone(), "list".into(), ELEMENT.into()]);
        properties = properties
            .set_column_compression(path.clone(), Compression::UNCOMPRESSED)
            .set_column_statistics_enabled(path, EnabledStatistics::None);
    }
    properties.build()
}

/// The readers of all columns, each at the next row.
struct Readers {
    dense: Vec<VectorReader>,
    sparse: Vec<SparseReader>,
}

impl Readers {
    fn of(columns: &Columns) -> Self {
        Self {
            dense: columns.dense.iter().map(|column| column.vectors.reader()).collect(),
            sparse: columns.sparse.iter().map(|column| column.vectors.reader()).collect(),
        }
    }

    fn waited(&self) -> Duration {
        let dense = self.dense.iter().map(VectorReader::waited);
        dense.chain(self.sparse.iter().map(SparseReader::waited)).sum()
    }
}

/// The three arrays of the next `count` sparse vectors.
fn sparse_arrays(reader: &mut SparseReader, count: usize) -> Result<[ArrayRef; 3], Failed> {
    let (mut indices, mut values) = (Vec::new(), Vec::new());
    let mut lengths = Vec::with_capacity(count);
    let mut sources = Vec::with_capacity(count);
    for _ in 0..count {
        let (source, vector) = reader.read()?;
        lengths.push(vector.indices.len());
        indices.extend(vector.indices);
        values.extend(vector.values);
        sources.push(match source {
            SparseSource::Model => "model",
            SparseSource::Metadata => "metadata",
        });
    }
    let offsets = OffsetBuffer::from_lengths(lengths);
    let indices: ArrayRef = Arc::new(UInt32Array::from(indices));
    let values: ArrayRef = Arc::new(Float32Array::from(values));
    Ok([
        Arc::new(ListArray::try_new(entry(DataType::UInt32), offsets.clone(), indices, None)?),
        Arc::new(ListArray::try_new(entry(DataType::Float32), offsets, values, None)?),
        Arc::new(StringArray::from(sources)),
    ])
}

fn batch(
    schema: &Arc<Schema>,
    first_ordinal: u64,
    chunks: &[Chunk],
    columns: &Columns,
    readers: &mut Readers,
) -> Result<RecordBatch, Failed> {
    let hash = |chunk: &Chunk| hex::encode(Sha256::digest(chunk.text.as_bytes()));
    let mut arrays: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(chunks.iter().map(|chunk| &chunk.id))),
        Arc::new(UInt64Array::from_iter_values((first_ordinal..).take(chunks.len()))),
        Arc::new(StringArray::from_iter_values(chunks.iter().map(|chunk| &chunk.text))),
        Arc::new(StringArray::from_iter_values(chunks.iter().map(hash))),
        Arc::new(StringArray::from_iter_values(chunks.iter().map(|chunk| &chunk.metadata))),
    ];
    for (column, reader) in columns.dense.iter().zip(&mut readers.dense) {
        arrays.extend(column.arrays(&reader.read(chunks.len())?)?);
    }
    for reader in &mut readers.sparse {
        arrays.extend(sparse_arrays(reader, chunks.len())?);
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), arrays)?)
}
