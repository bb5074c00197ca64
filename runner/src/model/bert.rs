//! BERT: its configuration, the tensors that it needs, and the encoder built from them.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert;
use serde::Deserialize;

/// `model_type`s of `config.json` that are BERT.
pub const MODEL_TYPES: &[&str] = &["bert"];

/// `architectures` of `config.json` whose encoder is plain BERT.
pub const ARCHITECTURES: &[&str] = &["BertModel", "BertForMaskedLM", "BertForPreTraining"];

/// `position_embedding_type`s of `config.json` that are computed.
pub const POSITION_EMBEDDING_TYPES: &[&str] = &["absolute"];

/// `hidden_act`s of `config.json` that are computed: GELU by the error function, two names of its tanh
/// approximation, ReLU.
pub const ACTIVATIONS: &[&str] = &["gelu", "gelu_new", "gelu_pytorch_tanh", "relu"];

/// The part of BERT's `config.json` that determines the encoder. What is optional has the default of
/// `transformers.BertConfig`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct BertConfig {
    /// Rows of the word embedding.
    pub vocab_size: usize,
    /// The width of a token vector.
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads of a layer.
    pub num_attention_heads: usize,
    /// The width inside the feed-forward network.
    pub intermediate_size: usize,
    /// The longest sequence, in tokens.
    pub max_position_embeddings: usize,
    /// The activation of the feed-forward network.
    #[serde(default = "gelu")]
    pub hidden_act: String,
    /// Rows of the token type embedding.
    #[serde(default = "two")]
    pub type_vocab_size: usize,
    /// The ε of the layer norms.
    #[serde(default = "epsilon")]
    pub layer_norm_eps: f64,
    /// How positions enter.
    #[serde(default = "absolute")]
    pub position_embedding_type: String,
}

fn gelu() -> String {
    "gelu".to_owned()
}

fn two() -> usize {
    2
}

fn epsilon() -> f64 {
    1e-12
}

fn absolute() -> String {
    "absolute".to_owned()
}

impl BertConfig {
    /// The tensors of the encoder, by name without prefix, with the shapes that this configuration implies.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        let mut tensors = vec![
            ("embeddings.word_embeddings.weight".to_owned(), vec![self.vocab_size, hidden]),
            ("embeddings.position_embeddings.weight".to_owned(), vec![self.max_position_embeddings, hidden]),
            ("embeddings.token_type_embeddings.weight".to_owned(), vec![self.type_vocab_size, hidden]),
        ];
        let layer_norm = |tensors: &mut Vec<_>, module: &str| {
            tensors.push((format!("{module}.weight"), vec![hidden]));
            tensors.push((format!("{module}.bias"), vec![hidden]));
        };
        let linear = |tensors: &mut Vec<_>, module: &str, from: usize, to: usize| {
            tensors.push((format!("{module}.weight"), vec![to, from]));
            tensors.push((format!("{module}.bias"), vec![to]));
        };
        layer_norm(&mut tensors, "embeddings.LayerNorm");
        for layer in 0..self.num_hidden_layers {
            let layer = format!("encoder.layer.{layer}");
            for part in ["query", "key", "value"] {
                linear(&mut tensors, &format!("{layer}.attention.self.{part}"), hidden, hidden);
            }
            linear(&mut tensors, &format!("{layer}.attention.output.dense"), hidden, hidden);
            layer_norm(&mut tensors, &format!("{layer}.attention.output.LayerNorm"));
            linear(&mut tensors, &format!("{layer}.intermediate.dense"), hidden, inner);
            linear(&mut tensors, &format!("{layer}.output.dense"), inner, hidden);
            layer_norm(&mut tensors, &format!("{layer}.output.LayerNorm"));
        }
        tensors
    }

    fn to_candle(&self) -> bert::Config {
        bert::Config {
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            intermediate_size: self.intermediate_size,
            hidden_act: match self.hidden_act.as_str() {
                "gelu_new" | "gelu_pytorch_tanh" => bert::HiddenAct::GeluApproximate,
                "relu" => bert::HiddenAct::Relu,
                _ => bert::HiddenAct::Gelu,
            },
            max_position_embeddings: self.max_position_embeddings,
            type_vocab_size: self.type_vocab_size,
            layer_norm_eps: self.layer_norm_eps,
            ..bert::Config::default()
        }
    }
}

/// The encoder.
pub struct Bert {
    inner: bert::BertModel,
}

impl Bert {
    /// Builds the encoder from the tensors that [`BertConfig::tensors`] lists, in f32.
    pub fn new(config: &BertConfig, tensors: HashMap<String, Tensor>, device: &Device) -> Result<Self> {
        let weights = VarBuilder::from_tensors(tensors, DType::F32, device);
        Ok(Self { inner: bert::BertModel::load(weights, &config.to_candle())? })
    }

    /// Token vectors (rows × tokens × hidden size) of `ids` (rows × tokens); the `mask` (rows × tokens) is 1 for a
    /// token and 0 for padding. All token types are 0.
    pub fn forward(&self, ids: &Tensor, mask: &Tensor) -> Result<Tensor> {
        self.inner.forward(ids, &ids.zeros_like()?, Some(mask))
    }
}
