//! Blocking calls that fetch and check hub models; an interrupt ends them.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{
    error::{HubError, HubFailure},
    fetch,
    model::HubModel,
    settings::Settings,
};
use crate::process::{interrupt::Interrupt, runtime::runtime};

/// How often a fetch checks for an interrupt.
const INTERRUPT_INTERVAL: Duration = Duration::from_millis(100);

impl HubModel {
    /// Fetches the files of the model that the cache lacks. Returns its folder.
    pub fn fetch(&self, settings: &Settings, interrupt: &Interrupt) -> Result<PathBuf, HubError> {
        self.run(interrupt, fetch::fetch(self, settings))
    }

    /// Fetches the settings of the model that the cache lacks, without its weights. Returns its folder, and whether the cache has
    /// the weights too.
    pub fn fetch_settings(&self, settings: &Settings, interrupt: &Interrupt) -> Result<(PathBuf, bool), HubError> {
        self.run(interrupt, fetch::fetch_settings(self, settings))
    }

    /// Checks that the model is available, without fetching its weights. Returns the commit.
    pub fn check(&self, settings: &Settings, interrupt: &Interrupt) -> Result<String, HubError> {
        self.run(interrupt, fetch::check(self, settings))
    }

    pub(super) fn settings(&self) -> Result<Settings, HubError> {
        Settings::from_env().map_err(|failure| self.error(failure))
    }

    /// Runs the work until it is done or the process is interrupted; the next call resumes an incomplete file.
    fn run<T>(&self, interrupt: &Interrupt, work: impl Future<Output = Result<T, HubFailure>>) -> Result<T, HubError> {
        let done = runtime().block_on(async {
            tokio::select! {
                done = work => done,
                () = interrupted(interrupt.flag()) => Err(HubFailure::Interrupted),
            }
        });
        done.map_err(|failure| self.error(failure))
    }
}

async fn interrupted(flag: Arc<AtomicBool>) {
    while !flag.load(Ordering::Relaxed) {
        tokio::time::sleep(INTERRUPT_INTERVAL).await;
    }
}
