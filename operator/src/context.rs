//! What every reconciliation shares.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crds::v1alpha1::EmbeddingRun;
use kube::{
    Client,
    runtime::{events::Recorder, reflector::ObjectRef},
};

use crate::{metrics::Metrics, settings::Settings};

/// What every reconciliation shares.
pub struct Context {
    /// The client of the API server.
    pub client: Client,
    /// The installation's settings.
    pub settings: Settings,
    /// The one recorder of events.
    pub recorder: Recorder,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Errors in a row, by object.
    errors: Mutex<HashMap<ObjectRef<EmbeddingRun>, u32>>,
}

impl Context {
    /// The shared state of a controller.
    pub fn new(client: Client, settings: Settings, recorder: Recorder, metrics: Arc<Metrics>) -> Self {
        Self { client, settings, recorder, metrics, errors: Mutex::default() }
    }

    /// A reconciliation went well.
    pub fn forget_errors(&self, run: &EmbeddingRun) {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).remove(&ObjectRef::from_obj(run));
    }

    /// A reconciliation failed; returns how many have in a row.
    pub fn count_error(&self, run: &EmbeddingRun) -> u32 {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let count = errors.entry(ObjectRef::from_obj(run)).or_default();
        *count += 1;
        *count
    }
}
