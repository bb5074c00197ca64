//! An `EmbeddingRun` manifest on one machine: reads it strictly, validates it as the API server would, and resolves it to
//! folders.

use std::{collections::BTreeMap, path::Path, str::FromStr};

use crds::{
    contract::{RunRef, RunnerConfig},
    resolve::{self, Purpose, ResolveError, Volume, Volumes},
    v1alpha1::EmbeddingRun,
    validation,
};
use serde::Deserialize;

use super::{invalid, schema};
use crate::process::error::Result;

const API_VERSION: &str = "embedrun.dev/v1alpha1";
const KIND: &str = "EmbeddingRun";

/// A manifest that has passed every check that can be made without a cluster.
#[derive(Debug)]
pub struct Manifest {
    /// The resource.
    pub run: EmbeddingRun,
    file: String,
}

impl Manifest {
    /// Reads and checks a manifest.
    pub fn load(path: &Path) -> Result<Self> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| invalid(format!("cannot read the manifest {file}")).caused_by(error))?;
        Self::parse(&text, &file)
    }

    /// Checks the text of a manifest; `file` is its name in messages.
    pub fn parse(text: &str, file: &str) -> Result<Self> {
        let run = read_strictly(text, file)?;
        if run.metadata.name.is_none() {
            return Err(invalid(format!("{file}: metadata.name is missing")));
        }
        // These checks have better messages than the patterns of the schema, so they come first.
        resolve::models(&run.spec).map_err(|error| invalid(format!("{file}: {error}")))?;
        if let Some(message) = validation::memory_ceiling(&run.spec) {
            return Err(invalid(format!("{file}: {message}")));
        }
        let mut violations = schema::violations(&run);
        if violations.is_empty()
            && let Err(errors) = run.validate_cel()
        {
            violations = errors.as_slice().iter().map(|error| message_at(&error.field_path, &error.message)).collect();
        }
        if !violations.is_empty() {
            return Err(invalid(format!("{file}: {}", violations.join("; "))));
        }
        let missing = validation::not_implemented(&run.spec);
        if !missing.is_empty() {
            return Err(invalid(format!(
                "{file}: not implemented yet: {}; remove it or choose another value",
                missing.join(", ")
            )));
        }
        Ok(Self { run, file: file.to_owned() })
    }

    /// The configuration of the run, with its volumes at the folders of the user.
    pub fn resolve(&self, volumes: &LocalVolumes) -> Result<RunnerConfig> {
        let metadata = &self.run.metadata;
        let run = RunRef {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
        };
        resolve::resolve(run, &self.run.spec, volumes).map_err(|error| invalid(format!("{}: {error}", self.file)))
    }
}

/// Reads exactly one document; a field that the API does not have is an error, not ignored.
fn read_strictly(text: &str, file: &str) -> Result<EmbeddingRun> {
    let documents = serde_yaml_ng::Deserializer::from_str(text)
        .map(serde_yaml_ng::Value::deserialize)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| invalid(format!("{file} is not valid YAML")).caused_by(error))?;
    let non_empty: Vec<usize> = (0..documents.len()).filter(|&index| !documents[index].is_null()).collect();
    let [index] = non_empty[..] else {
        return Err(invalid(format!(
            "{file} holds {} documents, expected one EmbeddingRun: put each resource into its own file",
            non_empty.len()
        )));
    };
    expect_kind(&documents[index], file)?;
    // From the text again and not from the value, so that errors carry line and column.
    let document = serde_yaml_ng::Deserializer::from_str(text).nth(index).expect("the document was read before");
    let mut unknown = Vec::new();
    let run: EmbeddingRun = serde_ignored::deserialize(document, |path| unknown.push(dotted(&path)))
        .map_err(|error| invalid(file.to_owned()).caused_by(error))?;
    // The type has no fields for these two; expect_kind has checked them.
    unknown.retain(|field: &String| !["apiVersion", "kind"].contains(&field.as_str()));
    if !unknown.is_empty() {
        return Err(invalid(format!("{file}: unknown field {}", unknown.join(", "))));
    }
    Ok(run)
}

