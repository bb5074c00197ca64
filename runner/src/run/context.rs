//! The context of a run: configuration, store, toggles, devices and models.

use std::sync::Arc;

use crds::contract::RunnerConfig;

use super::commit::Depth;
use crate::{
    config::toggles::Toggles,
    device::{DeviceOptions, Devices, Holder, LazyDevices, Lease, Ledger},
    ops,
    pass::{ModelCache, ModelPins, PassContext},
    plan::Plan,
    process::{error::Result, interrupt::Interrupt},
    store::{self, Access, Store},
};

/// What a run looks at again of what is done already.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recheck {
    /// How closely committed files are looked at.
    pub depth: Depth,
    /// Whether optional models that were left out are tried again, in the shards that lack them.
    pub retry_fallbacks: bool,
}

/// An open run.
#[derive(Debug)]
pub struct Run {
    /// The resolved configuration.
    pub config: RunnerConfig,
    /// The output store.
    pub store: Store,
    /// The resolved toggles.
    pub toggles: Toggles,
    devices: LazyDevices,
    models: ModelCache,
    /// Whether the process was interrupted.
    pub interrupt: Interrupt,
    /// Whether progress bars are shown.
    pub show_progress: bool,
    /// What is looked at again of what is done already.
    pub recheck: Recheck,
}

impl Run {
    /// Opens the output store of a run. The devices are opened when the first model needs them.
    ///
    /// # Errors
    /// If the output store cannot be opened for writing.
    pub fn open(
        config: RunnerConfig,
        toggles: Toggles,
        devices: &DeviceOptions,
        interrupt: Interrupt,
        show_progress: bool,
    ) -> Result<Self> {
        let store = store::open(&config.output, Access::Write)?;
        let models = ModelCache::new(toggles.features.exclusive);
        let devices = LazyDevices::new(devices, ops::device::prepare);
        Ok(Self { config, store, toggles, devices, models, interrupt, show_progress, recheck: Recheck::default() })
    }

    /// The devices that the models run on.
    ///
    /// # Errors
    /// If the requested devices are not available.
    pub fn devices(&self) -> Result<Arc<Devices>> {
        self.devices.get(&self.toggles)
    }

    /// The context of the passes that run on these devices and are recorded in this ledger.
    pub fn pass_context<'a>(&'a self, plan: &'a Plan, devices: &'a Devices, ledger: &'a Ledger) -> PassContext<'a> {
        PassContext {
            devices,
            models: &self.models,
            pins: self.pins(plan),
            ledger,
            toggles: &self.toggles,
            interrupt: &self.interrupt,
        }
    }

    /// The models of the revision, pinned by the plan and by their first load.
    pub fn pins<'a>(&'a self, plan: &'a Plan) -> ModelPins<'a> {
        ModelPins { store: &self.store, revision: &self.config.revision, planned: &plan.models }
    }

    /// Leases the devices for work without a model.
    ///
    /// # Errors
    /// Same as [`Lease::acquire`].
    pub fn lease<'a>(&'a self, holder: Holder<'a>, devices: &'a Devices, ledger: &'a Ledger) -> Result<Lease<'a>> {
        Lease::acquire(holder, devices, &self.models, ledger, &self.interrupt)
    }

    /// Whether the run retrieves candidates: a reranker orders them, or the queries of the spec measure their quality.
    pub fn retrieves_candidates(&self) -> bool {
        let has_queries = self.config.rerank.as_ref().is_some_and(|rerank| rerank.queries.is_some());
        has_queries || (self.toggles.features.rerank && self.config.reranker.is_some())
    }
}
