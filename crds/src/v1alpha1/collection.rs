//! Collections: a named set of chunks with one source.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A named set of chunks with one source.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CollectionSpec {
    /// The name of the collection and of its result folder. A DNS label.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// The location of the files: exactly one of `pvc`, `hostPath`, `objectStore`, `configMap`.
    pub source: SourceSpec,
    /// The format of the files. Default `Auto`: by the extension of each file. `Parquet` and `Csv` are not implemented
    /// yet.
    #[serde(default)]
    pub format: Format,
    /// The record fields that hold the id, the text and the metadata.
    #[serde(default)]
    pub fields: FieldMapping,
}

/// The location of a collection's files.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.pvc), has(self.hostPath), has(self.objectStore), has(self.configMap)].filter(x, x).size() == 1").message("exactly one of pvc, hostPath, objectStore, configMap must be given"))]
pub struct SourceSpec {
    /// A folder or file of a persistent volume claim in the namespace of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pvc: Option<PvcVolume>,
    /// A folder or file of the node. For single-node clusters and tests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_path: Option<HostPathVolume>,
    /// A prefix of a bucket. Not implemented yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_store: Option<ObjectStoreVolume>,
    /// A ConfigMap; each key is a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapSource>,
}

/// A path on a persistent volume claim.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PvcVolume {
    /// The name of the claim, in the namespace of the run.
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: String,
    /// The folder or file, relative to the root of the volume. Empty means the root.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.split('/').exists(s, s == '..')").message("path must be relative to the root of the volume, without a leading '/' and without '..'"))]
    pub path: String,
}

/// A path on the node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostPathVolume {
    /// The absolute path on the node.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self.startsWith('/') && !self.split('/').exists(s, s == '..')").message("path must be absolute (start with '/'), without '..'"))]
    pub path: String,
}

/// A prefix of a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStoreVolume {
    /// `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`.
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^(s3|gs|az)://[^/]+(/.*)?$"))]
    pub url: String,
    /// The name of a Secret in the namespace of the run; its keys become environment variables of the store client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<String>,
}

/// A ConfigMap; each key is a file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapSource {
    /// The name of the ConfigMap, in the namespace of the run.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// The format of a collection's files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Format {
    /// By extension of each file: `.json` (`ChunksJson`), `.jsonl` and `.ndjson` (`JsonLines`), `.md` and `.markdown`
    /// (`Markdown`), `.txt` (`Text`).
    #[default]
    Auto,
    /// JSON: a list of `{text, metadata, …}` or of strings, or an object that wraps such a list as `chunks`,
    /// `data`, `records` or `items`.
    ChunksJson,
    /// One JSON record per line.
    JsonLines,
    /// Parquet, one row per chunk. Not implemented yet.
    Parquet,
    /// CSV with a header. Not implemented yet.
    Csv,
    /// Markdown, one chunk per section (split at headings).
    Markdown,
    /// Plain text, one chunk per file.
    Text,
}

/// The record fields that hold the id, the text and the metadata.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldMapping {
    /// The field of the chunk id. A record without it gets a stable id from its collection, file and ordinal.
    #[serde(default = "id_field")]
    #[schemars(length(min = 1, max = 253))]
    pub id: String,
    /// The field of the text. Required in every record.
    #[serde(default = "text_field")]
    #[schemars(length(min = 1, max = 253))]
    pub text: String,
    /// The field of the metadata. Other fields of a record are not exported.
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
