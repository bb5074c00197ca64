//! Compares a question with the stored vectors of one file, after a look at what made them.

use std::{error::Error, fs::File};

use arrow_array::{RecordBatch, StringArray, cast::AsArray};
use crds::{
    fingerprint::{self, DenseFingerprint, Difference, Fingerprint},
    identity::Revision,
};
use parquet::{
    arrow::{ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder},
    file::metadata::ParquetMetaData,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::stored_column::{StoredColumn, scale_name};
use crate::vectors::similarity;

/// A chunk near the question.
#[derive(Clone, Debug, Serialize)]
pub struct Hit {
    /// The similarity of the vectors of question and chunk: the one that the model was made for.
    pub score: f32,
    /// The chunk's id.
    pub id: String,
    /// Its text.
    pub text: String,
    /// Its metadata as it is stored: a parsed number would lose digits.
    pub metadata: Box<RawValue>,
}

/// The vectors that a file has to hold, as the summary records them, and the question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    /// The published revision.
    pub(super) revision: &'a Revision,
    /// The collection.
    pub(super) collection: &'a str,
    /// What made the vectors of the column.
    pub(super) made_by: &'a DenseFingerprint,
    /// The vector of the question.
    pub(super) vector: &'a [f32],
}

/// Compares the vectors in a file with the question. `hits` keeps the best `count` chunks of all files so far, the best
/// first.
///
/// # Errors
/// If the file cannot be read, has no column of the model, or its vectors were made otherwise.
pub(super) fn scan(
    file: File,
    question: Question<'_>,
    count: usize,
    hits: &mut Vec<Hit>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let DenseFingerprint { column: model, precision, similarity, .. } = question.made_by;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)?;
    if let Some(footer) = footer(reader.metadata())? {
        check(&footer, question)?;
    }
    let scales = scale_name(model);
    let columns = ["id", "text", "metadata", model, &scales];
    let fields = reader.schema().fields().iter().enumerate();
    let roots = fields.filter(|(_, field)| columns.contains(&field.name().as_str())).map(|(index, _)| index);
    let mask = ProjectionMask::roots(reader.parquet_schema(), roots.collect::<Vec<_>>());
    for batch in reader.with_projection(mask).build()? {
        let batch = batch?;
        let vectors = StoredColumn::of(&batch, model, *precision, question.vector.len())?;
        for row in 0..batch.num_rows() {
            let score = similarity::score(*similarity, question.vector, &vectors.vector(row));
            if hits.len() < count || hits.last().is_some_and(|worst| score > worst.score) {
                let index = hits.partition_point(|hit| hit.score >= score);
                hits.insert(index, hit(&batch, row, score)?);
                hits.truncate(count);
            }
        }
    }
    Ok(())
}

/// What made the file, by its footer; `None` in files of releases that did not write it.
///
/// # Errors
/// If the footer is of a later release, or not readable.
fn footer(metadata: &ParquetMetaData) -> Result<Option<Fingerprint>, Box<dyn Error + Send + Sync>> {
    #[derive(Deserialize)]
    struct Header {
        version: u32,
    }
    let entries = metadata.file_metadata().key_value_metadata();
    let entry = entries.and_then(|entries| entries.iter().find(|entry| entry.key == fingerprint::KEY));
    let Some(json) = entry.and_then(|entry| entry.value.as_deref()) else { return Ok(None) };
    let Header { version } = serde_json::from_str(json)?;
    if version != fingerprint::VERSION {
        let known = fingerprint::VERSION;
        return Err(format!(
            "its footer has version {version}, this release reads {known}: search with the release that wrote it"
        )
        .into());
    }
    Ok(Some(serde_json::from_str(json)?))
}

/// Checks that the file is of the published revision, and that its vectors were made as the summary records.
fn check(footer: &Fingerprint, question: Question<'_>) -> Result<(), String> {
    let (name, expected) = (&question.made_by.column, question.made_by);
    if (&footer.revision, footer.collection.as_str()) != (question.revision, question.collection) {
        return Err(format!(
            "it is of collection {:?} of revision {}, not of {:?} of {}: restore the file, or embed again",
            footer.collection, footer.revision, question.collection, question.revision
        ));
    }
    let Some(actual) = footer.dense(name) else { return Err(format!("it has no vectors of model {name}")) };
    match actual.difference(expected) {
        None => Ok(()),
        Some(Difference { field, ours, theirs }) => Err(format!(
            "the vectors of model {name} were made with {field} {ours}, but the summary records {theirs}: restore the \
             file, or embed again"
        )),
    }
}

fn hit(batch: &RecordBatch, row: usize, score: f32) -> Result<Hit, Box<dyn Error + Send + Sync>> {
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
