//! Models that stay in memory between their turns, where `exclusive` is off: the shards of one process load a model once.

use std::{
    any::Any,
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{error::Result, memory::Memory};

/// Models by stage and name.
type Models = BTreeMap<(&'static str, String), Arc<dyn Any + Send + Sync>>;

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

    /// The model that is kept under that name, or the one that `load` gives.
    ///
    /// # Errors
    /// If it has to be loaded and cannot be.
    pub fn get<M: Any + Send + Sync>(
        &self,
        stage: &'static str,
        name: &str,
        load: impl FnOnce() -> Result<M>,
    ) -> Result<Arc<M>> {
        let key = (stage, name.to_owned());
        let kept = self.models().get(&key).cloned();
        if let Some(model) = kept.and_then(|model| model.downcast().ok()) {
            tracing::info!(stage, model = name, "resident already");
            return Ok(model);
        }
        let model = Arc::new(load()?);
        if self.keeps {
            self.models().insert(key, Arc::<M>::clone(&model));
        }
        Ok(model)
    }

    /// Lets all models go where memory is above the soft limit.
    pub fn relieve(&self, memory: Memory) {
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
    use super::*;

    fn loads(resident: &Resident) -> u32 {
        let mut loads = 0;
        for _ in 0..3 {
            let model = resident.get("dense", "m", || {
                loads += 1;
                Ok("weights".to_owned())
            });
            assert_eq!(*model.expect("a model"), "weights");
        }
        loads
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
        resident.relieve(Memory::of_process(None));
        assert_eq!(loads(&resident), 0);
        resident.relieve(Memory::of_process(Some(1)));
        assert_eq!(loads(&resident), 1);
    }
}
