//! The head of a masked language model, of which SPLADE makes sparse vectors (Formal et al., 2021): hidden states to one
//! weight per vocabulary entry and text.

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
struct Names {
    model_types: &'static [&'static str],
    /// Before all of them.
    scope: &'static str,
    transform: &'static str,
    norm: &'static str,
    decoder: &'static str,
    bias: &'static str,
    /// The field of the configuration with the activation; GELU where there is none.
    activation: Option<&'static str>,
}

const NAMES: [Names; 3] = [
    Names {
        model_types: &["bert"],
        scope: "cls.predictions.",
        transform: "transform.dense",
        norm: "transform.LayerNorm",
        decoder: "decoder.weight",
        bias: "bias",
        activation: Some("hidden_act"),
    },
    Names {
        model_types: &["distilbert"],
        scope: "",
        transform: "vocab_transform",
        norm: "vocab_layer_norm",
        decoder: "vocab_projector.weight",
        bias: "vocab_projector.bias",
        activation: Some("activation"),
    },
    Names {
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
    /// Loads the head beside the `encoder`. A decoder without a weight of its own is tied to the word embedding.
    pub fn load(config: &Config, weights: &Weights, encoder: &Encoder) -> std::result::Result<Self, ModelError> {
        let known = NAMES.iter().find(|names| names.model_types.contains(&config.model_type()));
        let names = known.ok_or_else(|| {
            config.contradiction("model_type", config.model_type(), "for sparse vectors bert, distilbert, roberta")
        })?;
        let hidden = encoder.hidden_size;
        let tensors: Tensors = weights.scope(&[names.scope], &format!("{}.weight", names.transform));
        let epsilon = config.get("layer_norm_eps").as_f64().unwrap_or(1e-12);
        let activation = names.activation.and_then(|field| Some((field, config.get(field).as_str()?)));
        let decoder = if tensors.has(names.decoder) {
            tensors.tensor(names.decoder, &[encoder.vocabulary, hidden])?
        } else {
            encoder.embeddings.words.rows().clone()
        };
        // A decoder of its own may have a bias of its own, beside one that is left over.
        let bias = if tensors.has("decoder.bias") { "decoder.bias" } else { names.bias };
        let bias = tensors.tensor(bias, &[encoder.vocabulary])?;
        Ok(Self {
            transform: tensors.linear(names.transform, hidden, hidden, true)?,
            activation: match activation {
                Some((field, name)) => config.activation(field, name)?,
                None => Activation::Gelu,
            },
            norm: tensors.layer_norm(names.norm, hidden, true, epsilon)?,
            decoder: tensors.made(Vocabulary::new(&decoder, &bias))?,
        })
    }

    /// The entries with a weight above the `threshold` for every text: log(1 + relu(the largest logit among the tokens)).
    /// Those beyond the `top_k` largest may be left out already.
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
