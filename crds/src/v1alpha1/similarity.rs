//! How the vectors of a model are compared.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How two vectors are compared: the function that a model was trained for. The names are those of
/// `sentence_transformers.SimilarityFunction`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Similarity {
    /// The cosine of the angle between the vectors.
    #[default]
    Cosine,
    /// The dot product.
    Dot,
    /// The negative Euclidean distance.
    Euclidean,
    /// The negative Manhattan distance.
    Manhattan,
}

impl Similarity {
    /// The name in summaries.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::Dot => "dot",
            Self::Euclidean => "euclidean",
            Self::Manhattan => "manhattan",
        }
    }

    /// Whether it is the cosine.
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde passes a reference
    pub fn is_cosine(&self) -> bool {
        *self == Self::Cosine
    }

    /// The default of a record of a sparse model: the dot product.
    pub fn of_sparse() -> Self {
        Self::Dot
    }
}

impl fmt::Display for Similarity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
