//! The toggles: which stages run and how. Layers set them: defaults → file → `.env` → environment → spec → command line.
//!
//! A later layer overrides an earlier one, and every entry of every layer is recorded. [`layers`] reads the layers; an
//! [`entry`] is the value of one toggle in one layer.

use std::{collections::BTreeMap, num::NonZeroUsize, path::Path};

use crds::{
    contract::{FailureReason, RunnerConfig, SparseConfig},
    memory::MemoryCeiling,
    summary::{FeatureToggles, ToggleResolution},
};

use crate::process::error::{Result, StageError};

mod content;
mod entry;
mod layers;

pub use self::{
    content::{difference, of_content},
    entry::{Flag, ToggleEntry},
};

/// The toggles of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toggles {
    /// The enabled stages, and the layers that set them.
    pub features: FeatureToggles,
    /// The sparse models that run, by name; `None` means all.
    pub sparse_models: Option<Vec<String>>,
    /// The ceiling of the memory in use on a device.
    pub device_ceiling: MemoryCeiling,
    /// The ceiling of the process's memory on a CPU, in bytes. The spec does not set it.
    pub process_ceiling: Option<u64>,
    /// Tokens of a batch when memory does not limit it; `None` means the default of the device.
    pub batch_tokens: Option<NonZeroUsize>,
    /// Batches in flight on a device; `None` means the default of the device.
    pub workers: Option<NonZeroUsize>,
    /// The largest records and texts of a source.
    pub limits: SourceLimits,
}

/// The largest parts of a source that are held in memory. A larger part is an error, not cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceLimits {
    /// The bytes of a JSON record.
    pub record: u64,
    /// The bytes of a Markdown or text file.
    pub text: u64,
}

impl Default for SourceLimits {
    fn default() -> Self {
        Self { record: 16 << 20, text: 64 << 20 }
    }
}

impl Toggles {
    /// Resolves the toggles of a run from the working directory, the environment, the spec and the `flags`. `ceiling` is the
    /// value of `spec.gpu.memoryCeiling`, which is not part of the configuration.
    ///
    /// # Errors
    /// If a value does not parse, or a layer names an unknown toggle; the error names the source.
    pub fn of_process(config: &RunnerConfig, ceiling: Option<&str>, flags: &[Flag]) -> Result<Self> {
        let folder = Path::new(".");
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let mut entries = layers::of_file(folder, variable(layers::FILE_VARIABLE))?;
        entries.extend(layers::of_dot_env(folder)?);
        entries.extend(layers::of_environment(variable, "env", |name| format!("environment variable {name}")));
        entries.extend(layers::of_spec(&config.toggles, ceiling));
        let flag = |flag: &Flag| ToggleEntry {
            key: flag.key,
            value: flag.value.clone(),
            source: format!("--toggle {}={}", flag.key, flag.value),
            layer: "cli",
        };
        entries.extend(flags.iter().map(flag));
        let toggles = Self::resolve(config, entries)?;
        for entry in &toggles.features.provenance {
            tracing::debug!(key = entry.key, value = entry.value, source = entry.source, layer = entry.layer, "toggle");
        }
        Ok(toggles)
    }

    /// Resolves the entries of the layers, the earliest first. The defaults precede all of them.
    ///
    /// # Errors
    /// If a value does not parse, or names a sparse model that the run does not have.
    pub fn resolve(config: &RunnerConfig, entries: Vec<ToggleEntry>) -> Result<Self> {
        let default = |key, value: String| ToggleEntry { key, value, source: "default".into(), layer: "default" };
        let mut all = vec![
            default("exclusive", "true".into()),
            default("sparse", (!config.sparse.is_empty()).to_string()),
            default("rerank", config.reranker.is_some().to_string()),
            default("metrics", "true".into()),
        ];
        all.extend(entries);
        let mut toggles = Self {
            features: FeatureToggles {
                exclusive: true,
                sparse: false,
                rerank: false,
                metrics: true,
                sources: BTreeMap::new(),
                provenance: Vec::with_capacity(all.len()),
            },
            sparse_models: None,
            device_ceiling: MemoryCeiling::OF_DEVICE,
            process_ceiling: None,
            batch_tokens: None,
            workers: None,
            limits: SourceLimits::default(),
        };
        for entry in all {
            toggles.apply(config, entry)?;
        }
        Ok(toggles)
    }

