//! The retrieval in one shard: the candidates of the queries, written beside the vectors of the shard.

use candle_core::Device;
use crds::layout;

use super::{
    Run,
    background::{FusedOutput, ShardTarget},
    passes::PassOutputs,
};
use crate::{
    device::{Devices, Holder, Ledger},
    plan::{Plan, PlannedCollection},
    process::error::Result,
    retrieval::{
        candidate_file::{self, CandidateFile},
        candidates::{self, FusedVectors},
        exact::SearchOptions,
        queries::Queries,
    },
};

/// The queries whose candidates are retrieved; empty if no stage uses candidates.
///
/// # Errors
/// Same as [`Queries::load`].
pub fn retrieval_queries(run: &Run, plan: &Plan, collection: &PlannedCollection) -> Result<Queries> {
    if !run.retrieves_candidates() {
        return Ok(Queries::default());
    }
    Queries::load(plan, collection, run.config.rerank.as_ref().and_then(|rerank| rerank.queries.as_ref()))
}

/// Finds the candidates of the queries in the shard, on a GPU if the run has one, and writes them, first to
/// `part`.
///
/// # Errors
/// If the device or the store fails, or the run is interrupted.
pub fn retrieve(
    ShardTarget { run, index, name, first_chunk, chunks, .. }: ShardTarget<'_>,
    part: &str,
    outputs: &PassOutputs,
    fused: Option<&FusedOutput>,
    (devices, ledger): (&Devices, &Ledger),
) -> Result<CandidateFile> {
    let fused = fused.map(|fused| FusedVectors { fusion: &fused.fusion, column: &fused.column });
    let holder = Holder { stage: "retrieve", model: "", shard: Some(index) };
    let lease = devices.accelerated().then(|| run.lease(holder, devices, ledger)).transpose()?;
    let device = devices.iter().next().map_or(Device::Cpu, |first| first.device.clone());
    let options = SearchOptions {
        k: run.config.rerank.clone().unwrap_or_default().candidates as usize,
        device: &device,
        interrupt: &run.interrupt,
    };
    let lists = candidates::find(chunks, first_chunk, &outputs.dense, fused.as_ref(), &outputs.sparse, options)?;
    drop(lease);
    let path = |sha256: &str| layout::shard_candidates(&run.config.revision, name.collection, index, sha256);
    candidate_file::write(&run.store, part, path, &lists)
}
