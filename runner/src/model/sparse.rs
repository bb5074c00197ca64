//! A sparse encoder (SPLADE): texts to weights of vocabulary entries.

use std::{num::NonZeroUsize, path::Path};

use candle_core::Device;
use crds::v1alpha1::{Dtype, FallbackReason};

use super::{
    ModelError, Weights,
    architecture::Architecture,
    dense::open_tokenizer,
    folder::{ModelFolder, ModuleKind},
    head::masked_lm::MaskedLmHead,
    transformer::{Encoder, TokenBatch},
    weights::natural_dtype,
};
use crate::{
    batched::RowModel,
    ops::{Kept, finite_rows},
    text::{Tokenizer, Tokens},
};

/// What overrides the model folder, and what is kept of a vector.
#[derive(Clone, Copy, Debug, Default)]
pub struct SparseOptions {
    /// The longest sequence in tokens; a lower limit of the folder still holds.
    pub max_tokens: Option<usize>,
    /// The entries with the largest weights that are kept; all when not given.
    pub top_k: Option<usize>,
    /// Entries whose weight is not above this are left out.
    pub threshold: f32,
    /// Whether a pass goes on without the rows that cannot be made.
    pub tolerant: bool,
}

/// The entries of a vocabulary that have a weight, by ascending id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SparseVector {
    /// The ids of the entries.
    pub indices: Vec<u32>,
    /// Their weights, above 0.
    pub values: Vec<f32>,
}

impl SparseVector {
    /// The entries of `weights` (one per vocabulary entry) above the `threshold`, and of those the `top_k` largest; of
    /// equal weights the lower id comes first.
    pub fn of_weights(weights: &[f32], threshold: f32, top_k: Option<usize>) -> Self {
        Self::of_entries((0..).zip(weights.iter().copied()), threshold, top_k)
    }

    /// As [`SparseVector::of_weights`], of the entries that have one, by ascending id.
    pub fn of_entries(entries: impl Iterator<Item = (u32, f32)>, threshold: f32, top_k: Option<usize>) -> Self {
        let mut entries: Vec<(u32, f32)> = entries.filter(|(_, weight)| *weight > threshold).collect();
        if let Some(top_k) = top_k.filter(|top_k| *top_k < entries.len()) {
            entries.sort_by(|(_, one), (_, other)| other.total_cmp(one));
            entries.truncate(top_k);
            entries.sort_unstable_by_key(|(index, _)| *index);
        }
        let (indices, values) = entries.into_iter().unzip();
        Self { indices, values }
    }

    /// The dot product of two vectors.
    pub fn dot(&self, other: &Self) -> f32 {
        let weight = |index: &u32| other.indices.binary_search(index).map_or(0.0, |at| other.values[at]);
        self.indices.iter().zip(&self.values).map(|(index, value)| value * weight(index)).sum()
    }
}

/// A sparse encoder on a device, with its tokenizer.
pub struct SparseModel {
    name: String,
    digest: String,
    dtype: Dtype,
    encoder: Encoder,
    head: MaskedLmHead,
    options: SparseOptions,
    tokenizer: Tokenizer,
}

impl SparseModel {
    /// Loads the model in `dir`; `name` is what errors and records call it.
    ///
    /// # Errors
    /// If anything in the folder is missing, not supported or does not fit together; nothing is guessed.
    pub fn load(name: &str, dir: &Path, options: SparseOptions, device: &Device) -> Result<Self, ModelError> {
        let folder = ModelFolder::open(name, dir)?;
        folder.expect_chain(&[ModuleKind::MlmTransformer, ModuleKind::Transformer], &[ModuleKind::SpladePooling])?;
        folder.expect_splade_max()?;
        let dtype = natural_dtype(device);
        let config = folder.config()?;
        let architecture = Architecture::of(&config)?;
        let weights = Weights::open(name, &folder.weights(&folder.encoder)?, dtype, device)?;
        let encoder = (architecture.load)(&config, &weights)?;
        let head = MaskedLmHead::load(&config, &weights, &encoder)?;
        weights.refuse_unused(architecture)?;
        let tokenizer = open_tokenizer(&folder, &encoder, options.max_tokens, architecture.special_tokens)?;
        Ok(Self {
            name: name.to_owned(),
            digest: weights.digest().to_owned(),
            dtype,
            encoder,
            head,
            options,
            tokenizer,
        })
    }

    /// The name that the model was loaded under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type of the arithmetic.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The sha256 of the weights, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// What was asked for.
    pub fn options(&self) -> SparseOptions {
        self.options
    }

