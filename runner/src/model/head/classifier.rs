//! The heads of cross-encoders: compute one logit from the hidden states of a pair.

use candle_core::{DType, Result, Tensor};

use crate::{
    model::{
        ModelError,
        config::Config,
        transformer::Encoder,
        weights::{Tensors, Weights},
    },
    ops::{Activation, Linear, Norm, Pooling, Sequences, TokenSelection},
};

/// The architectures that have a head.
const KINDS: [&str; 8] = ["bert", "roberta", "xlm-roberta", "camembert", "distilbert", "modernbert", "qwen2", "qwen3"];

/// The ids of the tokens with which a language model answers whether a document is relevant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers {
    /// It is.
    pub positive: u32,
    /// It is not; without it the score is the logit of the positive answer alone.
    pub negative: Option<u32>,
}

/// A head with one output.
#[derive(Debug)]
pub struct Classifier {
    pooling: Pooling,
    /// Between the pooled vector and the output.
    transform: Option<Transform>,
    output: Linear,
}

#[derive(Debug)]
struct Transform {
    linear: Linear,
    activation: Activation,
    norm: Option<Norm>,
}

impl Classifier {
    /// Checks that the architecture has such a head with one output, and reads the fields of its configuration.
    ///
    /// # Errors
    /// If it has none, or an unsupported one.
    pub fn check(config: &Config) -> std::result::Result<(), ModelError> {
        let labels = config.get("id2label").as_object().map(|labels| labels.len() as u64);
        let labels = config.get("num_labels").as_u64().or(labels).unwrap_or(1);
        if labels != 1 && config.architectures().any(|name| name.ends_with("ForSequenceClassification")) {
            return Err(config.contradiction("id2label", &format!("{labels} labels"), "one label"));
        }
        match config.model_type() {
            "modernbert" => modernbert_settings(config).map(|_| ()),
            kind if KINDS.contains(&kind) => Ok(()),
            other => Err(config.contradiction(
                "model_type",
                other,
                "bert, roberta, xlm-roberta, distilbert, modernbert, qwen3 as a reranker",
            )),
        }
    }

    /// Whether the logit is that of tokens of a language model.
    pub fn is_generative(config: &Config) -> bool {
        matches!(config.model_type(), "qwen2" | "qwen3")
    }

    /// Loads the head of the model of the `encoder`; `answers` are the tokens of a generative reranker.
    ///
    /// # Errors
    /// If the architecture has no such head, or it has more than one output.
    pub fn load(
        config: &Config,
        weights: &Weights,
        encoder: &Encoder,
        answers: Option<Answers>,
    ) -> std::result::Result<Self, ModelError> {
        Self::check(config)?;
        let hidden = encoder.hidden_size;
        match config.model_type() {
            "bert" => {
                let pooler = Tensors::within(weights, &["", "bert."], "pooler.dense.weight");
                let transform = transform(&pooler.module("pooler"), "dense", hidden, true, Activation::Tanh)?;
                Self::with(
                    Pooling::Cls,
                    Some(transform),
                    &Tensors::within(weights, &[""], "classifier.weight"),
                    "classifier",
                    hidden,
                )
            }
            "roberta" | "xlm-roberta" | "camembert" => {
                let tensors = Tensors::within(weights, &["classifier."], "dense.weight");
                let transform = transform(&tensors, "dense", hidden, true, Activation::Tanh)?;
                Self::with(Pooling::Cls, Some(transform), &tensors, "out_proj", hidden)
            }
            "distilbert" => {
                let tensors = Tensors::within(weights, &[""], "pre_classifier.weight");
                let transform = transform(&tensors, "pre_classifier", hidden, true, Activation::Relu)?;
                Self::with(Pooling::Cls, Some(transform), &tensors, "classifier", hidden)
            }
            "modernbert" => Self::modernbert(config, weights, hidden),
            "qwen3" | "qwen2" => Self::answers(config, weights, encoder, answers),
            other => Err(config.contradiction("model_type", other, &KINDS.join(", "))),
        }
    }

