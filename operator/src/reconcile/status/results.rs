//! The results of a complete revision: the summaries and the figures of every collection.

use crds::{
    contract::{CollectionResult, FinalizeResult},
    identity::Revision,
    layout, resolve,
    v1alpha1::{ChunkCounts, CollectionStatus, DenseModelStatus, EmbeddingRun, SummaryRef},
};

use super::stages;

/// The summary of the run.
pub(super) fn run_summary(run: &EmbeddingRun, revision: &Revision, result: &FinalizeResult) -> SummaryRef {
    summary(run, &layout::run_summary(revision), &result.summary_sha256)
}

/// The collections, as many as the result contains.
pub(super) fn collections(run: &EmbeddingRun, revision: &Revision, result: &FinalizeResult) -> Vec<CollectionStatus> {
    let collections = run.spec.collections.iter().zip(&result.collections);
    collections
        .map(|(collection, result)| {
            let path = layout::collection_summary(revision, &collection.name);
            CollectionStatus {
                name: collection.name.clone(),
                chunks: chunk_counts(result),
                dense: dense(run, result),
                sparse: result.sparse.as_ref().map(stages::stage_status),
                rerank: result.rerank.as_ref().map(stages::stage_status),
                quality: stages::quality(&result.quality),
                summary: Some(summary(run, &path, &result.summary_sha256)),
            }
        })
        .collect()
}

fn summary(run: &EmbeddingRun, path: &str, sha256: &str) -> SummaryRef {
    let output = resolve::output_uri(&run.spec).unwrap_or_default();
    SummaryRef { uri: format!("{}/{path}", output.trim_end_matches('/')), sha256: sha256.into() }
}

fn chunk_counts(result: &CollectionResult) -> ChunkCounts {
    ChunkCounts {
        total: result.chunks,
        embedded: result.embedded,
        reused: 0,
        truncated: result.truncated,
        skipped: result.skipped,
    }
}

/// The passes of the dense models, without models that were left out.
fn dense(run: &EmbeddingRun, result: &CollectionResult) -> Vec<DenseModelStatus> {
    let passes = run.spec.models.dense.iter().zip(&result.dense).filter(|(_, pass)| pass.dimensions > 0);
    passes
        .map(|(model, pass)| DenseModelStatus {
            model: model.name.clone(),
            dimensions: pass.dimensions,
            tokens: pass.tokens,
            seconds: pass.seconds,
            similarity: pass.similarity,
        })
        .collect()
}
