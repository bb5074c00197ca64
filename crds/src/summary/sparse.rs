//! The sparse stage of a run.

use std::ops::AddAssign;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{dtype, fallback::Fallback};
use crate::v1alpha1::Similarity;

/// The sparse stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SparseRun {
    /// Whether sparse vectors were requested.
    pub enabled: bool,
    /// Whether a model computed at least one vector.
    pub executed: bool,
    /// Why the stage fell back; also set if a toggle disabled the stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// The first error that caused the fallback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_message: Option<String>,
    /// One record per model, in the order of the spec, summed over the shards.
    #[serde(default)]
    pub passes: Vec<SparsePass>,
    /// The share of rows whose vector a model computed, 0 to 1; vectors made from metadata terms do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<f64>,
    /// The time of the passes in seconds, summed over shards even if they ran in parallel.
    #[serde(default)]
    pub seconds: f64,
}

/// The passes of one sparse model, summed over the shards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SparsePass {
    /// The model's name.
    pub model: String,
    /// The URI of the model in the spec.
    pub source: String,
    /// The sha256 of the weights, in hexadecimal; empty if they could not be loaded.
    pub weights_sha256: String,
    /// The sha256 of all files of the model that were read, in hexadecimal: of their list as `sha256sum` prints it, in the order
    /// of the paths. Empty in summaries of earlier releases, and if the model could not be loaded.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model_sha256: String,
    /// The size of the index space: the vocabulary of the model's tokenizer.
    pub vocabulary: u32,
    /// The longest sequence, in tokens.
    pub max_tokens: u32,
    /// The type of the arithmetic; same as for a dense model.
    #[serde(default = "dtype::f32_name")]
    pub dtype: String,
    /// How the vectors are compared.
    #[serde(default = "Similarity::of_sparse")]
    pub similarity: Similarity,
    /// The largest number of terms kept per chunk; absent if there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Terms with a weight above this were kept.
    pub threshold: f64,
    /// Chunks with a vector.
    pub chunks: u64,
    /// Chunks whose vector the model computed.
    pub model_chunks: u64,
    /// Chunks whose vector was made from the terms of their metadata.
    pub metadata_chunks: u64,
    /// Kept terms, over all chunks.
    pub entries: u64,
    /// Tokens computed, special tokens included.
    pub tokens: u64,
    /// Chunks that were longer than `max_tokens` and were truncated.
    pub truncated_chunks: u64,
    /// Tokens cut off by truncation.
    pub tokens_lost: u64,
    /// Computed batches.
    pub batches: u64,
    /// The time of the passes in seconds, summed over shards even if they ran in parallel.
    pub seconds: f64,
    /// The peak memory during a pass in bytes: of the device on a GPU, of the process on a CPU.
    #[serde(default)]
    pub peak_bytes: u64,
    /// The number of changes of the batch size because of memory pressure.
    #[serde(default)]
    pub mitigations: u64,
}

/// Adds the pass of the same model over another shard: counts and times are summed, `peak_bytes` is the larger one,
/// `dtype` names every type once, and the settings stay those of the first shard.
impl AddAssign<&Self> for SparsePass {
    fn add_assign(&mut self, other: &Self) {
        // Without `..`: a new field has to be summed or named here.
        let Self {
            model: _,
            source: _,
            weights_sha256: _,
            model_sha256: _,
            vocabulary: _,
            max_tokens: _,
            dtype,
            similarity: _,
            top_k: _,
            threshold: _,
            chunks,
            model_chunks,
            metadata_chunks,
            entries,
            tokens,
            truncated_chunks,
            tokens_lost,
            batches,
            seconds,
            peak_bytes,
            mitigations,
        } = other;
        dtype::add_name(&mut self.dtype, dtype);
        self.chunks += chunks;
        self.model_chunks += model_chunks;
        self.metadata_chunks += metadata_chunks;
        self.entries += entries;
        self.tokens += tokens;
        self.truncated_chunks += truncated_chunks;
        self.tokens_lost += tokens_lost;
        self.batches += batches;
        self.seconds += seconds;
        self.peak_bytes = self.peak_bytes.max(*peak_bytes);
        self.mitigations += mitigations;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(dtype: &str, number: u64) -> SparsePass {
        SparsePass {
            model: format!("model-{number}"),
            source: format!("pvc://models/{number}"),
            weights_sha256: format!("sha-{number}"),
            model_sha256: format!("files-{number}"),
            vocabulary: 30_522,
            max_tokens: 512,
            dtype: dtype.into(),
            similarity: Similarity::Dot,
            top_k: Some(256),
            threshold: 0.05,
            chunks: number,
            model_chunks: 2 * number,
            metadata_chunks: 3 * number,
            entries: 4 * number,
            tokens: 5 * number,
            truncated_chunks: 6 * number,
            tokens_lost: 7 * number,
            batches: 8 * number,
            seconds: 0.5 * number as f64,
            peak_bytes: 9 * number,
            mitigations: 10 * number,
        }
    }

    #[test]
    fn passes_of_two_shards_add_up_and_keep_the_settings_of_the_first() {
        let mut sum = pass("F16", 2);
        sum += &pass("F32", 4);
        let expected = SparsePass {
            chunks: 6,
            model_chunks: 12,
            metadata_chunks: 18,
            entries: 24,
            tokens: 30,
            truncated_chunks: 36,
            tokens_lost: 42,
            batches: 48,
            seconds: 3.0,
            peak_bytes: 36,
            mitigations: 60,
            ..pass("F16, F32", 2)
        };
        assert_eq!(sum, expected);
    }
}
