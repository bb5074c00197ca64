//! Which stages run and how, and who said so: defaults → file → `.env` → environment → spec and command line.
//!
//! A later layer overrides an earlier one, and every word of every layer is recorded. The spec in a cluster and the flags
//! on one machine are the same layer, the last; where both speak, the flag does.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use crds::{
    contract::{FailureReason, RunnerConfig, SparseConfig},
    memory::MemoryCeiling,
    summary::{FeatureToggles, ToggleResolution},
    v1alpha1::TogglesSpec,
};
use serde_json::Value;

use crate::process::error::{Result, StageError};

/// The names that a file of toggles may have.
const FILES: [&str; 3] = ["embedder.json", "embedder.yaml", "embedder.yml"];
/// The variable that names another file.
const FILE_VARIABLE: &str = "EMBEDRUN_CONFIG_FILE";

/// A toggle: its key in files, on the command line and in the summary, and its variable.
struct Toggle {
    key: &'static str,
    variable: &'static str,
}

/// Every toggle. The variables of the Python pipeline keep their names.
const TOGGLES: [Toggle; 8] = [
    Toggle { key: "exclusive", variable: "EMBEDRUN_EXCLUSIVE" },
    Toggle { key: "sparse", variable: "EMBEDDER_ENABLE_SPARSE" },
    Toggle { key: "rerank", variable: "EMBEDDER_ENABLE_RERANK" },
    Toggle { key: "metrics", variable: "EMBEDDER_METRICS_ENABLED" },
    Toggle { key: "sparse_models", variable: "EMBEDDER_SPARSE_MODELS" },
    Toggle { key: "memory_ceiling", variable: "EMBEDRUN_MEMORY_CEILING" },
    Toggle { key: "batch_tokens", variable: "EMBEDRUN_BATCH_TOKENS" },
    Toggle { key: "workers", variable: "EMBEDRUN_WORKERS" },
];

/// The toggles of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toggles {
    /// The stages, and who said so.
    pub features: FeatureToggles,
    /// The sparse models that run, by name; all when nobody says otherwise.
    pub sparse_models: Option<Vec<String>>,
    /// What the memory in use of a device stays under.
    pub device_ceiling: MemoryCeiling,
    /// What the process stays under where it computes on a CPU, in bytes. The spec says nothing of it.
    pub process_ceiling: Option<u64>,
    /// Tokens of a batch, when memory is no matter; the device decides when nobody says.
    pub batch_tokens: Option<NonZeroUsize>,
    /// Batches that a device has at work; the device decides when nobody says.
    pub workers: Option<NonZeroUsize>,
}

/// What a layer says about a toggle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    key: &'static str,
    value: String,
    source: String,
    layer: &'static str,
}

/// A `KEY=VALUE` of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    key: &'static str,
    value: String,
}

impl std::str::FromStr for Flag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
        let key = known(key).ok_or_else(|| format!("there is no toggle {key:?}; there are: {}", keys()))?;
        Ok(Self { key, value: value.to_owned() })
    }
}

impl Toggles {
    /// The toggles of a run in this process: of the working directory, the environment, the spec and the `flags`.
    /// `ceiling` is what `spec.gpu.memoryCeiling` says, which is no part of the configuration.
    ///
    /// # Errors
    /// If a value does not parse, or a layer names what is not there; the error names the source.
    pub fn of_process(config: &RunnerConfig, ceiling: Option<&str>, flags: &[Flag]) -> Result<Self> {
        let folder = Path::new(".");
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let mut said = file(folder, variable(FILE_VARIABLE))?;
        said.extend(dot_env(folder)?);
        said.extend(of_environment(variable, "env", |name| format!("environment variable {name}")));
        said.extend(of_spec(&config.toggles, ceiling));
        let flag = |flag: &Flag| Said {
            key: flag.key,
            value: flag.value.clone(),
            source: format!("--toggle {}={}", flag.key, flag.value),
            layer: "cli",
        };
        said.extend(flags.iter().map(flag));
        let toggles = Self::resolve(config, said)?;
        for said in &toggles.features.provenance {
            tracing::debug!(key = said.key, value = said.value, source = said.source, layer = said.layer, "toggle");
        }
        Ok(toggles)
    }

