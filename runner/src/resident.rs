//! Models that stay in memory between their turns, where `exclusive` is off: the shards of one process load a model once.

use std::{
    any::Any,
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    error::Result,
    gpu::{ComputeDevice, Devices},
    memory::Memory,
};

/// Models by stage, name and device.
type Models = BTreeMap<(&'static str, String, String), Arc<dyn Any + Send + Sync>>;

/// The models that are kept.
#[derive(Default)]
pub struct Resident {
    /// Whether models are kept at all.
    keeps: bool,
    models: Mutex<Models>,
}

impl Resident {
    /// Keeps models unless each of them is to have the device alone.
    pub fn new(exclusive: bool) -> Self {
        Self { keeps: !exclusive, models: Mutex::default() }
    }

    /// Whether models are kept at all.
    pub fn keeps(&self) -> bool {
        self.keeps
    }

    /// The model once per device: those that are kept under that name, or that `load` gives.
    ///
    /// # Errors
    /// If one has to be loaded and cannot be.
    pub fn get<M: Any + Send + Sync>(
        &self,
        stage: &'static str,
        name: &str,
        devices: &Devices,
        load: impl Fn(&ComputeDevice) -> Result<M>,
    ) -> Result<Vec<Arc<M>>> {
        devices.iter().map(|device| self.one(stage, name, device, &load)).collect()
    }

    fn one<M: Any + Send + Sync>(
        &self,
        stage: &'static str,
        name: &str,
        device: &ComputeDevice,
        load: impl Fn(&ComputeDevice) -> Result<M>,
    ) -> Result<Arc<M>> {
        let key = (stage, name.to_owned(), device.name.clone());
        let kept = self.models().get(&key).cloned();
        if let Some(model) = kept.and_then(|model| model.downcast().ok()) {
            tracing::info!(stage, model = name, device = device.name, "resident already");
            return Ok(model);
        }
        let model = Arc::new(load(device)?);
        if self.keeps {
            self.models().insert(key, Arc::<M>::clone(&model));
        }
        Ok(model)
    }

    /// Lets all models go where memory is above the soft limit.
    pub fn relieve(&self, memory: &Memory) {
        let mut models = self.models();
        if !models.is_empty() && memory.used() > memory.soft_limit() {
            tracing::info!(models = models.len(), "memory is short: models do not stay");
            models.clear();
        }
    }

    fn models(&self) -> MutexGuard<'_, Models> {
        // A map of whole entries, whatever panicked.
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Resident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resident").field("keeps", &self.keeps).field("models", &self.models().keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use crds::contract::RunnerConfig;

    use super::*;
    use crate::{
        gpu::{DeviceRequest, LockOptions},
        toggles::Toggles,
    };

    fn loads(resident: &Resident) -> u32 {
        let config: RunnerConfig = serde_json::from_value(serde_json::json!({
            "version": 1, "run": {"namespace": "", "name": "r"}, "revision": "r", "collections": [], "dense": [],
            "output": {"path": "/o", "uri": "file:///o"}
        }))
        .expect("a configuration");
        let toggles = Toggles::resolve(&config, Vec::new()).expect("toggles");
        let devices = Devices::open(DeviceRequest::Cpu, &toggles, LockOptions::default()).expect("a CPU");
        let loads = Cell::new(0);
        for _ in 0..3 {
            let models = resident.get("dense", "m", &devices, |_| {
                loads.set(loads.get() + 1);
                Ok("weights".to_owned())
            });
            assert_eq!(*models.expect("a model")[0], "weights");
        }
        loads.get()
    }

    #[test]
    fn a_model_is_loaded_for_each_turn_unless_models_may_stay() {
        assert_eq!(loads(&Resident::new(true)), 3);
        assert_eq!(loads(&Resident::new(false)), 1);
    }

    #[test]
    fn models_go_when_memory_is_short() {
        let resident = Resident::new(false);
        assert_eq!(loads(&resident), 1);
        resident.relieve(&Memory::of_process(None));
        assert_eq!(loads(&resident), 0);
        resident.relieve(&Memory::of_process(Some(1)));
        assert_eq!(loads(&resident), 1);
    }
}
