//! Nearest neighbours of a question: the exact cosine over the vectors of the current revision.

use std::fs::File;

use arrow_array::{
    Array, FixedSizeListArray, Float16Array, Float32Array, Int8Array, RecordBatch, StringArray, UInt8Array,
    cast::AsArray,
};
use candle_core::Device;
use crds::{
    contract::{DenseConfig, FailureReason, RunnerConfig},
    identity::Revision,
    layout,
    summary::ProcessingSummary,
};
use parquet::arrow::{ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder};
use serde::Serialize;

use crate::{
    hub,
    model::Side,
    pass,
    process::{
        error::{Result, StageError},
        interrupt::Interrupt,
    },
    store::{self, Access, Store},
    vectors::quantize,
};

/// A chunk that was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hit {
    /// The cosine of question and chunk.
    pub score: f32,
    /// The chunk's id.
    pub id: String,
    /// Its text.
    pub text: String,
    /// Its metadata.
    pub metadata: serde_json::Value,
}

/// What to look for.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The collection; the only one when none is given.
    pub collection: Option<&'a str>,
    /// The model; the first when none is given.
    pub model: Option<&'a str>,
    /// The question.
    pub question: &'a str,
    /// How many chunks to find.
    pub count: usize,
}

/// The chunks nearest to a question, the nearest first.
pub fn search(config: &RunnerConfig, query: Query<'_>) -> Result<Vec<Hit>> {
    let store = store::open(&config.output, Access::Read)?;
    let names: Vec<&str> = config.collections.iter().map(|collection| collection.name.as_str()).collect();
    let collection = pick(&names, query.collection, "collection", false)?;
    let names: Vec<&str> = config.dense.iter().map(|model| model.name.as_str()).collect();
    let model = pick(&names, query.model, "model", true)?;
    let model = config.dense.iter().find(|dense| dense.name == model).expect("picked among them");
    let summary = current(config, &store, collection)?;
    let question = embed(model, &summary, query.question)?;

    let mut hits = Vec::new();
    for file in &summary.export_run.files {
        let opened = store
            .open_file(&file.path)?
            .ok_or_else(|| invalid(FailureReason::StoreUnavailable, format!("{} is gone", store.uri_of(&file.path))))?;
        let unreadable = |error: Box<dyn std::error::Error + Send + Sync>| store.error("read", &file.path, error);
        scan(opened, &model.name, &question, query.count, &mut hits).map_err(unreadable)?;
    }
    Ok(hits)
}

fn invalid(reason: FailureReason, message: String) -> StageError {
    StageError::new(reason, message)
}

fn pick<'a>(names: &[&'a str], asked: Option<&str>, what: &str, first: bool) -> Result<&'a str> {
    let found = match asked {
        Some(asked) => names.iter().find(|name| **name == asked),
        None if first || names.len() == 1 => names.first(),
        None => None,
    };
    found.copied().ok_or_else(|| {
        let message = match asked {
            Some(asked) => format!("there is no {what} {asked:?}; there are: {}", names.join(", ")),
            None => format!("say which {what}: {}", names.join(", ")),
        };
        invalid(FailureReason::InvalidConfiguration, message)
    })
}

/// The summary of the revision that readers should use.
fn current(config: &RunnerConfig, store: &Store, collection: &str) -> Result<ProcessingSummary> {
    let pointer = layout::current(collection);
    let Some(bytes) = store.get(&pointer)? else {
        let message =
            format!("collection {collection:?} has no complete revision: {} is not there", store.uri_of(&pointer));
        return Err(invalid(FailureReason::SourceNotFound, message));
    };
    let revision = Revision::from_recorded(String::from_utf8_lossy(&bytes).trim());
    if revision != config.revision {
        tracing::warn!("the current revision is {revision}, the manifest is of {}", config.revision);
    }
    let path = layout::collection_summary(&revision, collection);
    let bytes = store
        .get(&path)?
        .ok_or_else(|| invalid(FailureReason::SourceNotFound, format!("{} is gone", store.uri_of(&path))))?;
    report::read(&bytes, &store.uri_of(&path)).map_err(|error| store.error("read", &path, error))
}

/// The vector of the question, made as those of the chunks were.
fn embed(config: &DenseConfig, summary: &ProcessingSummary, question: &str) -> Result<Vec<f32>> {
    let Some(pass) = summary.dense_run.passes.iter().find(|pass| pass.model == config.name) else {
        let message = format!("the current revision has no vectors of model {}", config.name);
        return Err(invalid(FailureReason::InvalidConfiguration, message));
    };
    let config = DenseConfig { source: hub::recorded(&config.source, &pass.source), ..config.clone() };
    let model = pass::load_dense(&config, &Device::Cpu, &Interrupt::default())?;
    if pass.weights_sha256 != model.digest() {
        let message = format!(
            "model {}: the vectors were made with other weights than those in {}",
            config.name, config.source.uri
        );
        return Err(invalid(FailureReason::InvalidModel, message));
    }
    let tokens = model.encode(question, Side::Query)?;
    Ok(model.embed(&[&tokens])?.into_values())
}

/// Compares a file's vectors with the question and keeps the best `count` of all files so far.
fn scan(
    file: File,
    model: &str,
    question: &[f32],
    count: usize,
    hits: &mut Vec<Hit>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let columns = ["id", "text", "metadata", model];
    let wanted = reader.schema().fields().iter().enumerate();
    let wanted = wanted.filter(|(_, field)| columns.contains(&field.name().as_str())).map(|(index, _)| index);
    let mask = ProjectionMask::roots(reader.parquet_schema(), wanted.collect::<Vec<_>>());
    for batch in reader.with_projection(mask).build()? {
        let batch = batch?;
        let vectors: &FixedSizeListArray = batch
            .column_by_name(model)
            .and_then(|column| column.as_fixed_size_list_opt())
            .ok_or("no vectors of the model")?;
        for row in 0..batch.num_rows() {
            let vector = vectors.value(row);
            let vector = floats(vector.as_ref()).ok_or("the vectors are of no type that a run writes")?;
            let score = cosine(question, &vector);
            if hits.len() < count || hits.last().is_some_and(|worst| score > worst.score) {
                let at = hits.partition_point(|hit| hit.score >= score);
                hits.insert(at, hit(&batch, row, score)?);
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

/// A stored vector up to its length, which a cosine does not see; none where it is not of a type that a run writes.
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
    vector.downcast_ref::<UInt8Array>().map(|vector| quantize::of_binary(vector.values()))
}

/// The cosine of two vectors; 0 where one of them has no length or their widths differ.
fn cosine(one: &[f32], other: &[f32]) -> f32 {
    if one.len() != other.len() {
        return 0.0;
    }
    let dot = |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let length = (dot(one, one) * dot(other, other)).sqrt();
    if length > 0.0 { dot(one, other) / length } else { 0.0 }
}

/// A hit for a person.
pub fn show(rank: usize, hit: &Hit) -> String {
    const WIDTH: usize = 100;
    let cut = |text: &str| match text.char_indices().nth(WIDTH) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    };
    let lines = hit.text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut shown = format!("{rank}. {:.4}  {}", hit.score, hit.id);
    for line in lines.take(2) {
        shown.push_str("\n   ");
        shown.push_str(&cut(line));
    }
    if hit.metadata.as_object().is_none_or(|metadata| !metadata.is_empty()) {
        shown.push_str("\n   ");
        shown.push_str(&cut(&hit.metadata.to_string()));
    }
    shown
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