    /// Resolves what the layers say, the earliest first; the defaults come before all of them.
    ///
    /// # Errors
    /// If a value does not parse, or names a sparse model that the run does not have.
    pub fn resolve(config: &RunnerConfig, said: Vec<Said>) -> Result<Self> {
        let default = |key, value: String| Said { key, value, source: "default".into(), layer: "default" };
        let mut all = vec![
            default("exclusive", "true".into()),
            default("sparse", (!config.sparse.is_empty()).to_string()),
            default("rerank", config.reranker.is_some().to_string()),
            default("metrics", "true".into()),
        ];
        all.extend(said);
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
        };
        for said in all {
            toggles.take(config, said)?;
        }
        Ok(toggles)
    }

    fn take(&mut self, config: &RunnerConfig, said: Said) -> Result<()> {
        let Said { key, value, source, layer } = said;
        let wrong = |expected: &str| {
            let message = format!("{source}: {key} is {value:?}, expected {expected}");
            StageError::new(FailureReason::InvalidConfiguration, message)
        };
        let features = &mut self.features;
        let value_said = match key {
            "exclusive" | "sparse" | "rerank" | "metrics" => {
                let on = boolean(&value).ok_or_else(|| wrong("true or false"))?;
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
                    return Err(wrong(&format!("names of the run's sparse models ({})", known.join(", "))));
                }
                self.sparse_models = Some(names);
                value
            }
            "memory_ceiling" => {
                let ceiling: MemoryCeiling =
                    value.parse().map_err(|_| wrong("a number of bytes such as 12Gi or 800M, or max"))?;
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
                let tokens = value.trim().parse().map_err(|_| wrong("a number of tokens above 0"))?;
                self.batch_tokens = Some(tokens);
                value
            }
            _ => {
                let workers = value.trim().parse().map_err(|_| wrong("a number of batches above 0"))?;
                self.workers = Some(workers);
                value
            }
        };
        let features = &mut self.features;
        features.sources.insert(key.to_owned(), layer.to_owned());
        features.provenance.push(ToggleResolution {
            key: key.to_owned(),
            value: value_said,
            source,
            layer: layer.to_owned(),
        });
        Ok(())
    }

    /// The sparse models that run.
    pub fn sparse_models<'a>(&self, config: &'a RunnerConfig) -> Vec<&'a SparseConfig> {
        let wanted = |model: &&SparseConfig| {
            self.features.sparse && self.sparse_models.as_ref().is_none_or(|names| names.contains(&model.name))
        };
        config.sparse.iter().filter(wanted).collect()
    }

    /// Whether a layer below the spec switched a stage off whose model the run has: less is done than was asked.
    pub fn switched_off(&self, key: &str, on: bool, has_model: bool) -> bool {
        let by = self.features.sources.get(key).map(String::as_str);
        !on && has_model && matches!(by, Some("file" | "dotenv" | "env"))
    }
}

fn known(key: &str) -> Option<&'static str> {
    TOGGLES.iter().map(|toggle| toggle.key).find(|known| *known == key)
}

fn keys() -> String {
    TOGGLES.map(|toggle| toggle.key).join(", ")
}

fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn of_spec(spec: &TogglesSpec, ceiling: Option<&str>) -> Vec<Said> {
    let TogglesSpec { exclusive, sparse, rerank, metrics } = spec;
    let values = [("exclusive", exclusive), ("sparse", sparse), ("rerank", rerank), ("metrics", metrics)];
    let said = |(key, value): (&'static str, &Option<bool>)| {
        let value = (*value)?.to_string();
        Some(Said { key, value, source: format!("spec.toggles.{key}"), layer: "spec" })
    };
    let ceiling = ceiling.map(|value| Said {
        key: "memory_ceiling",
        value: value.to_owned(),
        source: "spec.gpu.memoryCeiling".into(),
        layer: "spec",
    });
    values.into_iter().filter_map(said).chain(ceiling).collect()
}

fn of_environment(
    variable: impl Fn(&str) -> Option<String>,
    layer: &'static str,
    source: impl Fn(&str) -> String,
) -> Vec<Said> {
    let said = |toggle: &Toggle| {
        let value = variable(toggle.variable)?;
        Some(Said { key: toggle.key, value, source: source(toggle.variable), layer })
    };
    TOGGLES.iter().filter_map(said).collect()
}

