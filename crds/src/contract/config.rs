//! The configuration that the operator gives to the runner.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    identity::Revision,
    layout,
    v1alpha1::{Dtype, FieldMapping, Format, FusionSpec, GateSpec, Pooling, Precision, Prompts, TogglesSpec},
};

/// The configuration of a runner: the identity fields of a run, with every location resolved to a path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunnerConfig {
    /// [`CONTRACT_VERSION`](super::interface::CONTRACT_VERSION).
    pub version: u32,
    /// The run.
    pub run: RunRef,
    /// The revision to compute.
    pub revision: Revision,
    /// The sha256 of the canonical identity, in hexadecimal, whose first digits are the revision; empty in
    /// configurations of earlier releases.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub identity_sha256: String,
    /// The collections to embed.
    pub collections: Vec<CollectionConfig>,
    /// The dense encoders (the ensemble), in order.
    pub dense: Vec<DenseConfig>,
    /// The sparse encoders, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sparse: Vec<SparseConfig>,
    /// The cross-encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reranker: Option<RerankerConfig>,
    /// The fusion of vectors and of candidates.
    #[serde(default, skip_serializing_if = "FusionSpec::is_unset")]
    pub fusion: FusionSpec,
    /// Queries, candidates and the quality gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerank: Option<RerankConfig>,
    /// The toggles that the spec sets. The runner resolves and records the others.
    #[serde(default, skip_serializing_if = "TogglesSpec::is_unset")]
    pub toggles: TogglesSpec,
    /// The location of the results.
    pub output: Place,
}

/// The name of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunRef {
    /// Its namespace; empty outside a cluster.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The uid of its resource; empty outside a cluster.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

impl RunRef {
    /// Whether both name the same run. A run that was deleted and created again is the same run with another uid.
    pub fn is_same_run(&self, other: &Self) -> bool {
        (&self.namespace, &self.name) == (&other.namespace, &other.name)
    }
}

impl fmt::Display for RunRef {
    /// `namespace/name`, or the name alone outside a cluster.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// A location: the path for the process and the URI for the user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Place {
    /// The absolute path; empty for a hub model, which the runner fetches by its URI.
    pub path: String,
    /// The URI for users and messages, for example `pvc://vectors/handbook`.
    pub uri: String,
}

impl Place {
    /// The URI of `relative` below this location.
    pub fn uri_of(&self, relative: &str) -> String {
        format!("{}/{relative}", self.uri.trim_end_matches('/'))
    }

    /// The path of the volume that holds this location, and the location relative to it. The author of a volume decides
    /// what lies below it, links included, so a reader must not leave it. A `file://` location is a volume of its own.
    pub fn volume(&self) -> (&str, &str) {
        let on_volume = ["pvc://", "configmap://"].iter().find_map(|scheme| self.uri.strip_prefix(scheme));
        let relative = on_volume.and_then(|on_volume| on_volume.split_once('/')).map_or("", |(_, relative)| relative);
        let relative = relative.trim_end_matches('/');
        match self.path.strip_suffix(relative).and_then(|root| root.strip_suffix('/')) {
            Some(root) if !relative.is_empty() => (root, relative),
            _ => (&self.path, ""),
        }
    }
}

/// A collection to embed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CollectionConfig {
    /// Its name.
    pub name: String,
    /// Its files.
    pub source: Place,
    /// The format of its files.
    pub format: Format,
    /// The record fields that hold the id, the text and the metadata.
    pub fields: FieldMapping,
}

/// A dense model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DenseConfig {
    /// Its name, which is also the name of its vector column.
    pub name: String,
    /// Its folder. The path of a hub model (`hf://repo@revision`) is empty: the runner fetches it.
    pub source: Place,
    /// The pooling, if the spec overrides the model folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    /// The longest sequence in tokens, if the spec overrides the model folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// The texts before queries and documents, if the spec overrides the model folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<Prompts>,
    /// The number of dimensions that vectors are truncated to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<u32>,
    /// The type of the arithmetic; `None` means the default of the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<Dtype>,
    /// The type of the stored vectors; `None` means F32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// The weight of the model in the fused vector, relative to the other models.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: f64,
    /// Whether the run continues without the model if the model cannot be used.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// A sparse model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SparseConfig {
    /// Its name, which is also the prefix of its column names.
    pub name: String,
    /// Its folder; the path of a hub model is empty.
    pub source: Place,
    /// The longest sequence in tokens, if the spec overrides the model folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// The number of terms kept per chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Terms with a weight above this are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// Whether the run continues without the model if the model cannot be used.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// A cross-encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RerankerConfig {
    /// Its name.
    pub name: String,
    /// Its folder; the path of a hub model is empty.
    pub source: Place,
    /// The longest pair in tokens, if the spec overrides the model folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Whether the run continues without the model if the model cannot be used.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// Queries, candidates and the quality gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RerankConfig {
    /// The file of the queries; `None` probes each collection with its own headings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queries: Option<Place>,
    /// The number of candidates per query that the cross-encoder scores.
    pub candidates: u32,
    /// The number of candidates per query that are kept.
    pub top_k: u32,
    /// The quality gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateSpec>,
}

impl RerankConfig {
    /// The default of [`candidates`](Self::candidates).
    pub const CANDIDATES: u32 = 100;
    /// The default of [`top_k`](Self::top_k).
    pub const TOP_K: u32 = 10;
}

impl Default for RerankConfig {
    fn default() -> Self {
        Self { queries: None, candidates: Self::CANDIDATES, top_k: Self::TOP_K, gate: None }
    }
}

fn one() -> f64 {
    1.0
}

// serde passes a reference; the default weight is exactly 1.
#[allow(clippy::trivially_copy_pass_by_ref, clippy::float_cmp)]
fn is_one(weight: &f64) -> bool {
    *weight == 1.0
}

impl RunnerConfig {
    /// The content of the configuration file.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a configuration has string keys and finite numbers")
    }

    /// The URI of the run's summary.
    pub fn run_summary_uri(&self) -> String {
        self.output.uri_of(&layout::run_summary(&self.revision))
    }

    /// The URI of a collection's summary.
    pub fn collection_summary_uri(&self, collection: &str) -> String {
        self.output.uri_of(&layout::collection_summary(&self.revision, collection))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_volume_of_a_place_is_the_part_of_its_path_that_the_spec_does_not_name() {
        for (path, uri, volume) in [
            ("/embedrun/volumes/dense-0/bge/v1", "pvc://models/bge/v1", ("/embedrun/volumes/dense-0", "bge/v1")),
            ("/srv/q/q.jsonl", "configmap://queries/q.jsonl", ("/srv/q", "q.jsonl")),
            ("/embedrun/volumes/source-0", "pvc://chunks", ("/embedrun/volumes/source-0", "")),
            ("/embedrun/volumes/source-0", "pvc://chunks/", ("/embedrun/volumes/source-0", "")),
            ("/srv/handbook", "file:///srv/handbook", ("/srv/handbook", "")),
            ("/elsewhere", "pvc://chunks/x", ("/elsewhere", "")),
            ("", "hf://owner/model@main", ("", "")),
        ] {
            assert_eq!(Place { path: path.into(), uri: uri.into() }.volume(), volume, "{uri}");
        }
    }
}
