//! Collections: a named set of chunks with one source.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A named set of chunks with one source.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CollectionSpec {
    /// The name, also the folder of its results.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Where the files are: exactly one of `pvc`, `hostPath`, `objectStore`, `configMap`.
    pub source: SourceSpec,
    /// How the files are read. `Auto` decides by the name of each file.
    #[serde(default)]
    pub format: Format,
    /// Which fields of a record hold the id, the text and the metadata.
    #[serde(default)]
    pub fields: FieldMapping,
}

/// Where the files of a collection are.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.pvc), has(self.hostPath), has(self.objectStore), has(self.configMap)].filter(x, x).size() == 1").message("exactly one of pvc, hostPath, objectStore, configMap must be given"))]
pub struct SourceSpec {
    /// A folder or file of a persistent volume claim in the namespace of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pvc: Option<PvcVolume>,
    /// A folder or file of the node; for single nodes and tests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_path: Option<HostPathVolume>,
    /// A prefix of a bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_store: Option<ObjectStoreVolume>,
    /// The keys of a ConfigMap, each a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapSource>,
}

/// A place on a persistent volume claim.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PvcVolume {
    /// The claim, in the namespace of the run.
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: String,
    /// The folder or file on the volume, relative to its root; the root itself when empty.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.split('/').exists(s, s == '..')").message("path must be relative to the root of the volume, without '..'"))]
    pub path: String,
}

/// A place on the node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostPathVolume {
    /// The absolute path on the node.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self.startsWith('/') && !self.split('/').exists(s, s == '..')").message("path must be absolute, without '..'"))]
    pub path: String,
}

/// A prefix of a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStoreVolume {
    /// `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`.
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^(s3|gs|az)://[^/]+(/.*)?$"))]
    pub url: String,
    /// The Secret whose keys become the environment of the store client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<String>,
}

/// The keys of a ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapSource {
    /// The ConfigMap, in the namespace of the run.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// How the files of a collection are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Format {
    /// By the name of each file: `*_chunks.json` and `.json`, `.jsonl`/`.ndjson`, `.md`/`.markdown`, `.txt`.
    #[default]
    Auto,
    /// JSON: a list of `{text, metadata, …}` or of strings, or an object that wraps such a list as `chunks`,
    /// `data`, `records` or `items`.
    ChunksJson,
    /// One JSON record per line.
    JsonLines,
    /// Parquet, a row per chunk.
    Parquet,
    /// CSV with a header.
    Csv,
    /// Markdown, split by heading.
    Markdown,
    /// Plain text, one chunk per file.
    Text,
}

/// Which fields of a record hold the id, the text and the metadata.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldMapping {
    /// The field of the id; a record without it gets a stable id from collection, file and ordinal.
    #[serde(default = "id_field")]
    #[schemars(length(min = 1, max = 253))]
    pub id: String,
    /// The field of the text.
    #[serde(default = "text_field")]
    #[schemars(length(min = 1, max = 253))]
    pub text: String,
    /// The field of the metadata; other fields of the record stay where they are and are not exported.
    #[serde(default = "metadata_field")]
    #[schemars(length(min = 1, max = 253))]
    pub metadata: String,
}

impl Default for FieldMapping {
    fn default() -> Self {
        Self { id: id_field(), text: text_field(), metadata: metadata_field() }
    }
}

fn id_field() -> String {
    "id".into()
}

fn text_field() -> String {
    "text".into()
}

fn metadata_field() -> String {
    "metadata".into()
}