    fn modernbert(config: &Config, weights: &Weights, hidden: usize) -> std::result::Result<Self, ModelError> {
        let ModernBertHead { pooling, activation, norm_bias, bias, epsilon } = modernbert_settings(config)?;
        let tensors = Tensors::within(weights, &[""], "head.dense.weight");
        let transform = Transform {
            norm: Some(tensors.layer_norm("head.norm", hidden, norm_bias, epsilon)?),
            ..transform(&tensors.module("head"), "dense", hidden, bias, activation)?
        };
        Self::with(pooling, Some(transform), &tensors, "classifier", hidden)
    }

    /// The logit of the positive answer, minus that of the negative one if there is one, at the last token: a row of the language
    /// model's head, or the difference of two. The logistic function of the difference is the probability of the positive answer
    /// against the negative one (Zhang et al., 2025, Qwen3-Reranker).
    fn answers(
        config: &Config,
        weights: &Weights,
        encoder: &Encoder,
        answers: Option<Answers>,
    ) -> std::result::Result<Self, ModelError> {
        let Answers { positive, negative } = answers.ok_or_else(|| {
            config.contradiction("tokenizer", "a vocabulary without 'yes' or 'no'", "a vocabulary with both")
        })?;
        let tensors = Tensors::within(weights, &[""], "lm_head.weight");
        let shape = [encoder.vocabulary, encoder.hidden_size];
        let rows = if tensors.has("lm_head.weight") {
            tensors.tensor("lm_head.weight", &shape)?
        } else {
            encoder.embeddings.words.rows().clone()
        };
        let row = |id: u32| rows.narrow(0, id as usize, 1)?.to_dtype(DType::F32);
        let difference = row(positive).and_then(|positive| {
            let difference = negative.map_or_else(|| Ok(positive.clone()), |negative| &positive - row(negative)?);
            difference?.to_dtype(rows.dtype())
        });
        let output = tensors.with_context(difference.and_then(|difference| Linear::new(&difference, None)))?;
        Ok(Self { pooling: Pooling::LastToken, transform: None, output })
    }

    fn with(
        pooling: Pooling,
        transform: Option<Transform>,
        tensors: &Tensors,
        output: &str,
        hidden: usize,
    ) -> std::result::Result<Self, ModelError> {
        Ok(Self { pooling, transform, output: tensors.linear(output, hidden, 1, true)? })
    }

    /// The tokens whose hidden states the head reads.
    pub fn reads(&self) -> TokenSelection {
        self.pooling.reads()
    }

    /// The logit of every sequence, `[sequences]`.
    pub fn forward(&self, hidden: &Tensor, sequences: &Sequences) -> Result<Tensor> {
        let mut x = self.pooling.forward(hidden, sequences)?;
        if let Some(Transform { linear, activation, norm }) = &self.transform {
            x = linear.forward_activated(&x, *activation)?;
            if let Some(norm) = norm {
                x = norm.forward(&x)?;
            }
        }
        self.output.forward(&x)?.squeeze(1)
    }
}

/// The settings of ModernBERT's head.
struct ModernBertHead {
    pooling: Pooling,
    activation: Activation,
    norm_bias: bool,
    bias: bool,
    epsilon: f64,
}

fn modernbert_settings(config: &Config) -> std::result::Result<ModernBertHead, ModelError> {
    let pooling = match config.get("classifier_pooling").as_str().unwrap_or("cls") {
        "cls" => Pooling::Cls,
        "mean" => Pooling::Mean,
        other => return Err(config.contradiction("classifier_pooling", other, "cls, mean")),
    };
    let flag = |field| config.get(field).as_bool().unwrap_or(false);
    let activation = config.get("classifier_activation").as_str().unwrap_or("gelu");
    Ok(ModernBertHead {
        pooling,
        activation: config.activation("classifier_activation", activation)?,
        norm_bias: flag("norm_bias"),
        bias: flag("classifier_bias"),
        epsilon: config.get("norm_eps").as_f64().unwrap_or(1e-5),
    })
}

/// A transformation without a norm.
fn transform(
    tensors: &Tensors,
    name: &str,
    hidden: usize,
    bias: bool,
    activation: Activation,
) -> std::result::Result<Transform, ModelError> {
    Ok(Transform { linear: tensors.linear(name, hidden, hidden, bias)?, activation, norm: None })
}
