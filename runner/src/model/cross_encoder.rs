//! A cross-encoder: computes one score per pair of query and document.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use crds::v1alpha1::Dtype;

use super::{
    ModelError,
    config::Config,
    folder::{ModelFolder, ModuleKind, read_optional_json},
    head::{classifier::Classifier, projection::activation_of_class},
    loading::{LoadedTransformer, open_tokenizer},
    transformer::{Encoder, TokenBatch},
    weights::natural_dtype,
};
use crate::{
    ops::{Activation, activate},
    tokenizer::{Tokenizer, Tokens},
};

/// The chat template of the Qwen3-Reranker model card: the texts before and after a pair, and the instruction within.
const TEMPLATE_START: &str = "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the \
                              Instruct provided. Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n\
                              <|im_start|>user\n";
const TEMPLATE_END: &str = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";
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
    digest: String,
    dtype: Dtype,
    encoder: Encoder,
    head: Classifier,
    activation: Activation,
    tokenizer: Tokenizer,
    /// The tokens before and after a pair, if the model reads a conversation.
    template: Option<[Vec<u32>; 2]>,
}

impl CrossEncoder {
    /// Loads the model in `dir`; errors and records call it `name`.
    ///
    /// # Errors
    /// If a part of the folder is missing, unsupported, or inconsistent with the rest; nothing is guessed.
    pub fn load(name: &str, dir: &Path, max_tokens: Option<usize>, device: &Device) -> Result<Self, ModelError> {
        let folder = ModelFolder::open(name, dir)?;
        folder.modules.expect_chain(&[ModuleKind::Transformer], &[])?;
        let dtype = natural_dtype(device);
        let transformer = LoadedTransformer::load(&folder, dtype, device)?;
        let tokenizer = open_tokenizer(&folder, &transformer.encoder, max_tokens, transformer.special_tokens)?;
        let has_template = transformer.config.model_type().starts_with("qwen");
        let yes_and_no = tokenizer.id("yes").zip(tokenizer.id("no")).map(|(yes, no)| [yes, no]);
        let head = Classifier::load(&transformer.config, &transformer.weights, &transformer.encoder, yes_and_no)?;
        transformer.reject_unused()?;
        let LoadedTransformer { config, weights, encoder, .. } = transformer;
        let ids = |text| tokenizer.ids(text).map_err(|source| ModelError::tokenizer(name, source));
        let template = has_template.then(|| Ok([ids(TEMPLATE_START)?, ids(TEMPLATE_END)?])).transpose()?;
        Ok(Self {
            name: name.to_owned(),
            digest: weights.digest().to_owned(),
            dtype,
            activation: activation(&folder, &config)?,
            encoder,
            head,
            tokenizer,
            template,
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

    /// Estimated bytes that a token takes while its batch is computed.
    pub fn bytes_per_token(&self) -> u64 {
        self.encoder.bytes_per_token()
    }

    /// The longest sequence in tokens, special tokens included.
    pub fn max_tokens(&self) -> usize {
        self.tokenizer.max_tokens()
    }

    /// The tokens of a pair. If it is too long, the longer text is truncated first.
    ///
    /// # Errors
    /// If a text cannot be encoded.
    pub fn encode(&self, query: &str, document: &str) -> Result<Tokens, ModelError> {
        let tokens = match &self.template {
            None => self.tokenizer.encode_pair(query, document),
            Some([start, end]) => {
                let text = format!("<Instruct>: {INSTRUCTION}\n<Query>: {query}\n<Document>: {document}");
                self.tokenizer.encode_between(start, &text, end)
            }
        };
        tokens.map_err(|source| ModelError::tokenizer(&self.name, source))
    }

    /// The score of every pair, in order.
    ///
    /// # Errors
    /// If the device fails, or a logit is not finite; the error names its row.
    pub fn score(&self, pairs: &[&Tokens]) -> Result<Vec<Score>, ModelError> {
        if pairs.is_empty() {
            return Ok(Vec::new());
        }
        let (logits, scores) = self.forward(pairs).map_err(|source| ModelError::device(&self.name, source))?;
        if let Some(row) = logits.iter().position(|logit| !logit.is_finite()) {
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

/// The activation that the folder's files request; the logistic function by default, as in
/// `sentence_transformers.CrossEncoder`.
fn activation(folder: &ModelFolder, config: &Config) -> Result<Activation, ModelError> {
    let file: PathBuf = folder.dir.join("config_sentence_transformers.json");
    let saved: serde_json::Value = read_optional_json(&folder.name, &file)?;
    let requests = [
        (&config.get("sentence_transformers")["activation_fn"], "sentence_transformers.activation_fn"),
        (config.get("sbert_ce_default_activation_function"), "sbert_ce_default_activation_function"),
        (&saved["activation_fn"], "activation_fn"),
    ];
    let requested = requests.into_iter().find_map(|(class, field)| Some((class.as_str()?, field)));
    requested.map_or(Ok(Activation::Sigmoid), |(class, field)| {
        activation_of_class(&folder.name, &folder.encoder_dir.join("config.json"), field, class)
    })
}
