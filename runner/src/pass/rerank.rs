//! The rerank pass: a cross-encoder scores the candidates of every query of a collection.

use std::{num::NonZeroUsize, path::Path, sync::Arc};

use crds::{
    contract::{Place, RerankerConfig},
    summary::RerankModel,
    v1alpha1::{FallbackReason, FallbackSource},
};

use super::{
    ModelKind, PassContext, PassError, PassRecord, RowModel, exclusive::ExclusivePass, fallback::fallback_reason,
};
use crate::{
    device::Holder,
    hub,
    model::{Checked, CrossEncoder, ModelError, Score},
    process::{
        error::{Result, StageError},
        interrupt::Interrupt,
        progress::Progress,
    },
    tokenizer::{Tokens, encode_in_parallel},
};

/// A query and a document that are scored together.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The query.
    pub query: Arc<str>,
    /// The document.
    pub document: Arc<str>,
}

/// A query and the texts of its candidates.
pub struct QueryDocuments<'a> {
    /// The id of the query, for messages.
    pub id: &'a str,
    /// The text of the query.
    pub text: &'a str,
    /// The texts of the candidates, in the order of their list.
    pub documents: Vec<Arc<str>>,
}

/// The output of a rerank pass.
pub struct RerankOutput {
    /// The model; `None` if it could not be loaded.
    pub model: Option<RerankModel>,
    /// The scores, or why there are none.
    pub scores: Result<RerankScores, RerankFailure>,
}

/// The scores of all pairs.
pub struct RerankScores {
    /// Per query one score per document, in their order.
    pub scores: Vec<Vec<Score>>,
    /// The figures of all queries together.
    pub record: PassRecord,
    /// The duration of each query in seconds.
    pub query_seconds: Vec<f64>,
}

/// A failure that the rerank falls back from.
pub struct RerankFailure {
    /// The reason of the fallback.
    pub reason: FallbackReason,
    /// Whether loading or scoring failed.
    pub source: FallbackSource,
    /// The failure.
    pub error: StageError,
}

/// Loads the cross-encoder from `source` and scores all pairs.
///
/// # Errors
/// If a required model cannot be loaded, or for a reason that is not the model's: an interrupt, a lost device. A
/// failure while scoring is a fallback even if the model is required: the vectors exist, and readers may use them.
pub fn pass(
    context: PassContext<'_>,
    config: &RerankerConfig,
    source: &Place,
    queries: &[QueryDocuments<'_>],
    progress: &Progress,
) -> Result<RerankOutput> {
    let holder = Holder { stage: "rerank", model: &config.name, shard: None };
    let mut pass = ExclusivePass::begin(context, holder)?;
    let loaded = context.models.get("rerank", &config.name, context.devices, |device| {
        let folder = hub::folder(&config.name, source, context.interrupt)?;
        let model = CrossEncoder::load(&config.name, &folder, max_tokens(config), &device.device)?;
        context.pins.check(ModelKind::Reranker, &config.name, &source.uri, model.files())?;
        Ok(model)
    });
    let models = match loaded {
        Ok(models) => models,
        Err(error) => {
            let reason = fallback_reason(&error).filter(|_| config.optional);
            let Some(reason) = reason else { return Err(error) };
            let failure = RerankFailure { reason, source: FallbackSource::Load, error };
            return Ok(RerankOutput { model: None, scores: Err(failure) });
        }
    };
    let model = RerankModel {
        model: config.name.clone(),
        source: source.uri.clone(),
        weights_sha256: models[0].weights_digest().to_owned(),
        model_sha256: models[0].files().digest(),
        dtype: models[0].dtype().name().to_owned(),
    };
    let scores = match score_all(&mut pass, &models, queries, progress) {
        Ok(scores) => Ok(scores),
        Err(error) => {
            let Some(reason) = fallback_reason(&error) else { return Err(error) };
            Err(RerankFailure { reason, source: FallbackSource::Runtime, error })
        }
    };
    Ok(RerankOutput { model: Some(model), scores })
}

/// Checks a model in `folder` with the options of the run, without its weights beyond their headers; with neither unless
/// `weights` is set.
///
/// # Errors
/// If the model is invalid, as far as the settings show it.
pub fn check(config: &RerankerConfig, folder: &Path, weights: bool) -> Result<Checked> {
    Ok(CrossEncoder::check(&config.name, folder, max_tokens(config), weights)?)
}

fn max_tokens(config: &RerankerConfig) -> Option<usize> {
    config.max_tokens.map(|tokens| tokens as usize)
}

/// Scores one query after the other, to measure the duration of each.
fn score_all(
    pass: &mut ExclusivePass<'_>,
    models: &[Arc<CrossEncoder>],
    queries: &[QueryDocuments<'_>],
    progress: &Progress,
) -> Result<RerankScores> {
    let mut total = PassRecord::default();
    let mut query_seconds = Vec::with_capacity(queries.len());
    let mut scores = Vec::with_capacity(queries.len());
    for QueryDocuments { id, text, documents } in queries {
        let text: Arc<str> = (*text).into();
        let pairs = documents.iter().map(|document| Ok(Pair { query: text.clone(), document: document.clone() }));
        let start = progress.position();
        let mut query_scores: Vec<Score> = Vec::with_capacity(documents.len());
        let sink = |rows: Vec<Score>| {
            query_scores.extend(rows);
            Ok(())
        };
        let record = pass.run(models, pairs, |done| progress.set(start + done), sink);
        let record = record.map_err(|error| match error {
            PassError::Model(error) => {
                StageError::new(error.reason(), format!("cannot score query {id:?}")).caused_by(error)
            }
            PassError::Cancelled => Interrupt::error(),
            PassError::Source(error) | PassError::Sink(error) => error,
        })?;
        query_seconds.push(record.seconds);
        total += &record;
        scores.push(query_scores);
    }
    progress.finish();
    Ok(RerankScores { scores, record: total, query_seconds })
}

impl RowModel<Pair> for CrossEncoder {
    type Rows = Vec<Score>;

    fn name(&self) -> &str {
        self.name()
    }

    fn bytes_per_token(&self) -> u64 {
        self.bytes_per_token()
    }

    fn longest(&self) -> usize {
        self.max_tokens()
    }

    fn size(pair: &Pair) -> usize {
        pair.query.len() + pair.document.len()
    }

    fn encode_items(&self, pairs: &[Pair], threads: NonZeroUsize) -> Result<Vec<Tokens>, ModelError> {
        encode_in_parallel(pairs, threads, |row, pair| {
            self.encode(&pair.query, &pair.document).map_err(|error| error.at_row(|_| row))
        })
    }

    fn compute(&self, rows: &[&Tokens]) -> Result<Vec<Score>, ModelError> {
        self.score(rows)
    }

    fn empty(&self, count: usize) -> Vec<Score> {
        vec![Score { logit: 0.0, score: 0.0 }; count]
    }
}
