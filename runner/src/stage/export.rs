//! The vectors of a shard as Parquet: `id`, `ordinal` (the chunk's number in its collection), `text`, `text_hash`
//! (sha256, hexadecimal), `metadata` (JSON), and per model a fixed-size list of floats that has the model's name.

use std::{io, sync::Arc};

use arrow_array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, StringArray, UInt64Array};
use arrow_schema::{ArrowError, DataType, Field, Schema};
use crds::contract::FailureReason;
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::properties::{EnabledStatistics, WriterProperties},
    schema::types::ColumnPath,
};
use sha2::{Digest, Sha256};

use crate::{
    batch::Rows,
    error::{Result, StageError},
    source::Chunk,
    store::{Store, Written},
};

/// Rows of a row group; it bounds what the writer holds besides the shard itself.
const ROW_GROUP: usize = 8192;
/// The name of the values in a list column, as the Parquet specification has it.
const ELEMENT: &str = "element";

/// One vector column.
#[derive(Debug)]
pub struct VectorColumn {
    /// The model's name.
    pub name: String,
    /// A row per chunk.
    pub vectors: Rows,
}

/// Writes the file; it appears whole or not at all.
pub fn write(
    store: &Store,
    path: &str,
    first_ordinal: u64,
    chunks: &[Chunk],
    columns: &[VectorColumn],
) -> Result<Written> {
    let upload = store.upload(path)?;
    let write = || -> Result<Written, ParquetError> {
        let schema = schema(columns);
        let mut writer = ArrowWriter::try_new(upload, Arc::clone(&schema), Some(properties(columns)))?;
        for start in (0..chunks.len()).step_by(ROW_GROUP) {
            let end = (start + ROW_GROUP).min(chunks.len());
            writer.write(&batch(&schema, first_ordinal, chunks, columns, start..end)?)?;
            writer.flush()?;
        }
        Ok(writer.into_inner()?.finish()?)
    };
    write().map_err(|error| match error {
        ParquetError::External(cause) if cause.is::<io::Error>() => store.error("write", path, cause),
        other => {
            StageError::new(FailureReason::Internal, format!("cannot encode {}", store.uri_of(path))).caused_by(other)
        }
    })
}

fn schema(columns: &[VectorColumn]) -> Arc<Schema> {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let mut fields = vec![
        text("id"),
        Field::new("ordinal", DataType::UInt64, false),
        text("text"),
        text("text_hash"),
        text("metadata"),
    ];
    fields.extend(columns.iter().map(|column| {
        let width = column.vectors.dimensions() as i32;
        Field::new(&column.name, DataType::FixedSizeList(element(), width), false)
    }));
    Arc::new(Schema::new(fields))
}

fn element() -> Arc<Field> {
    Arc::new(Field::new(ELEMENT, DataType::Float32, false))
}

/// Text is compressed; the floats of a vector neither repeat nor compress, and have no useful minimum.
fn properties(columns: &[VectorColumn]) -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_dictionary_enabled(false)
        .set_created_by(format!("embedrun {}", env!("CARGO_PKG_VERSION")));
    for column in columns {
        let path = ColumnPath::new(vec![column.name.clone(), "list".into(), ELEMENT.into()]);
        properties = properties
            .set_column_compression(path.clone(), Compression::UNCOMPRESSED)
            .set_column_statistics_enabled(path, EnabledStatistics::None);
    }
    properties.build()
}

fn batch(
    schema: &Arc<Schema>,
    first_ordinal: u64,
    chunks: &[Chunk],
    columns: &[VectorColumn],
    rows: std::ops::Range<usize>,
) -> Result<RecordBatch, ArrowError> {
    let slice = &chunks[rows.clone()];
    let hash = |chunk: &Chunk| hex::encode(Sha256::digest(chunk.text.as_bytes()));
    let mut arrays: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(slice.iter().map(|chunk| &chunk.id))),
        Arc::new(UInt64Array::from_iter_values(rows.clone().map(|row| first_ordinal + row as u64))),
        Arc::new(StringArray::from_iter_values(slice.iter().map(|chunk| &chunk.text))),
        Arc::new(StringArray::from_iter_values(slice.iter().map(hash))),
        Arc::new(StringArray::from_iter_values(slice.iter().map(|chunk| &chunk.metadata))),
    ];
    for column in columns {
        let width = column.vectors.dimensions();
        let values = Float32Array::from(column.vectors.values()[rows.start * width..rows.end * width].to_vec());
        arrays.push(Arc::new(FixedSizeListArray::try_new(element(), width as i32, Arc::new(values), None)?));
    }
    RecordBatch::try_new(Arc::clone(schema), arrays)
}