fn expect_kind(document: &serde_yaml_ng::Value, file: &str) -> Result<()> {
    let text = |field: &str| document.get(field).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
    let actual = (text("apiVersion"), text("kind"));
    let expected = (API_VERSION.to_owned(), KIND.to_owned());
    if actual == expected {
        return Ok(());
    }
    Err(invalid(format!(
        "{file}: has apiVersion {:?} and kind {:?}, expected {:?} and {:?}",
        actual.0, actual.1, expected.0, expected.1
    )))
}

/// A path as users write it: `spec.models.dense[0].name`.
fn dotted(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", dotted(parent)),
        Path::Map { parent, key } => match dotted(parent) {
            parent if parent.is_empty() => key.clone(),
            parent => format!("{parent}.{key}"),
        },
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => dotted(parent),
    }
}

fn message_at(path: &str, message: &str) -> String {
    if path.is_empty() { message.to_owned() } else { format!("{path}: {message}") }
}

/// The folders of a manifest's volumes on this machine.
#[derive(Clone, Debug, Default)]
pub struct LocalVolumes {
    claims: BTreeMap<String, String>,
    config_maps: BTreeMap<String, String>,
    sources_unused: bool,
}

impl LocalVolumes {
    /// The same volumes for a command that reads no source: a source without a folder is not an error.
    #[must_use]
    pub fn without_sources(self) -> Self {
        Self { sources_unused: true, ..self }
    }
}

/// One `--volume`: `CLAIM=FOLDER`, or `configmap/NAME=FOLDER`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeMapping {
    name: String,
    folder: String,
}

impl FromStr for VolumeMapping {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, folder) = text.split_once('=').ok_or("write CLAIM=FOLDER")?;
        if name.is_empty() || folder.is_empty() {
            return Err("write CLAIM=FOLDER".into());
        }
        let folder = std::path::absolute(folder).map_err(|error| error.to_string())?;
        let folder = folder.to_str().ok_or("the folder's name is not UTF-8")?;
        Ok(Self { name: name.to_owned(), folder: folder.to_owned() })
    }
}

impl FromIterator<VolumeMapping> for LocalVolumes {
    fn from_iter<T: IntoIterator<Item = VolumeMapping>>(mappings: T) -> Self {
        let mut volumes = Self::default();
        for VolumeMapping { name, folder } in mappings {
            match name.strip_prefix("configmap/") {
                Some(name) => volumes.config_maps.insert(name.to_owned(), folder),
                None => volumes.claims.insert(name, folder),
            };
        }
        volumes
    }
}

