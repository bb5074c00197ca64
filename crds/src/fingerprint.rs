//! What a file of vectors says about itself: a JSON document in the key-value metadata of its Parquet footer, under
//! [`KEY`].
//!
//! It holds what determines the vectors, so that a reader can refuse a file that does not fit its model. It holds no time,
//! no host and no attempt: the same rows give the same bytes.

use serde::{Deserialize, Serialize};

use crate::{
    identity::Revision,
    summary::FusedModel,
    v1alpha1::{FusionMethod, Precision, Similarity},
};

/// The key of the document in the footer.
pub const KEY: &str = "embedrun";

/// The version of the document that this release writes and reads.
pub const VERSION: u32 = 1;

/// What made a file of vectors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The version of this document, [`VERSION`].
    pub version: u32,
    /// The revision.
    pub revision: Revision,
    /// The collection.
    pub collection: String,
    /// The index of the shard in the plan.
    pub shard: u32,
    /// The sha256 of the content of the chunks, in hexadecimal, as the plan has it.
    pub content_sha256: String,
    /// The vector columns, in their order.
    pub columns: Vec<ColumnFingerprint>,
}

impl Fingerprint {
    /// The dense column of this name.
    pub fn dense(&self, column: &str) -> Option<&DenseFingerprint> {
        self.columns.iter().find_map(|fingerprint| match fingerprint {
            ColumnFingerprint::Dense(dense) if dense.column == column => Some(dense),
            _ => None,
        })
    }
}

/// What made a vector column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ColumnFingerprint {
    /// The vectors of a dense model.
    Dense(DenseFingerprint),
    /// The fused vectors.
    Fused(FusedFingerprint),
    /// The vectors of a sparse model.
    Sparse(SparseFingerprint),
}

/// What made the column of a dense model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DenseFingerprint {
    /// The name of the model and of the column.
    pub column: String,
    /// The URI of the model; for a hub model with its commit.
    pub source: String,
    /// The sha256 of the model, in hexadecimal, as the summary has it.
    pub model_sha256: String,
    /// The sha256 of `tokenizer.json`, in hexadecimal.
    pub tokenizer_sha256: String,
    /// The pooling.
    pub pooling: String,
    /// The longest sequence, in tokens.
    pub max_tokens: u32,
    /// The text before every chunk; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_prompt: Option<String>,
    /// The text that belongs before a query; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_prompt: Option<String>,
    /// The type of the arithmetic.
    pub dtype: String,
    /// The number of dimensions.
    pub dimensions: u32,
    /// The type of the stored vectors.
    pub precision: Precision,
    /// How vectors are compared.
    pub similarity: Similarity,
}

/// Two fingerprints differ in a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The field, in words.
    pub field: &'static str,
    /// Its value in the first.
    pub ours: String,
    /// Its value in the second.
    pub theirs: String,
}

impl DenseFingerprint {
    /// The first field in which vectors of the two cannot be compared; `None` if they can. The URI of the model and the type
    /// of the arithmetic may differ: the same model may lie elsewhere, and shards may run on different devices.
    pub fn difference(&self, other: &Self) -> Option<Difference> {
        // Without `..`: a new field has to be compared or named here.
        let Self {
            column,
            source: _,
            model_sha256,
            tokenizer_sha256,
            pooling,
            max_tokens,
            document_prompt,
            query_prompt,
            dtype: _,
            dimensions,
            precision,
            similarity,
        } = self;
        let prompt =
            |prompt: &Option<String>| prompt.as_ref().map_or_else(|| "none".into(), |text| format!("{text:?}"));
        let fields = [
            ("column", column.clone(), other.column.clone()),
            ("model sha256", model_sha256.clone(), other.model_sha256.clone()),
            ("tokenizer sha256", tokenizer_sha256.clone(), other.tokenizer_sha256.clone()),
            ("pooling", pooling.clone(), other.pooling.clone()),
            ("maxTokens", max_tokens.to_string(), other.max_tokens.to_string()),
            ("document prompt", prompt(document_prompt), prompt(&other.document_prompt)),
            ("query prompt", prompt(query_prompt), prompt(&other.query_prompt)),
            ("dimensions", dimensions.to_string(), other.dimensions.to_string()),
            ("precision", format!("{precision:?}"), format!("{:?}", other.precision)),
            ("similarity", similarity.to_string(), other.similarity.to_string()),
        ];
        let different = fields.into_iter().find(|(_, ours, theirs)| ours != theirs);
        different.map(|(field, ours, theirs)| Difference { field, ours, theirs })
    }
}

