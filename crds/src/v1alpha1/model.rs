//! The models of a run: dense encoders, sparse encoders and the reranker.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The pattern of a model name, which is also a column name.
const NAME: &str = "^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$";
/// The pattern of a model source; [`super::ModelSource`] parses it.
const SOURCE: &str = r"^(hf://[^@\s]+@[^@\s]+|pvc://[a-z0-9][-a-z0-9.]*(/.*)?|file:///.*)$";

/// The encoders and the reranker of a run.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.sparse) || self.sparse.all(s, !self.dense.exists(d, d.name == s.name || d.name in [s.name + '_indices', s.name + '_values', s.name + '_source']))").message("the name of a dense model is the name of a sparse model or of one of its columns (NAME_indices, NAME_values, NAME_source): rename one of the models").field_path(".sparse"))]
pub struct ModelsSpec {
    /// The dense encoders (the ensemble), in order; the first is the primary. At least one.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = Rule::new("self.all(a, self.exists_one(b, b.name == a.name))").message("dense model names must be unique"))]
    #[x_kube(validation = Rule::new("self.all(a, !has(a.precision) || a.precision != 'Int8' || !self.exists(b, b.name == a.name + '_scale'))").message("the name of a dense model is the scale column (NAME_scale) of another one with precision Int8: rename one of the models"))]
    pub dense: Vec<DenseModelSpec>,
    /// Sparse (SPLADE) encoders.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[x_kube(validation = Rule::new("self.all(a, self.exists_one(b, b.name == a.name))").message("sparse model names must be unique"))]
    pub sparse: Vec<SparseModelSpec>,
    /// The cross-encoder that reranks candidates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reranker: Option<RerankerSpec>,
}

/// A dense encoder: one vector per chunk.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DenseModelSpec {
    /// The name of the model and of its vector column.
    #[schemars(length(min = 1, max = 63), regex(pattern = NAME))]
    #[x_kube(validation = Rule::new("!(self in ['id', 'text', 'text_hash', 'metadata', 'ordinal', 'fused', 'fused_scale'])").message("this name is a column of the output: choose another name for the model"))]
    pub name: String,
    /// The folder of the model: `hf://owner/name@revision`, `pvc://claim/path` or `file:///path` (of the runner's
    /// image).
    #[schemars(
        length(min = 1, max = 1024),
        regex(pattern = SOURCE)
    )]
    pub source: String,
    /// The weight of the model in the fused vector, relative to the other models. Default 1.
    #[serde(default = "default_weight")]
    #[x_kube(validation = Rule::new("self > 0.0").message("weight must be greater than 0"))]
    pub weight: f64,
    /// How token vectors become one vector. Default: from the model folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    /// Texts put before every query or document. Default: from the model folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<Prompts>,
    /// The longest sequence in tokens, special tokens included; longer chunks are truncated. Default: from the model
    /// folder. At most what the model supports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 3, max = 131_072))]
    pub max_tokens: Option<u32>,
    /// The number of dimensions that a matryoshka vector is truncated to; it is normalised again. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_536))]
    pub dimensions: Option<u32>,
    /// The type of the arithmetic. Default: on a GPU `BF16` for a model whose
    /// `config.json` says bfloat16 and `F16` for others, `F32` on a CPU. `Int8` works on a CPU only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<Dtype>,
    /// The type of the stored vectors. Default `F32`. `Int8` adds a column `NAME_scale`; `Binary` stores one bit per
    /// dimension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// Whether the run continues without this model if the model cannot be used. Default false: the run fails. The
    /// fallback is recorded.
    #[serde(default)]
    pub optional: bool,
}

/// A sparse (SPLADE) encoder: weighted vocabulary terms per chunk.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SparseModelSpec {
    /// The name of the model and the prefix of its columns `NAME_indices`, `NAME_values` and `NAME_source`.
    #[schemars(length(min = 1, max = 63), regex(pattern = NAME))]
    pub name: String,
    /// The folder of the model: `hf://owner/name@revision`, `pvc://claim/path` or `file:///path` (of the runner's
    /// image).
    #[schemars(
        length(min = 1, max = 1024),
        regex(pattern = SOURCE)
    )]
    pub source: String,
    /// The longest sequence in tokens, special tokens included; longer chunks are truncated. Default: from the model
    /// folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 3, max = 131_072))]
    pub max_tokens: Option<u32>,
    /// The number of terms kept per chunk, those with the largest weights. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_536))]
    pub top_k: Option<u32>,
    /// Terms with a weight above this are kept. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub threshold: Option<f64>,
    /// Whether the run continues without this model if the model cannot be used. Default false: the run fails. The
    /// fallback is recorded.
    #[serde(default)]
    pub optional: bool,
}

/// A cross-encoder: it scores pairs of query and chunk.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RerankerSpec {
    /// The name of the model.
    #[schemars(length(min = 1, max = 63), regex(pattern = NAME))]
    pub name: String,
    /// The folder of the model: `hf://owner/name@revision`, `pvc://claim/path` or `file:///path` (of the runner's
    /// image).
    #[schemars(
        length(min = 1, max = 1024),
        regex(pattern = SOURCE)
    )]
    pub source: String,
    /// The longest pair of query and chunk in tokens; longer pairs are truncated. Default: from the model folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 3, max = 131_072))]
    pub max_tokens: Option<u32>,
    /// Whether the run continues without this model if the model cannot be used. Default false: the run fails. The
    /// fallback is recorded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// How token vectors become one vector. Default: from the model folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Pooling {
    /// The vector of the first token.
    Cls,
    /// The mean of the token vectors.
    Mean,
    /// The vector of the last token.
    LastToken,
    /// The maximum of the token vectors, per dimension.
    Max,
    /// The mean weighted by position.
    WeightedMean,
}

/// The type of the arithmetic. Default: on a GPU `BF16` for a model whose
/// `config.json` says bfloat16 and `F16` for others, `F32` on a CPU. `Int8` works on a CPU only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Dtype {
    /// 32-bit floats.
    #[default]
    F32,
    /// 16-bit floats.
    F16,
    /// 16-bit brain floats.
    #[serde(rename = "BF16")]
    Bf16,
    /// 8-bit integers for the weights of linear layers, with a scale per output. Their input is quantized row by row
    /// while computing, and their sums are 32-bit integers. Embeddings, norms, attention and softmax stay 32-bit
    /// floats. On a CPU only. The benchmarks in the documentation report the loss of quality.
    Int8,
}

impl Dtype {
    /// The name in manifests and summaries.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Int8 => "Int8",
        }
    }
}

/// The type of the stored vectors. Default `F32`. `Int8` adds a column `NAME_scale`; `Binary` stores one bit per
/// dimension.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// 16-bit floats.
    F16,
    /// 8-bit integers and one scale per vector, in a column `NAME_scale` beside them.
    Int8,
    /// One bit per dimension (its sign), eight to a byte.
    Binary,
}

/// Texts put before every query or document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Prompts {
    /// The text before a query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub query: Option<String>,
    /// The text before a document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub document: Option<String>,
}

fn default_weight() -> f64 {
    1.0
}
