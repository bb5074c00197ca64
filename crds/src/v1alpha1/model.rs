//! Models: dense and sparse encoders and the reranker.

use std::{fmt, str::FromStr};

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the name of a model looks like: it is also the name of a column.
const NAME: &str = "^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$";
/// What a model source looks like; [`ModelSource`] reads it.
const SOURCE: &str = r"^(hf://[^@\s]+@[^@\s]+|pvc://[a-z0-9][-a-z0-9.]*(/.*)?|file:///.*)$";

/// The encoders and the reranker of a run.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.sparse) || self.sparse.all(s, !self.dense.exists(d, d.name == s.name || d.name in [s.name + '_indices', s.name + '_values', s.name + '_source']))").message("a dense model has the name of a sparse model, or of one of its columns").field_path(".sparse"))]
pub struct ModelsSpec {
    /// The ensemble, in order; the first is the primary.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = Rule::new("self.all(a, self.exists_one(b, b.name == a.name))").message("dense model names must be unique"))]
    #[x_kube(validation = Rule::new("self.all(a, !has(a.precision) || a.precision != 'Int8' || !self.exists(b, b.name == a.name + '_scale'))").message("a model's name is the scale column of another one with precision Int8"))]
    pub dense: Vec<DenseModelSpec>,
    /// Sparse (SPLADE) encoders.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[x_kube(validation = Rule::new("self.all(a, self.exists_one(b, b.name == a.name))").message("sparse model names must be unique"))]
    pub sparse: Vec<SparseModelSpec>,
    /// The cross-encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reranker: Option<RerankerSpec>,
}

/// A dense encoder.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DenseModelSpec {
    /// The name of the model and of its vector column.
    #[schemars(length(min = 1, max = 63), regex(pattern = NAME))]
    #[x_kube(validation = Rule::new("!(self in ['id', 'text', 'text_hash', 'metadata', 'ordinal', 'fused'])").message("this name is a column of the output; choose another"))]
    pub name: String,
    /// Where the model is: `hf://repo@revision`, `pvc://claim/path` or `file:///path`.
    #[schemars(
        length(min = 1, max = 1024),
        regex(pattern = SOURCE)
    )]
    pub source: String,
    /// The share of the model in the fused vector, relative to the others.
    #[serde(default = "default_weight")]
    #[x_kube(validation = Rule::new("self > 0.0").message("weight must be greater than 0"))]
    pub weight: f64,
    /// How token vectors become one vector; read from the model folder when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    /// Texts put before a query or a document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<Prompts>,
    /// The longest sequence in tokens, special tokens included; at most what the model can take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 3, max = 131_072))]
    pub max_tokens: Option<u32>,
    /// The width that a matryoshka vector is cut to, then normalised again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_536))]
    pub dimensions: Option<u32>,
    /// The type of the arithmetic; when not given, F16 on a GPU and F32 on a CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<Dtype>,
    /// The form in which the vectors are stored; F32 when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// Whether the run goes on without this model when it cannot be loaded; recorded as a fallback.
    #[serde(default)]
    pub optional: bool,
}

/// A sparse (SPLADE) encoder.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SparseModelSpec {
    /// The name of the model and of its vector column.
    #[schemars(length(min = 1, max = 63), regex(pattern = NAME))]
    pub name: String,
    /// Where the model is: `hf://repo@revision`, `pvc://claim/path` or `file:///path`.
    #[schemars(
        length(min = 1, max = 1024),
        regex(pattern = SOURCE)
    )]
    pub source: String,
    /// The longest sequence in tokens, special tokens included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 3, max = 131_072))]
    pub max_tokens: Option<u32>,
    /// The number of terms with the largest weights that are kept per chunk; all when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_536))]
    pub top_k: Option<u32>,
    /// The weight above which a term is kept; 0 when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub threshold: Option<f64>,
    /// Whether the run goes on without this model when it cannot be loaded; recorded as a fallback.
    #[serde(default)]
    pub optional: bool,
}

/// A cross-encoder.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RerankerSpec {
    /// The name of the model.
    #[schemars(length(min = 1, max = 63), regex(pattern = NAME))]
    pub name: String,
    /// Where the model is: `hf://repo@revision`, `pvc://claim/path` or `file:///path`.
    #[schemars(
        length(min = 1, max = 1024),
        regex(pattern = SOURCE)
    )]
    pub source: String,
    /// The longest query-document pair in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 3, max = 131_072))]
    pub max_tokens: Option<u32>,
    /// Whether the run goes on without this model when it cannot be loaded; recorded as a fallback.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// How token vectors become one vector.
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