impl Volumes for LocalVolumes {
    fn root(&self, purpose: Purpose, volume: Volume<'_>) -> Result<String, ResolveError> {
        let (folder, volume, option) = match volume {
            Volume::HostPath(path) => return Ok(path.to_owned()),
            Volume::Claim(name) => (self.claims.get(name), format!("the claim {name:?}"), name.to_owned()),
            Volume::ConfigMap(name) => {
                (self.config_maps.get(name), format!("the ConfigMap {name:?}"), format!("configmap/{name}"))
            }
        };
        let field = match purpose {
            Purpose::Source(index) => format!("spec.collections[{index}].source"),
            Purpose::DenseModel(index) => format!("spec.models.dense[{index}].source"),
            Purpose::SparseModel(index) => format!("spec.models.sparse[{index}].source"),
            Purpose::Reranker => "spec.models.reranker.source".into(),
            Purpose::Queries => "spec.rerank.queries".into(),
            Purpose::Output => "spec.output".into(),
        };
        if self.sources_unused && !matches!(purpose, Purpose::DenseModel(_) | Purpose::Output) {
            return Ok(folder.cloned().unwrap_or_default());
        }
        let message = format!("no folder for {volume}: add --volume {option}=FOLDER");
        folder.cloned().ok_or(ResolveError::Volume { field, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "\
apiVersion: embedrun.dev/v1alpha1
kind: EmbeddingRun
metadata: {name: handbook}
spec:
  collections:
    - name: docs
      source: {pvc: {claimName: chunks, path: docs}}
  models:
    dense: [{name: minilm, source: \"pvc://models/minilm\"}]
  output: {hostPath: {path: /out}}
";

    fn rejected(text: &str) -> String {
        Manifest::parse(text, "run.yaml").expect_err("rejected").sentence()
    }

    #[test]
    fn a_minimal_manifest_is_resolved_to_folders() {
        let manifest = Manifest::parse(MINIMAL, "run.yaml").expect("a manifest");
        let mappings = ["chunks=/data/chunks", "models=/data/models"].map(|text| text.parse().expect(text));
        let config = manifest.resolve(&mappings.into_iter().collect()).expect("resolved");
        assert_eq!(config.collections[0].source.path, "/data/chunks/docs");
        assert_eq!(config.dense[0].source.path, "/data/models/minilm");
        assert_eq!(config.output.path, "/out");
    }

    #[test]
    fn a_claim_without_a_folder_is_named_with_the_option_to_set_one() {
        let manifest = Manifest::parse(MINIMAL, "run.yaml").expect("a manifest");
        let sentence = manifest.resolve(&LocalVolumes::default()).expect_err("no folder").sentence();
        assert_eq!(
            sentence,
            "run.yaml: spec.collections[0].source: no folder for the claim \"chunks\": add --volume chunks=FOLDER"
        );
    }

    #[test]
    fn an_unknown_field_is_named_by_its_path() {
        let sentence = rejected(&MINIMAL.replace("name: docs", "name: docs\n      formt: Text"));
        assert_eq!(sentence, "run.yaml: unknown field spec.collections[0].formt");
        let sentence = rejected(&MINIMAL.replace("{name: handbook}", "{name: handbook, lables: {}}"));
        assert!(sentence.contains("metadata.lables"), "{sentence}");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_named_with_path_and_line() {
        let sentence = rejected(&MINIMAL.replace("name: minilm,", "name: minilm, weight: heavy,"));
        assert!(sentence.contains("spec.models.dense[0].weight") && sentence.contains("line 9"), "{sentence}");
    }

    #[test]
    fn several_documents_none_and_other_kinds_are_rejected() {
        assert!(rejected(&format!("{MINIMAL}---\n{MINIMAL}")).contains("holds 2 documents"));
        assert!(rejected("# nothing\n").contains("holds 0 documents"));
        assert!(Manifest::parse(&format!("---\n{MINIMAL}---\n"), "run.yaml").is_ok());
        let sentence = rejected(&MINIMAL.replace("kind: EmbeddingRun", "kind: ConfigMap"));
        assert!(sentence.contains("\"ConfigMap\"") && sentence.contains("\"EmbeddingRun\""), "{sentence}");
    }

    #[test]
    fn rules_of_the_schema_hold_without_a_cluster() {
        let cases = [
            ("{name: handbook}", "{}", "run.yaml: metadata.name is missing"),
            ("\"pvc://models/minilm\"", "minilm", "write hf://owner/name@revision, pvc://claim/path or file:///path"),
            ("name: docs", "name: Docs", "spec.collections[0].name"),
            ("{name: handbook}", "{name: hand.book}", "metadata.name must be a DNS label"),
            ("name: minilm,", "name: text,", "this name is a column of the output"),
            ("name: minilm,", "name: minilm, weight: 0,", "weight must be greater than 0"),
            ("name: minilm,", "name: minilm, maxTokens: 1,", "spec.models.dense[0].maxTokens"),
            ("{hostPath: {path: /out}}", "{}", "exactly one of pvc, hostPath, objectStore must be given"),
            ("{hostPath: {path: /out}}", "{hostPath: {path: out}}", "path must be absolute"),
            ("output:", "toggles: {rerank: true}\n  output:", "models.reranker is not given"),
            (
                "output:",
                "gpu: {memoryCeiling: 12GB}\n  output:",
                "spec.gpu.memoryCeiling is \"12GB\": write a number of bytes",
            ),
        ];
        for (from, to, expected) in cases {
            let sentence = rejected(&MINIMAL.replacen(from, to, 1));
            assert!(sentence.contains(expected), "{to}: {sentence}");
        }
    }

    #[test]
    fn a_field_that_is_not_implemented_is_rejected_by_its_path() {
        let sentence = rejected(&MINIMAL.replace("output:", "processing: Incremental\n  output:"));
        assert_eq!(sentence, "run.yaml: not implemented yet: spec.processing; remove it or choose another value");
    }
}