    /// Parses the value of an entry, sets the toggle and records the entry.
    fn apply(&mut self, config: &RunnerConfig, entry: ToggleEntry) -> Result<()> {
        let ToggleEntry { key, value, source, layer } = entry;
        let invalid = |expected: &str| {
            let message = format!("{source}: {key} is {value:?}, expected {expected}");
            StageError::new(FailureReason::InvalidConfiguration, message)
        };
        let features = &mut self.features;
        let recorded_value = match key {
            "exclusive" | "sparse" | "rerank" | "metrics" => {
                let on = boolean(&value).ok_or_else(|| invalid("true or false"))?;
                match key {
                    "exclusive" => features.exclusive = on,
                    "sparse" => features.sparse = on,
                    "rerank" => features.rerank = on,
                    _ => features.metrics = on,
                }
                on.to_string()
            }
            "sparse_models" => {
                let names: Vec<String> =
                    value.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
                let known: Vec<&str> = config.sparse.iter().map(|model| model.name.as_str()).collect();
                if names.iter().any(|name| !known.contains(&name.as_str())) {
                    return Err(invalid(&format!("names of the run's sparse models ({})", known.join(", "))));
                }
                self.sparse_models = Some(names);
                value
            }
            "memory_ceiling" => {
                let ceiling: MemoryCeiling =
                    value.parse().map_err(|_| invalid("a number of bytes such as 12Gi or 800M, or max"))?;
                self.device_ceiling = ceiling;
                if layer != "spec" {
                    self.process_ceiling = match ceiling {
                        MemoryCeiling::Bytes(bytes) => Some(bytes),
                        MemoryCeiling::Max => None,
                    };
                }
                ceiling.to_string()
            }
            "batch_tokens" => {
                let tokens = value.trim().parse().map_err(|_| invalid("a number of tokens above 0"))?;
                self.batch_tokens = Some(tokens);
                value
            }
            "max_record" | "max_text" => {
                let limit: MemoryCeiling =
                    value.parse().map_err(|_| invalid("a number of bytes such as 16Mi, or max"))?;
                let bytes = match limit {
                    MemoryCeiling::Bytes(bytes) => bytes,
                    MemoryCeiling::Max => u64::MAX,
                };
                *(if key == "max_record" { &mut self.limits.record } else { &mut self.limits.text }) = bytes;
                limit.to_string()
            }
            _ => {
                let workers = value.trim().parse().map_err(|_| invalid("a number of batches above 0"))?;
                self.workers = Some(workers);
                value
            }
        };
        let features = &mut self.features;
        features.sources.insert(key.to_owned(), layer.to_owned());
        features.provenance.push(ToggleResolution {
            key: key.to_owned(),
            value: recorded_value,
            source,
            layer: layer.to_owned(),
        });
        Ok(())
    }

