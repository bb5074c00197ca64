//! A sparse encoder (SPLADE): computes weights of vocabulary entries per text.

use std::path::Path;

use candle_core::Device;
use crds::v1alpha1::{Dtype, Similarity};

use super::{
    ModelError,
    folder::{ModelFolder, ModuleKind},
    head::masked_lm::MaskedLmHead,
    loading::{LoadedTransformer, open_tokenizer, tokenizer_digest},
    transformer::{Encoder, TokenBatch},
    weights::natural_dtype,
};
use crate::{
    ops::{TokenSelection, finite_rows},
    tokenizer::{Tokenizer, Tokens},
    vectors::SparseVector,
};

/// The similarities of sparse vectors; a distance to vectors without a common term says nothing.
const SIMILARITIES: [Similarity; 2] = [Similarity::Cosine, Similarity::Dot];

/// Settings of a run that override those of the model folder, and the entries of a vector that are kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct SparseOptions {
    /// The longest sequence in tokens; a lower limit of the folder still applies.
    pub max_tokens: Option<usize>,
    /// The number of entries that are kept, those with the largest weights; `None` keeps all.
    pub top_k: Option<usize>,
    /// Entries whose weight is not above the threshold are dropped.
    pub threshold: f32,
    /// Whether a pass continues without the rows that fail.
    pub tolerant: bool,
}

/// A sparse encoder on a device, with its tokenizer.
pub struct SpladeModel {
    name: String,
    digest: String,
    tokenizer_digest: String,
    similarity: Similarity,
    dtype: Dtype,
    encoder: Encoder,
    head: MaskedLmHead,
    options: SparseOptions,
    tokenizer: Tokenizer,
}

impl SpladeModel {
    /// Loads the model in `dir`; errors and records call it `name`.
    ///
    /// # Errors
    /// If a part of the folder is missing, unsupported, or inconsistent with the rest; nothing is guessed.
    pub fn load(name: &str, dir: &Path, options: SparseOptions, device: &Device) -> Result<Self, ModelError> {
        let folder = ModelFolder::open(name, dir)?;
        folder
            .modules
            .expect_chain(&[ModuleKind::MlmTransformer, ModuleKind::Transformer], &[ModuleKind::SpladePooling])?;
        folder.expect_splade_max()?;
        let dtype = natural_dtype(device);
        let transformer = LoadedTransformer::load(&folder, dtype, device)?;
        let head = MaskedLmHead::load(&transformer.config, &transformer.weights, &transformer.encoder)?;
        transformer.reject_unused()?;
        let LoadedTransformer { weights, encoder, special_tokens, .. } = transformer;
        let tokenizer = open_tokenizer(&folder, &encoder, options.max_tokens, special_tokens)?;
        Ok(Self {
            name: name.to_owned(),
            digest: weights.digest().to_owned(),
            tokenizer_digest: tokenizer_digest(&folder)?,
            similarity: folder.similarity(&SIMILARITIES)?.unwrap_or_else(Similarity::of_sparse),
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

    /// The sha256 of the tokenizer's file, in hexadecimal.
    pub fn tokenizer_digest(&self) -> &str {
        &self.tokenizer_digest
    }

    /// The similarity that the model was made for.
    pub fn similarity(&self) -> Similarity {
        self.similarity
    }

    /// The options that the model was loaded with.
    pub fn options(&self) -> SparseOptions {
        self.options
    }

    /// The model's tokenizer; its ids are the indices of the vectors.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Estimated bytes that a token takes while its batch is computed.
    pub fn bytes_per_token(&self) -> u64 {
        self.encoder.bytes_per_token()
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

    /// Computes one batch: vector N belongs to row N.
    ///
    /// # Errors
    /// If the device fails, or a weight is not finite; the error names its row.
    pub fn embed(&self, rows: &[&Tokens]) -> Result<Vec<SparseVector>, ModelError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let batch = TokenBatch::new(rows);
        let device = |source| ModelError::device(&self.name, source);
        let hidden = self.encoder.forward(&batch, TokenSelection::All).map_err(device)?;
        // A maximum over tokens can hide a NaN, so the hidden states are checked first.
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
