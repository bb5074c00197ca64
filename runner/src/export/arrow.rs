//! The rows of a shard as Arrow record batches.
//!
//! The columns are `id`, `ordinal` (the chunk's number in its collection), `text`, `text_hash` (sha256, hexadecimal),
//! `metadata` (JSON), and per dense model a column with the model's name: a fixed-size list of floats, or for `Int8` and
//! `Binary` a fixed-size binary, because Parquet has no integer of a byte and would store four; `Int8` also has a column of
//! scales. A sparse model has three columns: `NAME_indices` and `NAME_values`, lists of the same
//! length, and `NAME_source`, `model` or `metadata`. The fused vector is a column of its own.

use std::{sync::Arc, time::Duration};

use arrow_array::{
    ArrayRef, FixedSizeBinaryArray, FixedSizeListArray, Float16Array, Float32Array, ListArray, RecordBatch,
    StringArray, UInt32Array, UInt64Array,
};
use arrow_buffer::{Buffer, OffsetBuffer};
use arrow_schema::{ArrowError, DataType, Field, Schema};
use crds::{fingerprint::ColumnFingerprint, v1alpha1::Precision};
use sha2::{Digest, Sha256};

use crate::{
    process::error::StageError,
    source::Chunk,
    spill::{SparseColumn, SparseReader, SparseSource, VectorColumn, VectorReader},
    vectors::{Rows, quantize},
};

/// The name of the values in a list column, as in the Parquet specification.
pub(super) const LIST_ELEMENT: &str = "element";

/// The vector columns of a file.
pub struct Columns {
    /// The dense models, in the order of the spec, then the fused vector.
    pub dense: Vec<VectorColumn>,
    /// The sparse models, in the order of the spec.
    pub sparse: Vec<SparseColumn>,
}

/// Why a record batch cannot be built.
pub(super) enum BatchError {
    /// The vectors cannot be read back.
    Stage(StageError),
    /// The arrays do not fit the schema.
    Arrow(ArrowError),
}

impl From<StageError> for BatchError {
    fn from(error: StageError) -> Self {
        Self::Stage(error)
    }
}

impl From<ArrowError> for BatchError {
    fn from(error: ArrowError) -> Self {
        Self::Arrow(error)
    }
}

impl Columns {
    /// The schema of the file.
    pub(super) fn schema(&self) -> Arc<Schema> {
        let text = |name: &str| Field::new(name, DataType::Utf8, false);
        let mut fields = vec![
            text("id"),
            Field::new("ordinal", DataType::UInt64, false),
            text("text"),
            text("text_hash"),
            text("metadata"),
        ];
        for column in &self.dense {
            fields.push(Field::new(&column.name, vector_type(column), false));
            if column.precision == Precision::Int8 {
                fields.push(Field::new(scale_name(column), DataType::Float32, false));
            }
        }
        for column in &self.sparse {
            fields.push(Field::new(
                column.column_name("indices"),
                DataType::List(list_element(DataType::UInt32)),
                false,
            ));
            fields.push(Field::new(
                column.column_name("values"),
                DataType::List(list_element(DataType::Float32)),
                false,
            ));
            fields.push(text(&column.column_name("source")));
        }
        Arc::new(Schema::new(fields))
    }

    /// What makes the columns, in their order.
    pub(super) fn fingerprints(&self) -> Vec<ColumnFingerprint> {
        let dense = self.dense.iter().map(|column| column.fingerprint.clone());
        dense.chain(self.sparse.iter().map(|column| ColumnFingerprint::Sparse(column.fingerprint.clone()))).collect()
    }

    /// The readers of all columns, each at the first row.
    pub(super) fn readers(&self) -> ColumnReaders<'_> {
        ColumnReaders {
            columns: self,
            dense: self.dense.iter().map(|column| column.vectors.reader()).collect(),
            sparse: self.sparse.iter().map(|column| column.vectors.reader()).collect(),
        }
    }
}

/// The readers of all columns, each at the next row.
pub(super) struct ColumnReaders<'a> {
    columns: &'a Columns,
    dense: Vec<VectorReader>,
    sparse: Vec<SparseReader>,
}