    /// The sparse models that run.
    pub fn sparse_models<'a>(&self, config: &'a RunnerConfig) -> Vec<&'a SparseConfig> {
        let enabled = |model: &&SparseConfig| {
            self.features.sparse && self.sparse_models.as_ref().is_none_or(|names| names.contains(&model.name))
        };
        config.sparse.iter().filter(enabled).collect()
    }

    /// Whether a layer below the spec disabled a stage whose model the run has: the run then does less than its spec requests.
    pub fn switched_off(&self, key: &str, on: bool, has_model: bool) -> bool {
        let layer = self.features.sources.get(key).map(String::as_str);
        !on && has_model && matches!(layer, Some("file" | "dotenv" | "env"))
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crds::{
        contract::{Place, RerankerConfig, RunRef},
        identity::Revision,
        v1alpha1::{FusionSpec, TogglesSpec},
    };

    use super::*;

    /// A run with a sparse model and a reranker.
    fn config() -> RunnerConfig {
        let place = || Place { path: "/m".into(), uri: "file:///m".into() };
        RunnerConfig {
            version: 1,
            run: RunRef { name: "r".into(), ..RunRef::default() },
            revision: Revision::from_recorded("r"),
            identity_sha256: String::new(),
            collections: Vec::new(),
            dense: Vec::new(),
            sparse: vec![SparseConfig {
                name: "splade".into(),
                source: place(),
                max_tokens: None,
                top_k: None,
                threshold: None,
                optional: false,
            }],
            reranker: Some(RerankerConfig { name: "ce".into(), source: place(), max_tokens: None, optional: false }),
            fusion: FusionSpec::default(),
            rerank: None,
            toggles: TogglesSpec::default(),
            output: place(),
        }
    }

    fn entry(key: &'static str, value: &str, layer: &'static str) -> ToggleEntry {
        ToggleEntry { key, value: value.into(), source: format!("{layer}: {key}"), layer }
    }

    #[test]
    fn a_stage_runs_when_its_model_is_given() {
        let toggles = Toggles::resolve(&config(), Vec::new()).expect("toggles");
        assert!(toggles.features.sparse && toggles.features.rerank && toggles.features.metrics);
        let config = RunnerConfig { sparse: Vec::new(), reranker: None, ..config() };
        let toggles = Toggles::resolve(&config, Vec::new()).expect("toggles");
        assert!(!toggles.features.sparse && !toggles.features.rerank);
    }

    #[test]
    fn later_layers_override_and_all_are_recorded() {
        let layers =
            vec![entry("sparse", "false", "file"), entry("sparse", "yes", "env"), entry("sparse", "off", "spec")];
        let toggles = Toggles::resolve(&config(), layers).expect("toggles");
        assert!(!toggles.features.sparse);
        assert_eq!(toggles.features.sources["sparse"], "spec");
        let recorded: Vec<(&str, &str)> = toggles
            .features
            .provenance
            .iter()
            .filter(|entry| entry.key == "sparse")
            .map(|entry| (entry.layer.as_str(), entry.value.as_str()))
            .collect();
        assert_eq!(recorded, [("default", "true"), ("file", "false"), ("env", "true"), ("spec", "false")]);
        assert!(!toggles.switched_off("sparse", false, true), "the spec requests it");
    }

    #[test]
    fn a_stage_that_a_layer_below_the_spec_disables_is_reported() {
        let toggles = Toggles::resolve(&config(), vec![entry("rerank", "0", "env")]).expect("toggles");
        assert!(toggles.switched_off("rerank", toggles.features.rerank, true));
        assert!(!toggles.switched_off("rerank", toggles.features.rerank, false));
    }

    #[test]
    fn toggles_that_change_the_content_differ_by_name_value_and_layer() {
        let content = |entries| {
            let toggles = Toggles::resolve(&config(), entries).expect("toggles");
            toggles.of_content(&config())
        };
        let planned = content(Vec::new());
        assert_eq!(planned.iter().map(|entry| entry.value.as_str()).collect::<Vec<_>>(), ["true", "splade", "true"]);
        let difference = |entries| difference(&planned, &content(entries));
        for same in [
            entry("rerank", "1", "env"),
            entry("sparse_models", " splade ", "env"),
            entry("exclusive", "false", "env"),
            entry("batch_tokens", "7", "cli"),
        ] {
            assert_eq!(difference(vec![same.clone()]), None, "{same:?}");
        }
        let words = difference(vec![entry("sparse", "off", "env")]).expect("another value");
        let expected = "the toggle sparse is \"false\" (env: sparse, layer env), and the plan has \"true\" (default)";
        assert_eq!(words, expected);
        let words = difference(vec![entry("sparse_models", "", "file")]).expect("another list");
        assert!(words.contains("the toggle sparse_models is \"\" (file: sparse_models, layer file)"), "{words}");
        assert!(difference(vec![entry("rerank", "false", "cli")]).is_some());
    }

    #[test]
    fn a_value_that_does_not_parse_names_its_source() {
        for (key, value, words) in [
            ("rerank", "maybe", "expected true or false"),
            ("memory_ceiling", "12 apples", "a number of bytes"),
            ("memory_ceiling", "0", "a number of bytes"),
            ("batch_tokens", "-3", "a number of tokens"),
            ("workers", "0", "a number of batches"),
            ("max_record", "much", "a number of bytes such as 16Mi"),
            ("max_text", "0", "a number of bytes"),
            ("sparse_models", "splade,other", "names of the run's sparse models (splade)"),
        ] {
            let error = Toggles::resolve(&config(), vec![entry(key, value, "env")]).expect_err(value).sentence();
            assert!(error.starts_with(&format!("env: {key}: {key} is {value:?}")) && error.contains(words), "{error}");
        }
    }

    #[test]
    fn the_limits_of_a_source_have_defaults_and_are_set_in_bytes() {
        let limits = |layers: &[(&'static str, &str)]| {
            let entries = layers.iter().map(|(key, value)| entry(key, value, "env")).collect();
            Toggles::resolve(&config(), entries).expect("toggles").limits
        };
        assert_eq!(limits(&[]), SourceLimits { record: 16 << 20, text: 64 << 20 });
        let raised = limits(&[("max_record", "1Gi"), ("max_text", "max")]);
        assert_eq!(raised, SourceLimits { record: 1 << 30, text: u64::MAX });
    }

    #[test]
    fn the_ceiling_of_the_spec_is_for_devices_and_that_of_other_layers_also_for_the_process() {
        let gib = |gib: u64| MemoryCeiling::Bytes(gib << 30);
        let resolved = |layers: &[(&str, &'static str)]| {
            let entries = layers.iter().map(|(value, layer)| entry("memory_ceiling", value, layer)).collect();
            let toggles = Toggles::resolve(&config(), entries).expect("toggles");
            (toggles.device_ceiling, toggles.process_ceiling)
        };
        assert_eq!(resolved(&[]), (gib(12), None));
        assert_eq!(resolved(&[("20Gi", "spec")]), (gib(20), None));
        assert_eq!(resolved(&[("4Gi", "env")]), (gib(4), Some(4 << 30)));
        assert_eq!(resolved(&[("4Gi", "env"), ("max", "spec")]), (MemoryCeiling::Max, Some(4 << 30)));
        assert_eq!(resolved(&[("4Gi", "env"), ("20Gi", "spec"), ("max", "cli")]), (MemoryCeiling::Max, None));
    }

    #[test]
    fn the_ceiling_of_the_spec_is_recorded_and_its_errors_name_the_field() {
        let resolve = |value| Toggles::resolve(&config(), layers::of_spec(&TogglesSpec::default(), Some(value)));
        let features = resolve("12Gi").expect("toggles").features;
        assert_eq!(features.sources["memory_ceiling"], "spec");
        let entry = features.provenance.last().expect("an entry");
        let entry = [&entry.key, &entry.value, &entry.source, &entry.layer].map(String::as_str);
        assert_eq!(entry, ["memory_ceiling", "12884901888", "spec.gpu.memoryCeiling", "spec"]);
        let sentence = resolve("12 apples").expect_err("no ceiling").sentence();
        assert!(sentence.starts_with("spec.gpu.memoryCeiling: memory_ceiling is \"12 apples\""), "{sentence}");
    }
}
