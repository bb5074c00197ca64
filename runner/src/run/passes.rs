//! The passes of a shard: one per model, one after the other.

use crds::{
    contract::{DenseConfig, FailureReason, SparseConfig},
    summary::{DensePass, ModelFallback},
};

use super::background::{BackgroundWork, ShardTarget};
use crate::{
    device::{Devices, Ledger},
    pass::{DenseOutput, SparseOutput, dense, sparse},
    plan::Plan,
    process::{
        error::{Result, StageError},
        message::first_few,
        progress::Progress,
        telemetry::{self, timed},
    },
    spill::{SparseColumn, VectorColumn},
};

/// The outputs of all passes of a shard.
#[derive(Default)]
pub struct PassOutputs {
    /// The outputs of the dense models, in the order of the spec, without the models that fell back.
    pub dense: Vec<DenseOutput>,
    /// The optional dense models that failed.
    pub dense_fallbacks: Vec<ModelFallback>,
    /// The outputs of the sparse models, in the order of the spec.
    pub sparse: Vec<SparseOutput>,
}

impl PassOutputs {
    /// The dense columns, each with its weight.
    fn dense_columns(&self) -> Vec<(f64, VectorColumn)> {
        self.dense.iter().map(|output| (output.weight, output.column.clone())).collect()
    }

    fn sparse_columns(&self) -> Vec<SparseColumn> {
        self.sparse.iter().filter_map(|output| output.column.clone()).collect()
    }

    /// The share of rows whose sparse vector a model computed, 0 to 1; `None` without sparse models.
    pub fn sparse_coverage(&self, chunks: u64) -> Option<f64> {
        let rows = self.sparse.len() as u64 * chunks;
        let records = self.sparse.iter().flat_map(|output| &output.record);
        let model_rows: u64 = records.map(|record| record.model_chunks).sum();
        (rows > 0).then(|| model_rows as f64 / rows as f64)
    }

    fn has_vectors(&self) -> bool {
        !self.dense.is_empty() || self.sparse.iter().any(|output| output.query_vectors.is_some())
    }
}

/// Runs one pass per model, one after the other: a model is dropped before the next one is loaded. Background work
/// starts with the last pass of its columns.
///
/// # Errors
/// If a required model fails, no model is left, the disk is full, or the run is interrupted.
pub fn run_passes(
    target: ShardTarget<'_>,
    plan: &Plan,
    queries: &[&str],
    devices: &Devices,
    ledger: &Ledger,
    background: &mut BackgroundWork<'_, '_>,
) -> Result<PassOutputs> {
    let mut outputs = PassOutputs::default();
    run_dense_passes(target, plan, queries, (devices, ledger), background, &mut outputs)?;
    run_sparse_passes(target, plan, queries, (devices, ledger), background, &mut outputs)?;
    if !outputs.has_vectors() {
        let failed: Vec<String> = outputs
            .dense_fallbacks
            .iter()
            .map(|fallback| format!("{} ({})", fallback.model, fallback.message))
            .collect();
        let message = format!("all models are optional, and all failed: {}", first_few(&failed));
        return Err(StageError::new(FailureReason::InvalidModel, message));
    }
    // No effect if the last pass has started it.
    background.write(&outputs.dense_columns(), outputs.sparse_columns())?;
    Ok(outputs)
}

fn run_dense_passes(
    ShardTarget { run, index, chunks, .. }: ShardTarget<'_>,
    plan: &Plan,
    queries: &[&str],
    (devices, ledger): (&Devices, &Ledger),
    background: &mut BackgroundWork<'_, '_>,
    outputs: &mut PassOutputs,
) -> Result<()> {
    let context = run.pass_context(plan, devices, ledger);
    let has_sparse_models = !run.toggles.sparse_models(&run.config).is_empty();
    for (number, model) in run.config.dense.iter().enumerate() {
        let model = &DenseConfig { source: plan.pinned(&model.name, &model.source), ..model.clone() };
        let progress = Progress::bar(run.show_progress, &format!("shard {index} {}", model.name), chunks.count());
        let span = tracing::info_span!(telemetry::DENSE, shard = index, model = model.name);
        let last = number + 1 == run.config.dense.len();
        let on_start = |column: &VectorColumn| {
            if !last {
                return Ok(());
            }
            let columns = [outputs.dense_columns(), vec![(model.weight, column.clone())]].concat();
            if has_sparse_models { background.fuse(&columns) } else { background.write(&columns, Vec::new()) }
        };
        let (output, seconds) =
            timed(span, || dense::pass(context, model, chunks, queries, index, &progress, on_start));
        progress.finish();
        match output? {
            Err(fallback) => {
                background.restart();
                outputs.dense_fallbacks.push(fallback);
            }
            Ok(output) => {
                let record = DensePass { seconds, ..output.record };
                tracing::info!(
                    shard = index,
                    model = record.model,
                    chunks = record.chunks,
                    tokens = record.tokens,
                    truncated = record.truncated_chunks,
                    seconds,
                    "dense pass done"
                );
                outputs.dense.push(DenseOutput { record, ..output });
            }
        }
    }
    Ok(())
}

fn run_sparse_passes(
    ShardTarget { run, index, chunks, .. }: ShardTarget<'_>,
    plan: &Plan,
    queries: &[&str],
    (devices, ledger): (&Devices, &Ledger),
    background: &mut BackgroundWork<'_, '_>,
    outputs: &mut PassOutputs,
) -> Result<()> {
    let context = run.pass_context(plan, devices, ledger);
    let models = run.toggles.sparse_models(&run.config);
    let count = models.len();
    for (number, model) in models.into_iter().enumerate() {
        let model = &SparseConfig { source: plan.pinned(&model.name, &model.source), ..model.clone() };
        let progress = Progress::bar(run.show_progress, &format!("shard {index} {}", model.name), chunks.count());
        let span = tracing::info_span!(telemetry::SPARSE, shard = index, model = model.name);
        let last = number + 1 == count;
        let on_start = |column: &SparseColumn| {
            if !last {
                return Ok(());
            }
            background.write(&outputs.dense_columns(), [outputs.sparse_columns(), vec![column.clone()]].concat())
        };
        let (output, seconds) =
            timed(span, || sparse::pass(context, model, chunks, queries, index, &progress, on_start));
        progress.finish();
        let mut output = output?;
        if let Some(record) = &mut output.record {
            record.seconds = seconds;
            tracing::info!(
                shard = index,
                model = record.model,
                chunks = record.chunks,
                of_metadata = record.metadata_chunks,
                seconds,
                "sparse pass done"
            );
        }
        outputs.sparse.push(output);
    }
    Ok(())
}
