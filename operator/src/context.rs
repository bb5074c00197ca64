//! The state that all reconciliations share.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crds::v1alpha1::EmbeddingRun;
use kube::{
    Client,
    runtime::{
        events::{Recorder, Reporter},
        reflector::ObjectRef,
    },
};

use crate::{
    metrics::Metrics,
    settings::{FIELD_MANAGER, Settings},
};

/// The state that all reconciliations share.
pub struct Context {
    /// The client of the API server.
    pub client: Client,
    /// The settings of the installation.
    pub settings: Settings,
    /// The recorder of events. There is one, so that repeated events are counted instead of written again.
    pub recorder: Recorder,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The number of consecutive errors, by object.
    consecutive_errors: Mutex<HashMap<ObjectRef<EmbeddingRun>, u32>>,
}

impl Context {
    /// The shared state of a controller; `instance` is the name of this process in events.
    pub fn new(client: Client, settings: Settings, instance: String, metrics: Arc<Metrics>) -> Self {
        let reporter = Reporter { controller: FIELD_MANAGER.into(), instance: Some(instance) };
        let recorder = Recorder::new(client.clone(), reporter);
        Self { client, settings, recorder, metrics, consecutive_errors: Mutex::default() }
    }

    /// Resets the number of consecutive errors after a successful reconciliation.
    pub fn forget_errors(&self, run: &EmbeddingRun) {
        self.consecutive_errors.lock().unwrap_or_else(PoisonError::into_inner).remove(&ObjectRef::from_obj(run));
    }

    /// Counts a failed reconciliation. Returns the number of consecutive errors.
    pub fn count_error(&self, run: &EmbeddingRun) -> u32 {
        let mut errors = self.consecutive_errors.lock().unwrap_or_else(PoisonError::into_inner);
        let count = errors.entry(ObjectRef::from_obj(run)).or_default();
        *count += 1;
        *count
    }
}