/// What made the fused column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FusedFingerprint {
    /// The name of the column.
    pub column: String,
    /// The method.
    pub method: FusionMethod,
    /// The fused models and their shares.
    pub models: Vec<FusedModel>,
    /// The number of dimensions.
    pub dimensions: u32,
    /// The type of the stored vectors.
    pub precision: Precision,
    /// How vectors are compared.
    pub similarity: Similarity,
}

/// What made the columns of a sparse model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SparseFingerprint {
    /// The name of the model and the prefix of its columns.
    pub column: String,
    /// The URI of the model; for a hub model with its commit.
    pub source: String,
    /// The sha256 of the model, in hexadecimal; empty if it could not be loaded, so that all vectors are of metadata terms.
    pub model_sha256: String,
    /// The sha256 of `tokenizer.json`, in hexadecimal; the ids of its vocabulary are the indices.
    pub tokenizer_sha256: String,
    /// The size of the vocabulary.
    pub vocabulary: u32,
    /// The longest sequence, in tokens.
    pub max_tokens: u32,
    /// The text before every chunk; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_prompt: Option<String>,
    /// The text that belongs before a query; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_prompt: Option<String>,
    /// The type of the arithmetic.
    pub dtype: String,
    /// The largest number of terms kept per chunk; absent if there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Terms with a weight above this were kept.
    pub threshold: f64,
    /// How vectors are compared.
    pub similarity: Similarity,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn dense() -> serde_json::Value {
        json!({
            "kind": "dense", "column": "minilm", "source": "file:///m", "model_sha256": "ab", "tokenizer_sha256": "cd",
            "pooling": "Mean", "max_tokens": 256, "document_prompt": "d: ", "query_prompt": "q: ", "dtype": "F32",
            "dimensions": 384, "precision": "F16", "similarity": "dot"
        })
    }

    fn parsed(column: serde_json::Value) -> DenseFingerprint {
        match serde_json::from_value(column).expect("a fingerprint") {
            ColumnFingerprint::Dense(dense) => dense,
            other => panic!("not dense: {other:?}"),
        }
    }

    #[test]
    fn every_field_that_changes_vectors_is_a_difference() {
        let original = parsed(dense());
        assert_eq!(original.difference(&original), None);
        for (field, value, words) in [
            ("model_sha256", json!("ff"), "model sha256"),
            ("tokenizer_sha256", json!("ff"), "tokenizer sha256"),
            ("pooling", json!("Cls"), "pooling"),
            ("max_tokens", json!(512), "maxTokens"),
            ("document_prompt", json!(null), "document prompt"),
            ("query_prompt", json!(""), "query prompt"),
            ("dimensions", json!(128), "dimensions"),
            ("precision", json!("Int8"), "precision"),
            ("similarity", json!("cosine"), "similarity"),
        ] {
            let mut other = dense();
            other[field] = value;
            let difference = original.difference(&parsed(other)).expect(field);
            assert_eq!(difference.field, words);
            assert_ne!(difference.ours, difference.theirs);
        }
        for (field, value) in [("source", "pvc://models/m"), ("dtype", "BF16")] {
            let mut other = dense();
            other[field] = value.into();
            assert_eq!(original.difference(&parsed(other)), None, "{field}");
        }
    }

    #[test]
    fn a_fingerprint_is_read_as_it_is_documented() {
        let document = json!({
            "version": 1, "revision": "aa", "collection": "docs", "shard": 3, "content_sha256": "ee",
            "columns": [
                dense(),
                {"kind": "fused", "column": "fused", "method": "WeightedConcat",
                 "models": [{"model": "minilm", "share": 1.0}], "dimensions": 384, "precision": "F16",
                 "similarity": "cosine"},
                {"kind": "sparse", "column": "splade", "source": "file:///s", "model_sha256": "ab",
                 "tokenizer_sha256": "cd", "vocabulary": 30522, "max_tokens": 256, "dtype": "F32", "top_k": 64,
                 "threshold": 0.0, "similarity": "dot"}
            ]
        });
        let fingerprint: Fingerprint = serde_json::from_value(document.clone()).expect("a fingerprint");
        assert_eq!(serde_json::to_value(&fingerprint).expect("JSON"), document);
        assert_eq!(fingerprint.dense("minilm").map(|dense| dense.dimensions), Some(384));
        assert_eq!((fingerprint.dense("fused"), fingerprint.dense("splade")), (None, None));
    }
}
