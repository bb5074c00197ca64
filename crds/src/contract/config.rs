//! What the operator gives to the runner.

use serde::{Deserialize, Serialize};

use crate::{
    identity::Revision,
    layout,
    v1alpha1::{Dtype, FieldMapping, Format, FusionSpec, GateSpec, Pooling, Precision, Prompts, TogglesSpec},
};

/// What a runner executes: the identity of a run, with every place resolved to a path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunnerConfig {
    /// [`CONTRACT_VERSION`].
    pub version: u32,
    /// The run.
    pub run: RunRef,
    /// The revision that is computed.
    pub revision: Revision,
    /// What to embed.
    pub collections: Vec<CollectionConfig>,
    /// The ensemble, in order.
    pub dense: Vec<DenseConfig>,
    /// The sparse encoders, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sparse: Vec<SparseConfig>,
    /// The cross-encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reranker: Option<RerankerConfig>,
    /// How vectors and candidates become one.
    #[serde(default, skip_serializing_if = "FusionSpec::is_unset")]
    pub fusion: FusionSpec,
    /// Queries, candidates and the quality gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerank: Option<RerankConfig>,
    /// The switches that the spec sets; what it leaves open, the runner decides and records.
    #[serde(default, skip_serializing_if = "TogglesSpec::is_unset")]
    pub toggles: TogglesSpec,
    /// Where the results go.
    pub output: Place,
}

/// The name of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunRef {
    /// Its namespace; empty on one machine.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A place as the process sees it and as users name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Place {
    /// The absolute path for the process; empty where the process finds the place by the name.
    pub path: String,
    /// The name for users and messages, for example `pvc://vectors/handbook`.
    pub uri: String,
}

impl Place {
    /// The user's name of something below this place.
    pub fn uri_of(&self, relative: &str) -> String {
        format!("{}/{relative}", self.uri.trim_end_matches('/'))
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
    /// How they are read.
    pub format: Format,
    /// Which fields of a record hold what.
    pub fields: FieldMapping,
}

/// A dense model to embed with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DenseConfig {
    /// Its name, and that of its vector column.
    pub name: String,
    /// Its folder. The path of a model of a hub (`hf://repo@revision`) is empty: the runner fetches it.
    pub source: Place,
    /// Pooling, where the spec overrides the folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    /// The longest sequence, where the spec overrides the folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Texts before a query or a document, where the spec overrides the folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<Prompts>,
    /// The width that vectors are cut to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<u32>,
    /// The type of the arithmetic, where it is not F32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<Dtype>,
    /// The form in which the vectors are stored, where it is not F32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// The share of the model in the fused vector, relative to the others.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: f64,
    /// Whether the run goes on without the model when it fails.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// A sparse model to embed with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SparseConfig {
    /// Its name, and the beginning of the names of its columns.
    pub name: String,
    /// Its folder; the path of a model of a hub is empty.
    pub source: Place,
    /// The longest sequence, where the spec overrides the folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// The number of terms kept per chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// The weight above which a term is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// Whether the run goes on without the model when it fails.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// A cross-encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RerankerConfig {
    /// Its name.
    pub name: String,
    /// Its folder; the path of a model of a hub is empty.
    pub source: Place,
    /// The longest pair, where the spec overrides the folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Whether the run goes on without the model when it cannot be loaded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// Queries, candidates and the quality gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RerankConfig {
    /// The file of the queries; without one, collections are probed with their own headings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queries: Option<Place>,
    /// How many candidates per query the cross-encoder scores.
    pub candidates: u32,
    /// How many candidates per query are kept.
    pub top_k: u32,
    /// The quality below which readers stay on the previous revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateSpec>,
}

impl RerankConfig {
    /// How many candidates per query are scored where the spec does not say.
    pub const CANDIDATES: u32 = 100;
    /// How many candidates per query are kept where the spec does not say.
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

// A reference is what serde asks for; the weight of a model that names none is exactly 1.
#[allow(clippy::trivially_copy_pass_by_ref, clippy::float_cmp)]
fn is_one(weight: &f64) -> bool {
    *weight == 1.0
}

impl RunnerConfig {
    /// The configuration as the bytes of its file.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a configuration has string keys and finite numbers")
    }

    /// The user's name of the run's summary.
    pub fn run_summary_uri(&self) -> String {
        self.output.uri_of(&layout::run_summary(&self.revision))
    }

    /// The user's name of a collection's summary.
    pub fn collection_summary_uri(&self, collection: &str) -> String {
        self.output.uri_of(&layout::collection_summary(&self.revision, collection))
    }
}
