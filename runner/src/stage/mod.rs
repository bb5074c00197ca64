//! The stages of a run, each a process of its own in a cluster: plan → embed, once per shard → finalize.

mod commit;
pub mod dense;
mod embed;
mod export;
mod finalize;
mod pass;
mod plan;
mod publish;

pub use commit::Commit;
pub use embed::embed;
pub use finalize::finalize;
pub use pass::load as load_model;
pub use plan::plan;
pub use publish::Stored;

use crds::contract::RunnerConfig;

use crate::{
    error::Result,
    interrupt::Interrupt,
    store::{self, Access, Store},
};

/// What every stage works with.
#[derive(Debug)]
pub struct Run {
    /// What is computed.
    pub config: RunnerConfig,
    /// Where the results go.
    pub store: Store,
    /// Whether the process was told to stop.
    pub interrupt: Interrupt,
    /// Whether a person watches the progress.
    pub watched: bool,
}

impl Run {
    /// Opens the output of a run.
    pub fn open(config: RunnerConfig, interrupt: Interrupt, watched: bool) -> Result<Self> {
        let store = store::open(&config.output, Access::Write)?;
        Ok(Self { config, store, interrupt, watched })
    }
}
