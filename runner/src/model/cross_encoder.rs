//! A cross-encoder: computes one score per pair of query and document.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use crds::v1alpha1::Dtype;

use super::{
    ModelError,
    cross_folder::{CrossFolder, PairInput},
    head::classifier::Classifier,
    loading::{Checked, LoadedTransformer},
    transformer::{Encoder, TokenBatch},
};
use crate::{
    ops::{Activation, activate},
    plan::ModelFiles,
    tokenizer::{Tokenizer, Tokens},
};

/// The instruction within the template of the model card of Qwen3-Reranker.
const INSTRUCTION: &str = "Given a web search query, retrieve relevant passages that answer the query";

/// The score of a pair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// The output of the head.
    pub logit: f32,
    /// The logit after the activation of the model's configuration.
    pub score: f32,
}

/// A cross-encoder on a device, with its tokenizer.
pub struct CrossEncoder {
    name: String,
    weights_digest: String,
    files: ModelFiles,
    dtype: Dtype,
    encoder: Encoder,
    head: Classifier,
    activation: Activation,
    tokenizer: Tokenizer,
    input: PairInput,
}

impl CrossEncoder {
    /// Checks the model in `dir` without its weights, beyond their headers if `weights` is set.
    ///
    /// # Errors
    /// Same as [`CrossEncoder::load`], as far as the settings show it.
    pub fn check(name: &str, dir: &Path, max_tokens: Option<usize>, weights: bool) -> Result<Checked, ModelError> {
        CrossFolder::check(name, dir, max_tokens, weights)
    }

    /// Loads the model in `dir`; errors and records call it `name`.
    ///
    /// # Errors
    /// If a part of the folder is missing, unsupported, or inconsistent with the rest; nothing is guessed.
    pub fn load(name: &str, dir: &Path, max_tokens: Option<usize>, device: &Device) -> Result<Self, ModelError> {
        let opened = CrossFolder::open(name, dir, max_tokens)?;
        let CrossFolder { folder, transformer, tokenizer, activation, answers, input } = opened;
        let transformer = transformer.load(&folder, None, device)?;
        let head = Classifier::load(&transformer.config, &transformer.weights, &transformer.encoder, answers)?;
        transformer.reject_unused()?;
        let LoadedTransformer { weights, encoder, dtype, .. } = transformer;
        Ok(Self {
            name: name.to_owned(),
            weights_digest: weights.digest().to_owned(),
            files: folder.files.read_so_far(),
            dtype,
            activation,
            encoder,
            head,
            tokenizer,
            input,
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

    /// Estimated bytes that a token takes while its batch is computed.
    pub fn bytes_per_token(&self) -> u64 {
        self.encoder.bytes_per_token()
    }

    /// The longest sequence in tokens, special tokens included.
    pub fn max_tokens(&self) -> usize {
        self.tokenizer.max_tokens().pair
    }

    /// The tokens of a pair. If it is too long, the longer text is truncated first.
    ///
    /// # Errors
    /// If a text cannot be encoded, or the chat template rejects it.
    pub fn encode(&self, query: &str, document: &str) -> Result<Tokens, ModelError> {
        let prompted = |prompt: &Option<String>| format!("{}{query}", prompt.as_deref().unwrap_or_default());
        let tokens = match &self.input {
            PairInput::Pair(None) => self.tokenizer.encode_pair(query, document),
            PairInput::Pair(prompt) => self.tokenizer.encode_pair(&prompted(prompt), document),
            PairInput::Card([start, end], prompt) => {
                let query = prompted(prompt);
                let text = format!("<Instruct>: {INSTRUCTION}\n<Query>: {query}\n<Document>: {document}");
                self.tokenizer.encode_between(start, &text, end)
            }
            PairInput::Chat(template) => {
                self.tokenizer.encode_ending(&template.render(query, document)?, template.suffix())
            }
        };
        tokens.map_err(|source| ModelError::tokenizer(&self.name, source))
    }

    /// The score of every pair, in order.
    ///
    /// # Errors
    /// If the device fails, or a logit or score is not finite; the error names its row.
    pub fn score(&self, pairs: &[&Tokens]) -> Result<Vec<Score>, ModelError> {
        if pairs.is_empty() {
            return Ok(Vec::new());
        }
        let (logits, scores) = self.forward(pairs).map_err(|source| ModelError::device(&self.name, source))?;
        if let Some(row) = logits.iter().chain(&scores).position(|value| !value.is_finite()) {
            let row = row % logits.len();
            return Err(ModelError::NotFinite { model: self.name.clone(), row });
        }
        Ok(logits.into_iter().zip(scores).map(|(logit, score)| Score { logit, score }).collect())
    }

    fn forward(&self, pairs: &[&Tokens]) -> candle_core::Result<(Vec<f32>, Vec<f32>)> {
        let batch = TokenBatch::new(pairs);
        let hidden: Tensor = self.encoder.forward(&batch, self.head.reads())?;
        let logits = self.head.forward(&hidden, &batch.sequences)?.to_dtype(DType::F32)?;
        let scores = activate(&logits, self.activation)?;
        Ok((logits.to_vec1()?, scores.to_vec1()?))
    }
}