/// The type of the arithmetic; when not given, F16 on a GPU and F32 on a CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Dtype {
    /// 32-bit floats.
    #[default]
    F32,
    /// 16-bit floats.
    F16,
    /// Brain floats.
    #[serde(rename = "BF16")]
    Bf16,
    /// The weights of linear layers are 8-bit integers with a scale per output; their input is quantised row by row while
    /// computing, their sums are 32-bit integers. Embeddings, norms, attention and softmax stay 32-bit floats. On a CPU
    /// only; what it loses in quality is in docs/benchmarks.md.
    Int8,
}

impl Dtype {
    /// The name, as manifests and summaries have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Int8 => "Int8",
        }
    }
}

/// The form in which vectors are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// 16-bit floats.
    F16,
    /// 8-bit integers and one scale per vector, in a column `NAME_scale` beside them.
    Int8,
    /// A bit per dimension, its sign, eight to a byte.
    Binary,
}

/// Texts put before a query or a document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Prompts {
    /// Before a query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub query: Option<String>,
    /// Before a document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub document: Option<String>,
}

fn default_weight() -> f64 {
    1.0
}

/// Where a model is, parsed from its URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelSource {
    /// A repository of the Hugging Face hub at a revision.
    Hub {
        /// `owner/name`, or the name alone of a repository without an owner.
        repo: String,
        /// A commit, tag or branch.
        revision: String,
    },
    /// A folder of a persistent volume claim.
    Claim {
        /// The claim, in the namespace of the run.
        claim: String,
        /// The folder, relative to the root of the volume.
        path: String,
    },
    /// A folder of the runner's own file system (in a cluster: of its image).
    File {
        /// The absolute path.
        path: String,
    },
}

/// A model URI that is none of the known forms.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{uri:?} is no model source: write hf://owner/name@revision, pvc://claim/path or file:///path{hint}")]
pub struct ModelSourceError {
    uri: String,
    hint: &'static str,
}

impl FromStr for ModelSource {
    type Err = ModelSourceError;

    fn from_str(uri: &str) -> Result<Self, Self::Err> {
        let error = |hint| ModelSourceError { uri: uri.to_owned(), hint };
        let climbs = |path: &str| path.split('/').any(|segment| segment == "..");
        if let Some(rest) = uri.strip_prefix("hf://") {
            let (repo, revision) = rest
                .split_once('@')
                .ok_or_else(|| error(" (a hub model needs @revision, so that a run is repeatable)"))?;
            if !is_repo(repo) {
                return Err(error(" (a hub's names are made of letters, digits, '-', '_' and '.')"));
            }
            // It is also a path in the cache: a branch may hold '/'.
            if revision.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
                return Err(error(" (the revision is a commit, a tag or a branch)"));
            }
            return Ok(Self::Hub { repo: repo.to_owned(), revision: revision.to_owned() });
        }
        if let Some(rest) = uri.strip_prefix("pvc://") {
            let (claim, path) = rest.split_once('/').unwrap_or((rest, ""));
            if claim.is_empty() || climbs(path) {
                return Err(error(" (without '..')"));
            }
            return Ok(Self::Claim { claim: claim.to_owned(), path: path.to_owned() });
        }
        match uri.strip_prefix("file://") {
            Some(path) if path.starts_with('/') && !climbs(path) => Ok(Self::File { path: path.to_owned() }),
            _ => Err(error("")),
        }
    }
}

/// Whether `repo` is one or two names as hubs have them.
fn is_repo(repo: &str) -> bool {
    let is_name = |name: &str| {
        !matches!(name, "" | "." | "..")
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    repo.split('/').count() <= 2 && repo.split('/').all(is_name)
}

impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub { repo, revision } => write!(f, "hf://{repo}@{revision}"),
            Self::Claim { claim, path } => write!(f, "pvc://{claim}/{path}"),
            Self::File { path } => write!(f, "file://{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_model_source_is_read_and_written_alike() {
        for uri in [
            "hf://sentence-transformers/all-MiniLM-L6-v2@c9745ed1",
            "hf://gpt2@refs/pr/1",
            "pvc://models/bge/small",
            "file:///models/x",
        ] {
            assert_eq!(uri.parse::<ModelSource>().map(|source| source.to_string()), Ok(uri.to_owned()));
        }
    }

    #[test]
    fn a_hub_model_without_a_revision_and_a_path_that_climbs_are_refused() {
        for uri in [
            "hf://owner/name",
            "hf://@main",
            "hf://a/b/c@main",
            "hf://../b@main",
            "hf://a/b?x@main",
            "hf://a/b@../main",
            "hf://a/b@/main",
            "pvc:///x",
            "pvc://models/../etc",
            "file://relative",
            "/models/x",
            "",
        ] {
            let error = uri.parse::<ModelSource>().expect_err(uri);
            assert!(error.to_string().contains(&format!("{uri:?}")), "{error}");
        }
    }
}