impl ColumnReaders<'_> {
    /// The record batch of the next `chunks`; `first_ordinal` is the number of the first chunk in its collection.
    pub(super) fn batch(
        &mut self,
        schema: &Arc<Schema>,
        first_ordinal: u64,
        chunks: &[Chunk],
    ) -> Result<RecordBatch, BatchError> {
        let hash = |chunk: &Chunk| hex::encode(Sha256::digest(chunk.text.as_bytes()));
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(chunks.iter().map(|chunk| &chunk.id))),
            Arc::new(UInt64Array::from_iter_values((first_ordinal..).take(chunks.len()))),
            Arc::new(StringArray::from_iter_values(chunks.iter().map(|chunk| &chunk.text))),
            Arc::new(StringArray::from_iter_values(chunks.iter().map(hash))),
            Arc::new(StringArray::from_iter_values(chunks.iter().map(|chunk| &chunk.metadata))),
        ];
        for (column, reader) in self.columns.dense.iter().zip(&mut self.dense) {
            arrays.extend(vector_arrays(column, &reader.read(chunks.len())?)?);
        }
        for reader in &mut self.sparse {
            arrays.extend(sparse_arrays(reader, chunks.len())?);
        }
        Ok(RecordBatch::try_new(Arc::clone(schema), arrays)?)
    }

    /// The time that the readers have waited for vectors.
    pub(super) fn waited(&self) -> Duration {
        let dense = self.dense.iter().map(VectorReader::waited);
        dense.chain(self.sparse.iter().map(SparseReader::waited)).sum()
    }
}

/// The name of the column of scales of an `Int8` column.
fn scale_name(column: &VectorColumn) -> String {
    format!("{}_scale", column.name)
}

/// The type of a dense column.
fn vector_type(column: &VectorColumn) -> DataType {
    let dimensions = column.vectors.dimensions() as i32;
    let list = |value_type| DataType::FixedSizeList(list_element(value_type), dimensions);
    match column.precision {
        Precision::F32 => list(DataType::Float32),
        Precision::F16 => list(DataType::Float16),
        Precision::Int8 => DataType::FixedSizeBinary(dimensions),
        Precision::Binary => DataType::FixedSizeBinary(dimensions / 8),
    }
}

/// The field of the values of a list.
fn list_element(value_type: DataType) -> Arc<Field> {
    Arc::new(Field::new(LIST_ELEMENT, value_type, false))
}

/// The arrays of rows of a dense column: the vectors, and for `Int8` the scales.
fn vector_arrays(column: &VectorColumn, rows: &Rows) -> Result<Vec<ArrayRef>, ArrowError> {
    let dimensions = rows.dimensions() as i32;
    let list = |element, values| -> Result<ArrayRef, ArrowError> {
        Ok(Arc::new(FixedSizeListArray::try_new(list_element(element), dimensions, values, None)?))
    };
    let bytes = |width, bytes: Vec<u8>| -> Result<ArrayRef, ArrowError> {
        Ok(Arc::new(FixedSizeBinaryArray::try_new(width, Buffer::from_vec(bytes), None)?))
    };
    match column.precision {
        Precision::F32 => Ok(vec![list(DataType::Float32, Arc::new(Float32Array::from(rows.values().to_vec())))?]),
        Precision::F16 => Ok(vec![list(DataType::Float16, Arc::new(Float16Array::from(quantize::to_f16(rows))))?]),
        Precision::Int8 => {
            let (values, scales) = quantize::to_int8(rows);
            let values = values.into_iter().map(i8::cast_unsigned).collect();
            Ok(vec![bytes(dimensions, values)?, Arc::new(Float32Array::from(scales))])
        }
        Precision::Binary => Ok(vec![bytes(dimensions / 8, quantize::to_binary(rows))?]),
    }
}

/// The three arrays of the next `count` sparse vectors: indices, values and sources.
fn sparse_arrays(reader: &mut SparseReader, count: usize) -> Result<[ArrayRef; 3], BatchError> {
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
        Arc::new(ListArray::try_new(list_element(DataType::UInt32), offsets.clone(), indices, None)?),
        Arc::new(ListArray::try_new(list_element(DataType::Float32), offsets, values, None)?),
        Arc::new(StringArray::from(sources)),
    ])
}
