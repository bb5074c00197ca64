//! Searches a published revision: the chunks nearest to a question, by the similarity of the model, computed exactly.
//!
//! The question is embedded as the summary of the revision records it, not as the manifest describes it now. A model or a
//! file that does not fit the record is rejected: its scores would mean nothing.

use candle_core::Device;
use crds::{
    contract::{DenseConfig, FailureReason, RunnerConfig},
    fingerprint::{DenseFingerprint, Difference},
    identity::Revision,
    layout,
    summary::{DensePass, ProcessingSummary},
    v1alpha1::{Precision, Prompts},
};
use serde::de::DeserializeOwned;

pub use super::vector_scan::Hit;
use super::{
    published,
    vector_scan::{Question, scan},
};
use crate::{
    hub,
    model::Side,
    pass,
    process::{
        error::{Result, StageError},
        interrupt::Interrupt,
        printable::printable,
    },
    store::{self, Access, Store},
};

/// A search.
#[derive(Clone, Copy, Debug)]
pub struct SearchQuery<'a> {
    /// The name of the collection; `None` for the only collection.
    pub collection: Option<&'a str>,
    /// The name of the dense model; `None` for the first model.
    pub model: Option<&'a str>,
    /// The question.
    pub question: &'a str,
    /// The largest number of hits.
    pub count: usize,
}

/// The chunks nearest to a question, the nearest first.
///
/// # Errors
/// If the collection or the model is unknown, no revision is published, a file is missing or was made otherwise, or the
/// model cannot be loaded or is another one than that of the vectors.
pub fn search(config: &RunnerConfig, query: SearchQuery<'_>) -> Result<Vec<Hit>> {
    let store = store::open(&config.output, Access::Read)?;
    let collections: Vec<&str> = config.collections.iter().map(|collection| collection.name.as_str()).collect();
    let only_collection = if let [only] = collections[..] { Some(only) } else { None };
    let collection = pick("collection", &collections, query.collection.or(only_collection))?;
    let models: Vec<&str> = config.dense.iter().map(|model| model.name.as_str()).collect();
    let model = pick("model", &models, query.model.or(models.first().copied()))?;
    let model = config.dense.iter().find(|dense| dense.name == model).expect("picked among them");
    let (revision, summary) = published_summary(config, &store, collection)?;
    let (made_by, vector) = embed(model, &summary, query.question)?;
    let question = Question { revision: &revision, collection, made_by: &made_by, vector: &vector };

    let mut hits = Vec::new();
    for file in &summary.export_run.files {
        let opened = store
            .open_file(&file.path)?
            .ok_or_else(|| missing(FailureReason::StoreUnavailable, &store.uri_of(&file.path)))?;
        let unreadable = |error: Box<dyn std::error::Error + Send + Sync>| {
            let message = format!("cannot search {}", store.uri_of(&file.path));
            StageError::new(FailureReason::InvalidFile, message).caused_by(error)
        };
        scan(opened, question, query.count, &mut hits).map_err(unreadable)?;
    }
    Ok(hits)
}

fn missing(reason: FailureReason, uri: &str) -> StageError {
    StageError::new(
        reason,
        format!("{uri} is missing: a published revision needs it; run again to embed its shard again"),
    )
}

/// The name in `names` that equals `requested`.
fn pick<'a>(kind: &str, names: &[&'a str], requested: Option<&str>) -> Result<&'a str> {
    let message = match requested {
        Some(requested) => match names.iter().find(|name| **name == requested) {
            Some(name) => return Ok(name),
            None => format!("unknown {kind} {requested:?}; known: {}", names.join(", ")),
        },
        None => format!("choose a {kind} with --{kind}; known: {}", names.join(", ")),
    };
    Err(StageError::new(FailureReason::InvalidConfiguration, message))
}

/// The published revision of a collection and its summary.
fn published_summary(config: &RunnerConfig, store: &Store, collection: &str) -> Result<(Revision, ProcessingSummary)> {
    let Some(published) = published::read(store, collection)? else {
        let pointer = store.uri_of(&layout::current(collection));
        let message = format!("collection {collection:?} has no published revision: {pointer} does not exist");
        return Err(StageError::new(FailureReason::SourceNotFound, message));
    };
    let revision = published.pointer.revision;
    if !config.revision.is_recorded_as(revision.as_str()) {
        tracing::warn!(
            "searching the published revision {revision}; the manifest describes revision {}",
            config.revision
        );
    }
    let path = layout::collection_summary(&revision, collection);
    let bytes = store.get(&path)?.ok_or_else(|| missing(FailureReason::SourceNotFound, &store.uri_of(&path)))?;
    let summary = report::read(&bytes, &store.uri_of(&path)).map_err(|error| store.error("read", &path, error))?;
    Ok((revision, summary))
}