    /// The model's tokenizer; its ids are the indices of the vectors.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The size of the index space.
    pub fn vocabulary(&self) -> usize {
        self.encoder.vocabulary
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// If the text cannot be encoded.
    pub fn encode(&self, text: &str) -> Result<Tokens, ModelError> {
        self.tokenizer.encode(text).map_err(|source| ModelError::tokenizer(&self.name, source))
    }

    /// Computes one batch: vector N is that of row N.
    ///
    /// # Errors
    /// If the device fails, or a weight is not finite; the error names its row.
    pub fn embed(&self, rows: &[&Tokens]) -> Result<Vec<SparseVector>, ModelError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let batch = TokenBatch::new(rows);
        let device = |source| ModelError::device(&self.name, source);
        let hidden = self.encoder.forward(&batch, Kept::All).map_err(device)?;
        // A maximum over tokens does not show what is no number, so it is looked for before.
        let finite = finite_rows(&hidden).map_err(device)?;
        if let Some(row) = batch.sequences.ranges().position(|range| finite[range].contains(&false)) {
            return Err(ModelError::NotFinite { model: self.name.clone(), row });
        }
        let SparseOptions { threshold, top_k, .. } = self.options;
        let weights = self.head.forward(&hidden, &batch.sequences, threshold, top_k).map_err(device)?;
        let rows = weights.into_iter().enumerate().map(|(row, entries)| {
            if entries.iter().all(|(_, weight)| weight.is_finite()) {
                Ok(SparseVector::of_entries(entries.into_iter(), threshold, top_k))
            } else {
                Err(ModelError::NotFinite { model: self.name.clone(), row })
            }
        });
        rows.collect()
    }
}

/// A row of a sparse pass.
#[derive(Clone, Debug, PartialEq)]
pub enum SparseRow {
    /// What the model made.
    Vector(SparseVector),
    /// The model could not make one, and why.
    Missing(FallbackReason, String),
}

impl<T: AsRef<str> + Send + Sync> RowModel<T> for SparseModel {
    type Rows = Vec<SparseRow>;

    fn name(&self) -> &str {
        &self.name
    }

    fn bytes_per_token(&self) -> u64 {
        self.encoder.bytes_per_token()
    }

    fn bytes_per_row(&self) -> u64 {
        // The weights of a whole vocabulary, and room for the entries of them that are kept.
        2 * size_of::<f32>() as u64 * self.encoder.vocabulary as u64
    }

    fn longest(&self) -> usize {
        self.tokenizer.max_tokens()
    }

    fn size(text: &T) -> usize {
        text.as_ref().len()
    }

    fn encode_items(&self, texts: &[T], threads: NonZeroUsize) -> Result<Vec<Tokens>, ModelError> {
        self.tokenizer.encode_batch(texts, threads).map_err(|source| ModelError::tokenizer(&self.name, source))
    }

    fn compute(&self, rows: &[&Tokens]) -> Result<Self::Rows, ModelError> {
        Ok(self.embed(rows)?.into_iter().map(SparseRow::Vector).collect())
    }

    fn empty(&self, count: usize) -> Self::Rows {
        vec![SparseRow::Vector(SparseVector::default()); count]
    }

    fn stand_in(&self, error: &ModelError) -> Option<Self::Rows> {
        let reason = match error {
            // Nothing can be made any more, and another attempt may make all of it.
            ModelError::DeviceLost { .. } => return None,
            ModelError::OutOfMemory { .. } => FallbackReason::OutOfMemory,
            _ => FallbackReason::ExecutionFailed,
        };
        self.options.tolerant.then(|| vec![SparseRow::Missing(reason, error.to_string())])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vector(weights: &[f32], threshold: f32, top_k: Option<usize>) -> SparseVector {
        SparseVector::of_weights(weights, threshold, top_k)
    }

    #[test]
    fn the_largest_weights_are_kept_by_ascending_id() {
        let weights = [0.0, 3.0, 1.0, 3.0, 2.0];
        assert_eq!(vector(&weights, 0.0, None).indices, [1, 2, 3, 4]);
        assert_eq!(vector(&weights, 1.0, None).indices, [1, 3, 4]);
        assert_eq!(vector(&weights, 0.0, Some(2)), SparseVector { indices: vec![1, 3], values: vec![3.0, 3.0] });
        assert_eq!(vector(&weights, 0.0, Some(1)).indices, [1]);
        assert_eq!(vector(&weights, 0.0, Some(9)).indices.len(), 4);
    }

    proptest! {
        #[test]
        fn the_dot_product_is_that_of_all_weights(
            one in prop::collection::vec(0f32..2.0, 20), other in prop::collection::vec(0f32..2.0, 20),
        ) {
            let full: f32 = one.iter().zip(&other).map(|(a, b)| a * b).sum();
            let sparse = vector(&one, 0.0, None).dot(&vector(&other, 0.0, None));
            prop_assert!((full - sparse).abs() < 1e-4);
        }
    }
}
