//! Models that stay loaded between passes when the toggle `exclusive` is off: the shards of one process load a model
//! once.

use std::{
    any::Any,
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    device::{ComputeDevice, Devices, ResidentModels, memory::Memory},
    process::error::Result,
};

/// Models by stage, name and device.
type Models = BTreeMap<(&'static str, String, String), Arc<dyn Any + Send + Sync>>;

/// Models that stay loaded, per stage, name and device.
#[derive(Default)]
pub struct ModelCache {
    /// Whether models stay loaded; otherwise nothing is cached.
    enabled: bool,
    models: Mutex<Models>,
}

impl ModelCache {
    /// A cache that keeps models unless the toggle `exclusive` is on.
    pub fn new(exclusive: bool) -> Self {
        Self { enabled: !exclusive, models: Mutex::default() }
    }

    /// The model, once per device in their order: from the cache, or loaded by `load`.
    ///
    /// # Errors
    /// If a model that is not cached cannot be loaded.
    pub fn get<M: Any + Send + Sync>(
        &self,
        stage: &'static str,
        name: &str,
        devices: &Devices,
        load: impl Fn(&ComputeDevice) -> Result<M>,
    ) -> Result<Vec<Arc<M>>> {
        devices.iter().map(|device| self.get_on_device(stage, name, device, &load)).collect()
    }

    fn get_on_device<M: Any + Send + Sync>(
        &self,
        stage: &'static str,
        name: &str,
        device: &ComputeDevice,
        load: impl Fn(&ComputeDevice) -> Result<M>,
    ) -> Result<Arc<M>> {
        let key = (stage, name.to_owned(), device.name.clone());
        let cached = self.models().get(&key).cloned();
        if let Some(model) = cached.and_then(|model| model.downcast().ok()) {
            tracing::info!(stage, model = name, device = device.name, "model is cached");
            return Ok(model);
        }
        let model = Arc::new(load(device)?);
        if self.enabled {
            self.models().insert(key, Arc::<M>::clone(&model));
        }
        Ok(model)
    }

    fn models(&self) -> MutexGuard<'_, Models> {
        // A panic leaves the map valid, because an entry is inserted whole.
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResidentModels for ModelCache {
    fn keeps(&self) -> bool {
        self.enabled
    }

    fn relieve(&self, memory: &Memory) {
        let mut models = self.models();
        if !models.is_empty() && memory.used() > memory.soft_limit() {
            tracing::info!(models = models.len(), "memory is above the soft limit: unloading cached models");
            models.clear();
        }
    }
}

impl fmt::Debug for ModelCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelCache").field("enabled", &self.enabled).field("models", &self.models().keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use crds::contract::RunnerConfig;

    use super::*;
    use crate::{
        config::toggles::Toggles,
        device::{DeviceRequest, LockOptions},
    };

    fn loads(cache: &ModelCache) -> u32 {
        let config: RunnerConfig = serde_json::from_value(serde_json::json!({
            "version": 1, "run": {"namespace": "", "name": "r"}, "revision": "r", "collections": [], "dense": [],
            "output": {"path": "/o", "uri": "file:///o"}
        }))
        .expect("a configuration");
        let toggles = Toggles::resolve(&config, Vec::new()).expect("toggles");
        let devices = Devices::open(DeviceRequest::Cpu, &toggles, LockOptions::default(), |_| Ok(())).expect("a CPU");
        let loads = Cell::new(0);
        for _ in 0..3 {
            let models = cache.get("dense", "m", &devices, |_| {
                loads.set(loads.get() + 1);
                Ok("weights".to_owned())
            });
            assert_eq!(*models.expect("a model")[0], "weights");
        }
        loads.get()
    }

    #[test]
    fn a_model_is_loaded_for_each_pass_unless_models_stay_loaded() {
        assert_eq!(loads(&ModelCache::new(true)), 3);
        assert_eq!(loads(&ModelCache::new(false)), 1);
    }

    #[test]
    fn models_are_unloaded_when_memory_is_short() {
        let cache = ModelCache::new(false);
        assert_eq!(loads(&cache), 1);
        cache.relieve(&Memory::of_process(None));
        assert_eq!(loads(&cache), 0);
        cache.relieve(&Memory::of_process(Some(1)));
        assert_eq!(loads(&cache), 1);
    }
}
