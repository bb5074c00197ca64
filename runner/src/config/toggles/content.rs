//! The toggles that change the content of the output. The plan resolves them, and every later stage must agree: shards
//! of one collection would have different columns otherwise.

use crds::{
    contract::RunnerConfig,
    summary::{FeatureToggles, ToggleResolution},
};

use super::Toggles;

/// The keys of these toggles: which columns a shard has, and whether candidates are retrieved and reranked. The others
/// change speed and memory, and not one bit of a vector.
const CONTENT: [&str; 3] = ["sparse", "sparse_models", "rerank"];

impl Toggles {
    /// The toggles that change the content of the output, each with the layer that decided it.
    pub fn of_content(&self, config: &RunnerConfig) -> Vec<ToggleResolution> {
        of_content(&self.features, config)
    }
}

/// The toggles of a recorded resolution that change the content of the output.
pub fn of_content(features: &FeatureToggles, config: &RunnerConfig) -> Vec<ToggleResolution> {
    let decided = |key: &str| features.provenance.iter().rev().find(|entry| entry.key == key).cloned();
    let resolution = |key: &'static str| {
        let decided = decided(key).unwrap_or_else(|| ToggleResolution {
            key: key.to_owned(),
            value: String::new(),
            source: "default".into(),
            layer: "default".into(),
        });
        let value = match key {
            "sparse" => features.sparse.to_string(),
            "rerank" => features.rerank.to_string(),
            _ => sparse_models(features, config),
        };
        ToggleResolution { value, ..decided }
    };
    CONTENT.into_iter().map(resolution).collect()
}

/// The names of the sparse models that run, in the order of the spec.
fn sparse_models(features: &FeatureToggles, config: &RunnerConfig) -> String {
    let listed = features.provenance.iter().rev().find(|entry| entry.key == "sparse_models");
    let runs = |name: &&str| listed.is_none_or(|entry| entry.value.split(',').any(|listed| listed.trim() == *name));
    let names = config.sparse.iter().map(|model| model.name.as_str()).filter(|_| features.sparse);
    names.filter(runs).collect::<Vec<_>>().join(",")
}

/// The difference between planned toggles and those of this process, as the start of a sentence: the toggle, its values
/// and who set them. `None` if they agree in what both know.
pub fn difference(planned: &[ToggleResolution], present: &[ToggleResolution]) -> Option<String> {
    let pairs = planned.iter().filter_map(|planned| {
        let present = present.iter().find(|present| present.key == planned.key)?;
        (present.value != planned.value).then_some((planned, present))
    });
    pairs
        .map(|(planned, present)| {
            format!(
                "the toggle {} is {:?} ({}), and the plan has {:?} ({})",
                present.key,
                present.value,
                set_by(present),
                planned.value,
                set_by(planned)
            )
        })
        .next()
}

fn set_by(entry: &ToggleResolution) -> String {
    if entry.source == entry.layer { entry.layer.clone() } else { format!("{}, layer {}", entry.source, entry.layer) }
}
