//! Compares a question with the stored vectors of one file.

use std::fs::File;

use arrow_array::{
    Array, FixedSizeListArray, Float16Array, Float32Array, Int8Array, RecordBatch, StringArray, UInt8Array,
    cast::AsArray,
};
use parquet::arrow::{ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::vectors::quantize;

/// A chunk near the question.
#[derive(Clone, Debug, Serialize)]
pub struct Hit {
    /// The cosine of the vectors of question and chunk, -1 to 1.
    pub score: f32,
    /// The chunk's id.
    pub id: String,
    /// Its text.
    pub text: String,
    /// Its metadata as it is stored: a parsed number would lose digits.
    pub metadata: Box<RawValue>,
}

/// Compares the vectors of `model` in a file with the question. `hits` keeps the best `count` chunks of all files so
/// far, the best first.
///
/// # Errors
/// If the file cannot be read, or has no column of the model.
pub(super) fn scan(
    file: File,
    model: &str,
    question: &[f32],
    count: usize,
    hits: &mut Vec<Hit>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let columns = ["id", "text", "metadata", model];
    let fields = reader.schema().fields().iter().enumerate();
    let roots = fields.filter(|(_, field)| columns.contains(&field.name().as_str())).map(|(index, _)| index);
    let mask = ProjectionMask::roots(reader.parquet_schema(), roots.collect::<Vec<_>>());
    for batch in reader.with_projection(mask).build()? {
        let batch = batch?;
        let vectors: &FixedSizeListArray = batch
            .column_by_name(model)
            .and_then(|column| column.as_fixed_size_list_opt())
            .ok_or_else(|| format!("no vector column {model}"))?;
        for row in 0..batch.num_rows() {
            let vector = vectors.value(row);
            let vector = floats(vector.as_ref()).ok_or_else(|| format!("column {model} has an unknown type"))?;
            let score = cosine(question, &vector);
            if hits.len() < count || hits.last().is_some_and(|worst| score > worst.score) {
                let index = hits.partition_point(|hit| hit.score >= score);
                hits.insert(index, hit(&batch, row, score)?);
                hits.truncate(count);
            }
        }
    }
    Ok(())
}

fn hit(batch: &RecordBatch, row: usize, score: f32) -> Result<Hit, Box<dyn std::error::Error + Send + Sync>> {
    let text = |name: &str| -> Result<&str, String> {
        let column: Option<&StringArray> = batch.column_by_name(name).and_then(|column| column.as_string_opt());
        column.map(|column| column.value(row)).ok_or_else(|| format!("no column {name}"))
    };
    Ok(Hit {
        score,
        id: text("id")?.to_owned(),
        text: text("text")?.to_owned(),
        metadata: serde_json::from_str(text("metadata")?)?,
    })
}

/// A stored vector up to a factor, which does not change a cosine; `None` if a run does not write its type.
fn floats(vector: &dyn Array) -> Option<Vec<f32>> {
    let vector = vector.as_any();
    if let Some(vector) = vector.downcast_ref::<Float32Array>() {
        return Some(vector.values().to_vec());
    }
    if let Some(vector) = vector.downcast_ref::<Float16Array>() {
        return Some(vector.values().iter().map(|value| value.to_f32()).collect());
    }
    if let Some(vector) = vector.downcast_ref::<Int8Array>() {
        return Some(vector.values().iter().map(|value| f32::from(*value)).collect());
    }
    vector.downcast_ref::<UInt8Array>().map(|vector| quantize::from_binary(vector.values()))
}

/// The cosine of two vectors; 0 if a vector has length 0 or their widths differ.
fn cosine(left: &[f32], right: &[f32]) -> f32 {
    if left.len() != right.len() {
        return 0.0;
    }
    let dot = |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let length = (dot(left, left) * dot(right, right)).sqrt();
    if length > 0.0 { dot(left, right) / length } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cosine_of_vectors_without_length_is_zero() {
        assert!((cosine(&[1.0, 0.0], &[2.0, 0.0]) - 1.0).abs() < 1e-6);
        assert!((cosine(&[1.0, 0.0], &[0.0, 3.0])).abs() < 1e-6);
        assert!((cosine(&[0.0, 0.0], &[1.0, 1.0])).abs() < 1e-6);
    }
}
