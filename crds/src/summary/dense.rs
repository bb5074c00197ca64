//! The dense passes of a run.

use std::ops::AddAssign;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{dtype, fallback::ModelFallback};
use crate::v1alpha1::Similarity;

/// The dense passes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DenseRun {
    /// One record per model, in the order of the spec, summed over the shards.
    pub passes: Vec<DensePass>,
    /// Optional models that were left out, summed over the shards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<ModelFallback>,
}

/// The passes of one dense model, summed over the shards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DensePass {
    /// The model's name.
    pub model: String,
    /// The URI of the model in the spec; for a hub model with the commit that its revision resolved to.
    pub source: String,
    /// The sha256 of the weights, in hexadecimal.
    pub weights_sha256: String,
    /// The sha256 of all files of the model that were read, in hexadecimal: of their list as `sha256sum` prints it, in the order
    /// of the paths. Empty in summaries of earlier releases.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model_sha256: String,
    /// The sha256 of `tokenizer.json`, in hexadecimal; empty in records of releases that did not write it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tokenizer_sha256: String,
    /// The pooling: `Cls`, `Mean`, …
    pub pooling: String,
    /// The longest sequence, in tokens.
    pub max_tokens: u32,
    /// The number of dimensions of the vectors.
    pub dimensions: u32,
    /// The type of the arithmetic: `F32`, `F16`, `BF16` or `Int8`. On a CPU, a 16-bit type only rounds the weights; the
    /// arithmetic is F32. Several types, joined by ", ", if shards ran on devices of different kinds.
    #[serde(default = "dtype::f32_name")]
    pub dtype: String,
    /// The type of the stored vectors: `F32`, `F16`, `Int8` or `Binary`.
    #[serde(default = "dtype::f32_name")]
    pub precision: String,
    /// How the vectors were quantized; absent if they are stored as floats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<String>,
    /// The text that was put before every chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_prompt: Option<String>,
    /// The text that belongs before every query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_prompt: Option<String>,
    /// How the vectors are compared.
    #[serde(default)]
    pub similarity: Similarity,
    /// Embedded chunks.
    pub chunks: u64,
    /// Embedded tokens, special tokens included.
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
    /// The number of chunks by their length in tokens before truncation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub token_lengths: Vec<LengthBucket>,
}

/// The number of chunks with a length in one range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LengthBucket {
    /// The largest length in this bucket, in tokens; the bucket starts above the previous one.
    pub up_to: u32,
    /// The number of chunks.
    pub chunks: u64,
}

/// Adds the pass of the same model over another shard: counts and times are summed, `peak_bytes` is the larger one,
/// `dtype` names every type once, and the settings stay those of the first shard.
impl AddAssign<&Self> for DensePass {
    fn add_assign(&mut self, other: &Self) {
        // Without `..`: a new field has to be summed or named here.
        let Self {
            model: _,
            source: _,
            weights_sha256: _,
            model_sha256: _,
            tokenizer_sha256: _,
            pooling: _,
            max_tokens: _,
            dimensions: _,
            dtype,
            precision: _,
            quantization: _,
            document_prompt: _,
            query_prompt: _,
            similarity: _,
            chunks,
            tokens,
            truncated_chunks,
            tokens_lost,
            batches,
            seconds,
            peak_bytes,
            mitigations,
            token_lengths,
        } = other;
        dtype::add_name(&mut self.dtype, dtype);
        self.chunks += chunks;
        self.tokens += tokens;
        self.truncated_chunks += truncated_chunks;
        self.tokens_lost += tokens_lost;
        self.batches += batches;
        self.seconds += seconds;
        self.peak_bytes = self.peak_bytes.max(*peak_bytes);
        self.mitigations += mitigations;
        add_lengths(&mut self.token_lengths, token_lengths);
    }
}

/// Adds the counts of buckets with the same upper end, in the order of the upper ends.
fn add_lengths(sums: &mut Vec<LengthBucket>, buckets: &[LengthBucket]) {
    for bucket in buckets {
        match sums.iter_mut().find(|sum| sum.up_to == bucket.up_to) {
            None => sums.push(*bucket),
            Some(sum) => sum.chunks += bucket.chunks,
        }
    }
    sums.sort_by_key(|sum| sum.up_to);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(dtype: &str, number: u64, lengths: &[(u32, u64)]) -> DensePass {
        DensePass {
            model: format!("model-{number}"),
            source: format!("pvc://models/{number}"),
            weights_sha256: format!("sha-{number}"),
            model_sha256: format!("files-{number}"),
            tokenizer_sha256: format!("tokenizer-{number}"),
            pooling: "Cls".into(),
            max_tokens: 512,
            dimensions: 384,
            dtype: dtype.into(),
            precision: "F32".into(),
            quantization: None,
            document_prompt: Some(format!("prompt {number}")),
            query_prompt: Some(format!("query {number}")),
            similarity: Similarity::Dot,
            chunks: number,
            tokens: 10 * number,
            truncated_chunks: 100 * number,
            tokens_lost: 1000 * number,
            batches: 2 * number,
            seconds: 0.5 * number as f64,
            peak_bytes: 7 * number,
            mitigations: 3 * number,
            token_lengths: lengths.iter().map(|&(up_to, chunks)| LengthBucket { up_to, chunks }).collect(),
        }
    }

    #[test]
    fn passes_of_two_shards_add_up_and_keep_the_settings_of_the_first() {
        let mut sum = pass("F16", 4, &[(64, 1), (256, 2)]);
        sum += &pass("F32", 2, &[(256, 5), (128, 3)]);
        let expected = DensePass {
            chunks: 6,
            tokens: 60,
            truncated_chunks: 600,
            tokens_lost: 6000,
            batches: 12,
            seconds: 3.0,
            peak_bytes: 28,
            mitigations: 18,
            ..pass("F16, F32", 4, &[(64, 1), (128, 3), (256, 7)])
        };
        assert_eq!(sum, expected);
    }

    #[test]
    fn the_larger_peak_counts_whichever_shard_has_it() {
        let mut sum = pass("F32", 1, &[]);
        sum += &pass("F32", 9, &[]);
        assert_eq!((sum.peak_bytes, sum.dtype.as_str()), (63, "F32"));
    }
}
