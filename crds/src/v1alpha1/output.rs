//! The output: its location and its formats.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::collection::{HostPathVolume, ObjectStoreVolume, PvcVolume};

/// The location and the formats of the results.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.pvc), has(self.hostPath), has(self.objectStore)].filter(x, x).size() == 1").message("exactly one of pvc, hostPath, objectStore must be given"))]
#[x_kube(validation = Rule::new("has(self.pvc) == has(oldSelf.pvc) && (!has(self.pvc) || self.pvc == oldSelf.pvc)").message("the location of the output is immutable: create another EmbeddingRun for another location").field_path(".pvc"))]
#[x_kube(validation = Rule::new("has(self.hostPath) == has(oldSelf.hostPath) && (!has(self.hostPath) || self.hostPath == oldSelf.hostPath)").message("the location of the output is immutable: create another EmbeddingRun for another location").field_path(".hostPath"))]
#[x_kube(validation = Rule::new("has(self.objectStore) == has(oldSelf.objectStore) && (!has(self.objectStore) || self.objectStore.url == oldSelf.objectStore.url)").message("the location of the output is immutable: create another EmbeddingRun for another location").field_path(".objectStore"))]
pub struct OutputSpec {
    /// A folder of a persistent volume claim in the namespace of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pvc: Option<PvcVolume>,
    /// A folder of the node. For single-node clusters and tests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_path: Option<HostPathVolume>,
    /// A prefix of a bucket. Not implemented yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_store: Option<ObjectStoreVolume>,
    /// The formats of the exported vectors. Default `[Parquet]`; `QdrantJsonLines` is not implemented yet.
    #[serde(default = "default_formats")]
    #[schemars(length(min = 1, max = 8))]
    pub formats: Vec<OutputFormat>,
    /// The Qdrant collection to publish the vectors to. Not implemented yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qdrant: Option<QdrantSpec>,
}

/// A format of the exported vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum OutputFormat {
    /// Parquet, one fixed-size-list column per vector.
    Parquet,
    /// Qdrant points as JSON lines. Not implemented yet.
    QdrantJsonLines,
}

/// A Qdrant collection.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QdrantSpec {
    /// The base URL of the server, `http://` or `https://`.
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^https?://.+$"))]
    pub url: String,
    /// The name of the collection.
    #[schemars(length(min = 1, max = 255))]
    pub collection: String,
    /// The key of a Secret that holds the API key of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_secret_ref: Option<SecretKeyRef>,
}

/// A key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The name of the Secret, in the namespace of the run.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn default_formats() -> Vec<OutputFormat> {
    vec![OutputFormat::Parquet]
}
