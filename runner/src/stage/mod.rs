//! The stages of a run, each a process of its own in a cluster: plan → embed, once per shard → finalize.

mod candidates;
mod commit;
mod dense;
mod embed;
mod export;
mod finalize;
mod follow;
mod plan;
mod publish;
mod rankings;
mod rerank;
mod sparse;
mod turn;

pub use commit::Commit;
pub use dense::load as load_model;
pub use embed::embed;
pub use finalize::finalize;
pub use plan::plan;
pub use publish::Stored;
pub use rerank::Reranked;

use std::sync::Arc;

use crds::contract::RunnerConfig;

use crate::{
    error::Result,
    gpu::{Asked, Devices, OnDemand},
    interrupt::Interrupt,
    resident::Resident,
    store::{self, Access, Store},
    toggles::Toggles,
};

/// What every stage works with.
#[derive(Debug)]
pub struct Run {
    /// What is computed.
    pub config: RunnerConfig,
    /// Where the results go.
    pub store: Store,
    /// Which stages run, and how.
    pub toggles: Toggles,
    devices: OnDemand,
    /// The models that stay between their turns.
    pub resident: Resident,
    /// Whether the process was told to stop.
    pub interrupt: Interrupt,
    /// Whether a person watches the progress.
    pub watched: bool,
}

impl Run {
    /// Opens the output of a run; its devices are opened when a model needs them.
    pub fn open(
        config: RunnerConfig,
        toggles: Toggles,
        asked: &Asked,
        interrupt: Interrupt,
        watched: bool,
    ) -> Result<Self> {
        let store = store::open(&config.output, Access::Write)?;
        let resident = Resident::new(toggles.features.exclusive);
        Ok(Self { config, store, toggles, devices: OnDemand::new(asked), resident, interrupt, watched })
    }

    /// The devices that models are computed on.
    ///
    /// # Errors
    /// If what was asked for is not there.
    pub fn devices(&self) -> Result<Arc<Devices>> {
        self.devices.get(&self.toggles)
    }

    /// Whether anything is done with the candidates of queries: a reranker orders them, or judgements measure them.
    pub fn wants_candidates(&self) -> bool {
        let queries = self.config.rerank.as_ref().is_some_and(|rerank| rerank.queries.is_some());
        queries || (self.toggles.features.rerank && self.config.reranker.is_some())
    }
}
