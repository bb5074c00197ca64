//! Where the results go, and in which formats.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::collection::{HostPathVolume, ObjectStoreVolume, PvcVolume};

/// Where the results go, and in which formats.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.pvc), has(self.hostPath), has(self.objectStore)].filter(x, x).size() == 1").message("exactly one of pvc, hostPath, objectStore must be given"))]
#[x_kube(validation = Rule::new("has(self.pvc) == has(oldSelf.pvc) && (!has(self.pvc) || self.pvc == oldSelf.pvc)").message("the place of the output is immutable: make another EmbeddingRun for another place").field_path(".pvc"))]
#[x_kube(validation = Rule::new("has(self.hostPath) == has(oldSelf.hostPath) && (!has(self.hostPath) || self.hostPath == oldSelf.hostPath)").message("the place of the output is immutable: make another EmbeddingRun for another place").field_path(".hostPath"))]
#[x_kube(validation = Rule::new("has(self.objectStore) == has(oldSelf.objectStore) && (!has(self.objectStore) || self.objectStore.url == oldSelf.objectStore.url)").message("the place of the output is immutable: make another EmbeddingRun for another place").field_path(".objectStore"))]
pub struct OutputSpec {
    /// A folder of a persistent volume claim in the namespace of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pvc: Option<PvcVolume>,
    /// A folder of the node; for single nodes and tests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_path: Option<HostPathVolume>,
    /// A prefix of a bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_store: Option<ObjectStoreVolume>,
    /// The formats of the exported vectors.
    #[serde(default = "default_formats")]
    #[schemars(length(min = 1, max = 8))]
    pub formats: Vec<OutputFormat>,
    /// A Qdrant collection that the vectors are published to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qdrant: Option<QdrantSpec>,
}

/// A format of the exported vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum OutputFormat {
    /// Parquet, a fixed-size-list column per vector.
    Parquet,
    /// JSON lines of Qdrant points.
    QdrantJsonLines,
}

/// A Qdrant collection.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QdrantSpec {
    /// The base URL of the server.
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^https?://.+$"))]
    pub url: String,
    /// The collection.
    #[schemars(length(min = 1, max = 255))]
    pub collection: String,
    /// The key of a Secret that holds the API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_secret_ref: Option<SecretKeyRef>,
}

/// A key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The Secret, in the namespace of the run.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn default_formats() -> Vec<OutputFormat> {
    vec![OutputFormat::Parquet]
}
