//! Searches a published revision: the chunks nearest to a question, by the exact cosine.

use candle_core::Device;
use crds::{
    contract::{DenseConfig, FailureReason, RunnerConfig},
    layout,
    summary::ProcessingSummary,
};

pub use super::vector_scan::Hit;
use super::{published, vector_scan::scan};
use crate::{
    hub,
    model::Side,
    pass,
    process::{
        error::{Result, StageError},
        interrupt::Interrupt,
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
/// If the collection or the model is unknown, no revision is published, a file is missing, or the model cannot be
/// loaded or has other weights than the vectors.
pub fn search(config: &RunnerConfig, query: SearchQuery<'_>) -> Result<Vec<Hit>> {
    let store = store::open(&config.output, Access::Read)?;
    let collections: Vec<&str> = config.collections.iter().map(|collection| collection.name.as_str()).collect();
    let only_collection = if let [only] = collections[..] { Some(only) } else { None };
    let collection = pick("collection", &collections, query.collection.or(only_collection))?;
    let models: Vec<&str> = config.dense.iter().map(|model| model.name.as_str()).collect();
    let model = pick("model", &models, query.model.or(models.first().copied()))?;
    let model = config.dense.iter().find(|dense| dense.name == model).expect("picked among them");
    let summary = published_summary(config, &store, collection)?;
    let question = embed(model, &summary, query.question)?;

    let mut hits = Vec::new();
    for file in &summary.export_run.files {
        let opened = store
            .open_file(&file.path)?
            .ok_or_else(|| missing(FailureReason::StoreUnavailable, &store.uri_of(&file.path)))?;
        let unreadable = |error: Box<dyn std::error::Error + Send + Sync>| store.error("read", &file.path, error);
        scan(opened, &model.name, &question, query.count, &mut hits).map_err(unreadable)?;
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

/// The summary of the published revision of a collection.
fn published_summary(config: &RunnerConfig, store: &Store, collection: &str) -> Result<ProcessingSummary> {
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
    report::read(&bytes, &store.uri_of(&path)).map_err(|error| store.error("read", &path, error))
}

/// The vector of the question, from the model and the weights that embedded the chunks.
fn embed(config: &DenseConfig, summary: &ProcessingSummary, question: &str) -> Result<Vec<f32>> {
    let Some(pass) = summary.dense_run.passes.iter().find(|pass| pass.model == config.name) else {
        let message = format!("the published revision has no vectors of model {}", config.name);
        return Err(StageError::new(FailureReason::InvalidConfiguration, message));
    };
    let config = DenseConfig { source: hub::recorded(&config.source, &pass.source), ..config.clone() };
    let model = pass::load_dense(&config, &Device::Cpu, &Interrupt::default())?;
    // Earlier releases have recorded the weights alone.
    let same = match pass.model_sha256.as_str() {
        "" => pass.weights_sha256 == model.weights_digest(),
        recorded => recorded == model.files().digest(),
    };
    if !same {
        let message = format!(
            "model {}: the published vectors were computed with other files than those in {}; restore the model, or \
             embed again",
            config.name, config.source.uri
        );
        return Err(StageError::new(FailureReason::InvalidModel, message));
    }
    let tokens = model.encode(question, Side::Query)?;
    Ok(model.embed(&[&tokens])?.into_values())
}

/// A hit as text for a terminal: rank, score, id, the first lines of the text, and the metadata.
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
    shown
}