/// The file of toggles: that which is named, or the one that lies in the folder.
fn file(folder: &Path, named: Option<String>) -> Result<Vec<Said>> {
    let invalid = |message: String| StageError::new(FailureReason::InvalidConfiguration, message);
    let lying = FILES.iter().map(|name| folder.join(name)).filter(|path| path.exists());
    let found: Vec<PathBuf> = named.map_or_else(|| lying.collect(), |path| vec![path.into()]);
    let path = match &found[..] {
        [] => return Ok(Vec::new()),
        [path] => path,
        [one, other, ..] => {
            return Err(invalid(format!("{} and {} are both there: keep one", one.display(), other.display())));
        }
    };
    let name = path.display().to_string();
    let text =
        std::fs::read_to_string(path).map_err(|error| invalid(format!("cannot read {name}")).caused_by(error))?;
    // JSON is YAML.
    let value: Value =
        serde_yaml_ng::from_str(&text).map_err(|error| invalid(format!("{name} cannot be read")).caused_by(error))?;
    let Value::Object(fields) = value else {
        return Err(invalid(format!("{name} is no map of toggles; there are: {}", keys())));
    };
    let mut said = Vec::with_capacity(fields.len());
    for (field, value) in fields {
        let key = known(&field)
            .ok_or_else(|| invalid(format!("{name}: there is no toggle {field:?}; there are: {}", keys())))?;
        let value = scalar(&value)
            .ok_or_else(|| invalid(format!("{name}: {field} is {value}, expected a value or a list of names")))?;
        said.push(Said { key, value, source: format!("{name}: {field}"), layer: "file" });
    }
    Ok(said)
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(value) => Some(value.to_string()),
        Value::String(value) => Some(value.clone()),
        Value::Array(items) => Some(items.iter().map(|item| item.as_str()).collect::<Option<Vec<_>>>()?.join(",")),
        Value::Null | Value::Object(_) => None,
    }
}

