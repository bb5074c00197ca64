//! The head of a masked language model, whose logits are SPLADE's sparse vectors (Formal et al., 2021): computes one weight
//! per vocabulary entry and text from the hidden states.

use candle_core::{Result, Tensor};

use crate::{
    model::{
        ModelError,
        config::Config,
        transformer::Encoder,
        weights::{Tensors, Weights},
    },
    ops::{Activation, Linear, Norm, Sequences, Vocabulary},
};

/// The head: a transformation of the hidden state, then the product with every vocabulary entry.
#[derive(Debug)]
pub struct MaskedLmHead {
    transform: Linear,
    activation: Activation,
    norm: Norm,
    decoder: Vocabulary,
}

/// The names of a head's tensors.
struct TensorNames {
    model_types: &'static [&'static str],
    /// The common prefix of all names.
    scope: &'static str,
    transform: &'static str,
    norm: &'static str,
    decoder: &'static str,
    bias: &'static str,
    /// The field of the configuration that names the activation; `None` means GELU.
    activation: Option<&'static str>,
}

const NAMES: [TensorNames; 3] = [
    TensorNames {
        model_types: &["bert"],
        scope: "cls.predictions.",
        transform: "transform.dense",
        norm: "transform.LayerNorm",
        decoder: "decoder.weight",
        bias: "bias",
        activation: Some("hidden_act"),
    },
    TensorNames {
        model_types: &["distilbert"],
        scope: "",
        transform: "vocab_transform",
        norm: "vocab_layer_norm",
        decoder: "vocab_projector.weight",
        bias: "vocab_projector.bias",
        activation: Some("activation"),
    },
    TensorNames {
        model_types: &["roberta", "xlm-roberta"],
        scope: "lm_head.",
        transform: "dense",
        norm: "layer_norm",
        decoder: "decoder.weight",
        bias: "bias",
        activation: None,
    },
];

impl MaskedLmHead {
    /// Checks that the architecture has such a head, and reads the fields of its configuration.
    ///
    /// # Errors
    /// If it has none, or requests an unsupported activation.
    pub fn check(config: &Config) -> std::result::Result<(), ModelError> {
        settings(config).map(|_| ())
    }

    /// Loads the head of the model of the `encoder`. A decoder without its own weight is tied to the word embedding.
    ///
    /// # Errors
    /// If the architecture has no such head, or a tensor is missing or invalid.
    pub fn load(config: &Config, weights: &Weights, encoder: &Encoder) -> std::result::Result<Self, ModelError> {
        let (names, epsilon, activation) = settings(config)?;
        let hidden = encoder.hidden_size;
        let tensors: Tensors = Tensors::within(weights, &[names.scope], &format!("{}.weight", names.transform));
        let decoder = if tensors.has(names.decoder) {
            tensors.tensor(names.decoder, &[encoder.vocabulary, hidden])?
        } else {
            encoder.embeddings.words.rows().clone()
        };
        // An untied decoder may have its own bias, beside an unused one.
        let bias = if tensors.has("decoder.bias") { "decoder.bias" } else { names.bias };
        let bias = tensors.tensor(bias, &[encoder.vocabulary])?;
        Ok(Self {
            transform: tensors.linear(names.transform, hidden, hidden, true)?,
            activation,
            norm: tensors.layer_norm(names.norm, hidden, true, epsilon)?,
            decoder: tensors.with_context(Vocabulary::new(&decoder, &bias))?,
        })
    }

    /// The entries of every text whose weight log(1 + relu(largest logit among the tokens)) exceeds the `threshold`. Entries
    /// below the `top_k` largest may be missing.
    pub fn forward(
        &self,
        hidden: &Tensor,
        sequences: &Sequences,
        threshold: f32,
        top_k: Option<usize>,
    ) -> Result<Vec<Vec<(u32, f32)>>> {
        let transformed = self.transform.forward_activated(hidden, self.activation)?;
        self.decoder.weights(&self.norm.forward(&transformed)?, sequences, threshold, top_k)
    }
}

/// The names of the head's tensors, the ε of its norm and its activation.
fn settings(config: &Config) -> std::result::Result<(&'static TensorNames, f64, Activation), ModelError> {
    let known = NAMES.iter().find(|names| names.model_types.contains(&config.model_type()));
    let names = known.ok_or_else(|| {
        config.contradiction("model_type", config.model_type(), "bert, distilbert, roberta as a sparse model")
    })?;
    let epsilon = config.get("layer_norm_eps").as_f64().unwrap_or(1e-12);
    let activation = match names.activation.and_then(|field| Some((field, config.get(field).as_str()?))) {
        Some((field, name)) => config.activation(field, name)?,
        None => Activation::Gelu,
    };
    Ok((names, epsilon, activation))
}
