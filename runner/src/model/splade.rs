//! A sparse encoder (SPLADE): computes weights of vocabulary entries per text.

use std::{num::NonZeroUsize, path::Path};

use candle_core::Device;
use crds::v1alpha1::{Dtype, Similarity};

use super::{
    ModelError, Side, Weights,
    folder::{ModelFolder, ModuleKind, Task},
    head::masked_lm::MaskedLmHead,
    loading::{Checked, LoadedTransformer, OpenTransformer, tokenizer_digest},
    transformer::{Encoder, TokenBatch},
};
use crate::{
    ops::{TokenSelection, finite_rows},
    plan::ModelFiles,
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
    /// The number of entries that are kept, those with the largest weights; `None` keeps what the folder says, or all.
    pub top_k: Option<usize>,
    /// Entries whose weight is not above the threshold are dropped.
    pub threshold: f32,
    /// Whether a pass continues without the rows that fail.
    pub tolerant: bool,
}

/// A sparse encoder on a device, with its tokenizer.
pub struct SpladeModel {
    name: String,
    weights_digest: String,
    files: ModelFiles,
    tokenizer_digest: String,
    similarity: Similarity,
    dtype: Dtype,
    encoder: Encoder,
    head: MaskedLmHead,
    options: SparseOptions,
    tokenizer: Tokenizer,
    /// By side: of documents, of queries.
    prompts: [Option<String>; 2],
}

/// A sparse encoder without its weights.
struct SpladeFolder {
    folder: ModelFolder,
    transformer: OpenTransformer,
    tokenizer: Tokenizer,
    similarity: Similarity,
}

impl SpladeFolder {
    fn open(name: &str, dir: &Path, options: SparseOptions) -> Result<Self, ModelError> {
        use ModuleKind::{MlmTransformer, SpladePooling, Transformer};
        let folder = ModelFolder::open(name, dir)?;
        folder.modules.expect_one_of(&[
            &[MlmTransformer, SpladePooling],
            &[Transformer, SpladePooling],
            &[MlmTransformer],
            &[Transformer],
        ])?;
        folder.expect_splade_max()?;
        let transformer = OpenTransformer::open(&folder)?;
        MaskedLmHead::check(&transformer.config)?;
        folder.settings.expect_task(&[Task::FillMask])?;
        let tokenizer = transformer.tokenizer(&folder, options.max_tokens)?;
        transformer.config.reject_unknown()?;
        let similarity = folder.similarity(&SIMILARITIES)?.unwrap_or_else(Similarity::of_sparse);
        Ok(Self { folder, transformer, tokenizer, similarity })
    }
}

impl SpladeModel {
    /// Checks the model in `dir` without its weights, beyond their headers if `weights` is set.
    ///
    /// # Errors
    /// Same as [`SpladeModel::load`], as far as the settings show it.
    pub fn check(name: &str, dir: &Path, options: SparseOptions, weights: bool) -> Result<Checked, ModelError> {
        let SpladeFolder { folder, .. } = SpladeFolder::open(name, dir, options)?;
        let files = folder.files.read_so_far();
        if weights {
            Weights::check_headers(&folder.files, &folder.weights_files(&folder.encoder_dir)?)?;
        }
        Ok(Checked { files, dimensions: None })
    }

    /// Loads the model in `dir`; errors and records call it `name`.
    ///
    /// # Errors
    /// If a part of the folder is missing, unsupported, or inconsistent with the rest; nothing is guessed.
    pub fn load(name: &str, dir: &Path, options: SparseOptions, device: &Device) -> Result<Self, ModelError> {
        let SpladeFolder { folder, transformer, tokenizer, similarity } = SpladeFolder::open(name, dir, options)?;
        let transformer = transformer.load(&folder, None, device)?;
        let head = MaskedLmHead::load(&transformer.config, &transformer.weights, &transformer.encoder)?;
        transformer.reject_unused()?;
        let LoadedTransformer { weights, encoder, dtype, .. } = transformer;
        let prompts = [folder.prompts.document(), folder.prompts.query()];
        Ok(Self {
            name: name.to_owned(),
            weights_digest: weights.digest().to_owned(),
            files: folder.files.read_so_far(),
            tokenizer_digest: tokenizer_digest(&folder)?,
            similarity,
            dtype,
            encoder,
            head,
            options: SparseOptions { top_k: options.top_k.or(folder.prompts.max_active_dims), ..options },
            tokenizer,
            prompts: prompts.map(|prompt| prompt.map(ToOwned::to_owned)),
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
    pub fn weights_digest(&self) -> &str {
        &self.weights_digest
    }

    /// The files of the folder that were read, with their digests.
    pub fn files(&self) -> &ModelFiles {
        &self.files
    }

    /// The sha256 of the tokenizer's file, in hexadecimal.
    pub fn tokenizer_digest(&self) -> &str {
        &self.tokenizer_digest
    }

    /// The similarity that the model was made for.
    pub fn similarity(&self) -> Similarity {
        self.similarity
    }

    /// The prompt before a text of the side.
    pub fn prompt(&self, side: Side) -> Option<&str> {
        self.prompts[side as usize].as_deref()
    }

    /// The options that the model was loaded with; what they leave open is that of the folder.
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

    /// The tokens of a text after the prompt of its side.
    ///
    /// # Errors
    /// If the text cannot be encoded.
    pub fn encode(&self, text: &str, side: Side) -> Result<Tokens, ModelError> {
        let mut tokens = self.encode_batch(&[text], side, NonZeroUsize::MIN)?;
        Ok(tokens.pop().expect("a row per text"))
    }

    /// The tokens of texts in their order, with up to `threads` threads.
    ///
    /// # Errors
    /// Same as [`SpladeModel::encode`]; the error names the text's row.
    pub fn encode_batch<T: AsRef<str> + Sync>(
        &self,
        texts: &[T],
        side: Side,
        threads: NonZeroUsize,
    ) -> Result<Vec<Tokens>, ModelError> {
        let limits = self.tokenizer.max_tokens();
        let longest = match side {
            Side::Document => limits.document,
            Side::Query => limits.query,
        };
        let tokens = match self.prompt(side) {
            None => self.tokenizer.encode_batch(texts, longest, threads),
            Some(prompt) => {
                let texts: Vec<String> = texts.iter().map(|text| format!("{prompt}{}", text.as_ref())).collect();
                self.tokenizer.encode_batch(&texts, longest, threads)
            }
        };
        tokens.map_err(|source| ModelError::tokenizer(&self.name, source))
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