/// The toggles in `.env`; what else stands there is somebody else's.
fn dot_env(folder: &Path) -> Result<Vec<Said>> {
    let path = folder.join(".env");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let name = path.display().to_string();
    let unreadable = |error: dotenvy::Error| {
        StageError::new(FailureReason::InvalidConfiguration, format!("{name} cannot be read")).caused_by(error)
    };
    let variables: BTreeMap<String, String> =
        dotenvy::from_path_iter(&path).map_err(unreadable)?.collect::<Result<_, _>>().map_err(unreadable)?;
    let variable = |wanted: &str| variables.get(wanted).filter(|value| !value.trim().is_empty()).cloned();
    Ok(of_environment(variable, "dotenv", |variable| format!("{name}: {variable}")))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crds::{
        contract::{Place, RerankerConfig, RunRef},
        identity::Revision,
        v1alpha1::FusionSpec,
    };

    use super::*;

    /// A run with a sparse model and a reranker.
    fn config() -> RunnerConfig {
        let place = || Place { path: "/m".into(), uri: "file:///m".into() };
        RunnerConfig {
            version: 1,
            run: RunRef { namespace: String::new(), name: "r".into() },
            revision: Revision::from_recorded("r"),
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

    fn said(key: &'static str, value: &str, layer: &'static str) -> Said {
        Said { key, value: value.into(), source: format!("{layer}: {key}"), layer }
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
        let layers = vec![said("sparse", "false", "file"), said("sparse", "yes", "env"), said("sparse", "off", "spec")];
        let toggles = Toggles::resolve(&config(), layers).expect("toggles");
        assert!(!toggles.features.sparse);
        assert_eq!(toggles.features.sources["sparse"], "spec");
        let said: Vec<(&str, &str)> = toggles
            .features
            .provenance
            .iter()
            .filter(|said| said.key == "sparse")
            .map(|said| (said.layer.as_str(), said.value.as_str()))
            .collect();
        assert_eq!(said, [("default", "true"), ("file", "false"), ("env", "true"), ("spec", "false")]);
        assert!(!toggles.switched_off("sparse", false, true), "the spec asked for it");
    }

    #[test]
    fn what_a_layer_below_the_spec_switches_off_is_less_than_was_asked() {
        let toggles = Toggles::resolve(&config(), vec![said("rerank", "0", "env")]).expect("toggles");
        assert!(toggles.switched_off("rerank", toggles.features.rerank, true));
        assert!(!toggles.switched_off("rerank", toggles.features.rerank, false));
    }

    #[test]
    fn a_value_that_does_not_parse_names_its_source() {
        for (key, value, words) in [
            ("rerank", "maybe", "expected true or false"),
            ("memory_ceiling", "12 apples", "a number of bytes"),
            ("memory_ceiling", "0", "a number of bytes"),
            ("batch_tokens", "-3", "a number of tokens"),
            ("workers", "0", "a number of batches"),
            ("sparse_models", "splade,other", "names of the run's sparse models (splade)"),
        ] {
            let error = Toggles::resolve(&config(), vec![said(key, value, "env")]).expect_err(value).sentence();
            assert!(error.starts_with(&format!("env: {key}: {key} is {value:?}")) && error.contains(words), "{error}");
        }
    }

    #[test]
    fn the_ceiling_of_the_spec_is_that_of_a_device_and_what_others_say_is_that_of_the_process_too() {
        let gib = |gib: u64| MemoryCeiling::Bytes(gib << 30);
        let resolved = |layers: &[(&str, &'static str)]| {
            let said = layers.iter().map(|(value, layer)| said("memory_ceiling", value, layer)).collect();
            let toggles = Toggles::resolve(&config(), said).expect("toggles");
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
        let resolve = |value| Toggles::resolve(&config(), of_spec(&TogglesSpec::default(), Some(value)));
        let features = resolve("12Gi").expect("toggles").features;
        assert_eq!(features.sources["memory_ceiling"], "spec");
        let said = features.provenance.last().expect("a word");
        let said = [&said.key, &said.value, &said.source, &said.layer].map(String::as_str);
        assert_eq!(said, ["memory_ceiling", "12884901888", "spec.gpu.memoryCeiling", "spec"]);
        let sentence = resolve("12 apples").expect_err("no ceiling").sentence();
        assert!(sentence.starts_with("spec.gpu.memoryCeiling: memory_ceiling is \"12 apples\""), "{sentence}");
    }

    #[test]
    fn files_and_dot_env_are_layers() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(file(folder.path(), None).expect("no file"), []);
        fs::write(folder.path().join("embedder.yaml"), "sparse: false\nsparse_models: [a, b]\nbatch_tokens: 512\n")
            .expect("written");
        fs::write(folder.path().join(".env"), "# ours\nEMBEDDER_ENABLE_RERANK=false\nOTHER=1\n").expect("written");
        let said = file(folder.path(), None).expect("a file");
        let values: Vec<(&str, &str)> = said.iter().map(|said| (said.key, said.value.as_str())).collect();
        assert_eq!(values, [("batch_tokens", "512"), ("sparse", "false"), ("sparse_models", "a,b")]);
        assert!(said[1].source.ends_with("embedder.yaml: sparse"), "{}", said[0].source);
        let said = dot_env(folder.path()).expect("a file");
        assert_eq!((said.len(), said[0].key, said[0].layer), (1, "rerank", "dotenv"));
        fs::write(folder.path().join("embedder.json"), "{\"rerank\": true}").expect("written");
        assert!(file(folder.path(), None).expect_err("two").sentence().contains("keep one"));
    }

    #[test]
    fn files_that_say_something_else_are_refused_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("embedder.json");
        let named = || Some(path.display().to_string());
        for (text, words) in [
            ("{\"reranking\": true}", "there is no toggle \"reranking\""),
            ("[true]", "is no map of toggles"),
            ("{\"rerank\": {\"on\": true}}", "expected a value or a list"),
            ("{\"rerank\": ", "cannot be read"),
        ] {
            fs::write(&path, text).expect("written");
            let sentence = file(folder.path(), named()).expect_err(text).sentence();
            assert!(sentence.contains("embedder.json") && sentence.contains(words), "{sentence}");
        }
        let missing = file(folder.path(), Some("/nowhere.yaml".into())).expect_err("missing").sentence();
        assert!(missing.contains("/nowhere.yaml"), "{missing}");
    }

    #[test]
    fn flags_are_known_toggles() {
        assert_eq!("rerank=false".parse(), Ok(Flag { key: "rerank", value: "false".into() }));
        assert!("reranking=false".parse::<Flag>().expect_err("unknown").contains("sparse_models"));
        assert!("rerank".parse::<Flag>().is_err());
    }
}