/// The vector of the question, from the model that embedded the chunks, and what made the vectors of the chunks.
fn embed(config: &DenseConfig, summary: &ProcessingSummary, question: &str) -> Result<(DenseFingerprint, Vec<f32>)> {
    let Some(pass) = summary.dense_run.passes.iter().find(|pass| pass.model == config.name) else {
        let message = format!("the published revision has no vectors of model {}", config.name);
        return Err(StageError::new(FailureReason::InvalidConfiguration, message));
    };
    let config = recorded_config(config, pass)?;
    let model = pass::load_dense(&config, &Device::Cpu, &Interrupt::default())?;
    let loaded = pass::dense_fingerprint(&config, &model);
    let recorded = recorded_fingerprint(pass, &loaded, model.weights_digest())?;
    if let Some(Difference { field, ours, theirs }) = recorded.difference(&loaded) {
        let message = format!(
            "model {}: the published vectors were computed with {field} {ours}, but the model in {} has {theirs}; \
             restore the model folder, or embed again",
            config.name, config.source.uri
        );
        return Err(StageError::new(FailureReason::InvalidModel, message));
    }
    let tokens = model.encode(question, Side::Query)?;
    Ok((recorded, model.embed(&[&tokens])?.into_values()))
}

/// Whether the record is of a release that wrote all settings of a model.
fn is_complete(pass: &DensePass) -> bool {
    !pass.tokenizer_sha256.is_empty()
}

/// The model of the manifest with the settings that the pass was computed with.
fn recorded_config(config: &DenseConfig, pass: &DensePass) -> Result<DenseConfig> {
    let text = |prompt: &Option<String>| Some(prompt.clone().unwrap_or_default());
    let of_manifest = config.prompts.clone().unwrap_or_default();
    Ok(DenseConfig {
        source: hub::recorded(&config.source, &pass.source),
        // A pooling that only a folder can name, and types of several devices, are those of the folder and the device.
        pooling: named(&pass.pooling),
        max_tokens: Some(pass.max_tokens),
        dimensions: Some(pass.dimensions),
        prompts: Some(Prompts {
            document: text(&pass.document_prompt),
            query: if is_complete(pass) { text(&pass.query_prompt) } else { of_manifest.query },
        }),
        dtype: named(&pass.dtype),
        precision: Some(precision(pass)?),
        ..config.clone()
    })
}

/// What made the vectors of the pass; what an earlier release did not record is taken from the `loaded` model.
fn recorded_fingerprint(pass: &DensePass, loaded: &DenseFingerprint, loaded_weights: &str) -> Result<DenseFingerprint> {
    // Earlier releases have recorded the weights alone.
    let model_sha256 = match pass.model_sha256.as_str() {
        "" if pass.weights_sha256 == loaded_weights => loaded.model_sha256.clone(),
        "" => pass.weights_sha256.clone(),
        recorded => recorded.to_owned(),
    };
    let recorded = DenseFingerprint {
        column: pass.model.clone(),
        source: pass.source.clone(),
        model_sha256,
        tokenizer_sha256: pass.tokenizer_sha256.clone(),
        pooling: pass.pooling.clone(),
        max_tokens: pass.max_tokens,
        document_prompt: pass.document_prompt.clone(),
        query_prompt: pass.query_prompt.clone(),
        dtype: pass.dtype.clone(),
        dimensions: pass.dimensions,
        precision: precision(pass)?,
        similarity: pass.similarity,
    };
    Ok(if is_complete(pass) {
        recorded
    } else {
        DenseFingerprint {
            tokenizer_sha256: loaded.tokenizer_sha256.clone(),
            query_prompt: loaded.query_prompt.clone(),
            similarity: loaded.similarity,
            ..recorded
        }
    })
}

/// The precision of the pass.
fn precision(pass: &DensePass) -> Result<Precision> {
    named(&pass.precision).ok_or_else(|| {
        let message = format!(
            "model {}: the summary records the precision {:?}, which this release does not know; search with the release \
             that wrote it",
            pass.model, pass.precision
        );
        StageError::new(FailureReason::InvalidConfiguration, message)
    })
}

/// The variant of an enum with this name in manifests.
fn named<T: DeserializeOwned>(name: &str) -> Option<T> {
    serde_json::from_value(name.into()).ok()
}

/// A hit as text for a terminal: rank, score, id, the first lines of the text, and the metadata, all [`printable`].
pub fn show(rank: usize, hit: &Hit) -> String {
    const WIDTH: usize = 100;
    let truncate = |text: &str| match text.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    };
    let lines = hit.text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut shown = format!("{rank}. {:.4}  {}", hit.score, hit.id);
    for line in lines.take(2) {
        shown.push_str("\n   ");
        shown.push_str(&truncate(line));
    }
    if hit.metadata.get() != "{}" {
        shown.push_str("\n   ");
        shown.push_str(&truncate(hit.metadata.get()));
    }
    printable(&shown).into_owned()
}
