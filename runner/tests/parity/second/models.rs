//! The models of `candle-transformers`, and what of a folder each one needs in another form.

use candle_core::{D, DType, Device, Tensor};
use candle_nn::{Linear, Module};
use candle_transformers::models::{
    bert, distilbert, jina_bert, modernbert, nomic_bert, qwen2, qwen3, stella_en_v5, xlm_roberta,
};
use serde_json::{Value, json};

use super::{Computed, folder::Folder, padded::Padded};

/// BERT: it has other names for the approximations of GELU.
fn bert_config(folder: &Folder) -> bert::Config {
    let activation = match folder.config["hidden_act"].as_str() {
        Some("gelu_new" | "gelu_pytorch_tanh") => "geluapproximate",
        other => other.expect("an activation"),
    };
    folder.config(&[("hidden_act", activation.into())])
}

pub fn bert(folder: &Folder, batch: &Padded) -> Computed {
    let model = bert::BertModel::load(folder.tensors(), &bert_config(folder))?;
    model.forward(&batch.ids, &batch.types, Some(&batch.mask))
}

/// Its decoder has a weight and a bias of its own, where the format shares the weight with the embedding and keeps
/// the bias beside it.
pub fn bert_for_masked_lm(folder: &Folder, batch: &Padded) -> Computed {
    let (weight, bias) = ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias");
    let of = |name: &str, other: &str| folder.tensor(if folder.has(name) { name } else { other }).clone();
    let decoder =
        [(weight, of(weight, "bert.embeddings.word_embeddings.weight")), (bias, of(bias, "cls.predictions.bias"))];
    let model = bert::BertForMaskedLM::load(folder.tensors_with("", decoder), &bert_config(folder))?;
    model.forward(&batch.ids, &batch.types, Some(&batch.mask))
}

/// It has no classifier: pooler and classifier are two products here.
pub fn bert_classifier(folder: &Folder, batch: &Padded) -> Computed {
    let first = first_token(&bert(folder, batch)?)?;
    let pooled = linear(folder, "bert.pooler.dense").forward(&first)?.tanh()?;
    linear(folder, "classifier").forward(&pooled)?.squeeze(1)
}

/// RoBERTa is XLM-RoBERTa with other special tokens.
fn roberta_config(folder: &Folder) -> xlm_roberta::Config {
    folder.config(&[("position_embedding_type", "absolute".into())])
}

pub fn roberta(folder: &Folder, batch: &Padded) -> Computed {
    let model = xlm_roberta::XLMRobertaModel::new(&roberta_config(folder), folder.tensors())?;
    model.forward(&batch.ids, &batch.mask, &batch.types, None, None, None)
}

/// Its decoder has no bias.
pub fn roberta_for_masked_lm(folder: &Folder, batch: &Padded) -> Computed {
    let model = xlm_roberta::XLMRobertaForMaskedLM::new(&roberta_config(folder), folder.tensors())?;
    let logits = model.forward(&batch.ids, &batch.mask, &batch.types, None, None, None)?;
    logits.broadcast_add(folder.tensor("lm_head.bias"))
}

pub fn roberta_classifier(folder: &Folder, batch: &Padded) -> Computed {
    let config = roberta_config(folder);
    let model = xlm_roberta::XLMRobertaForSequenceClassification::new(1, &config, folder.tensors())?;
    model.forward(&batch.ids, &batch.mask, &batch.types)?.squeeze(1)
}

/// DistilBERT: it has one form of GELU.
fn distilbert_config(folder: &Folder) -> distilbert::Config {
    folder.config(&[("activation", "gelu".into())])
}

pub fn distilbert(folder: &Folder, batch: &Padded) -> Computed {
    distilbert::DistilBertModel::load(folder.tensors(), &distilbert_config(folder))?
        .forward(&batch.ids, &batch.padding()?)
}

pub fn distilbert_for_masked_lm(folder: &Folder, batch: &Padded) -> Computed {
    let model = distilbert::DistilBertForMaskedLM::load(folder.tensors(), &distilbert_config(folder))?;
    model.forward(&batch.ids, &batch.padding()?)
}

/// It has no classifier: the hidden layer and the classifier are two products here.
pub fn distilbert_classifier(folder: &Folder, batch: &Padded) -> Computed {
    let model = distilbert::DistilBertModel::load(folder.tensors().pp("distilbert"), &distilbert_config(folder))?;
    let first = first_token(&model.forward(&batch.ids, &batch.padding()?)?)?;
    let hidden = linear(folder, "pre_classifier").forward(&first)?.relu()?;
    linear(folder, "classifier").forward(&hidden)?.squeeze(1)
}

/// JinaBERT v2. Its table of distances has the longest sequence squared entries for every head, 1.6 GB for 8192 tokens.
pub fn jina_bert(folder: &Folder, batch: &Padded) -> Computed {
    let changes = [("max_position_embeddings", json!(batch.ids.dim(1)?)), ("initializer_range", json!(0.02))];
    jina_bert::BertModel::new(folder.tensors(), &folder.config(&changes))?.forward(&batch.ids)
}

/// ModernBERT: it has the older names of the configuration.
fn modernbert_config(folder: &Folder, labels: Value) -> modernbert::Config {
    let config = &folder.config;
    let theta = |layers: &str, older: &str| {
        let newer = &config["rope_parameters"][layers]["rope_theta"];
        if newer.is_null() { config[older].clone() } else { newer.clone() }
    };
    let every = config["global_attn_every_n_layers"].as_u64().unwrap_or(3);
    folder.config(&[
        ("layer_norm_eps", config["norm_eps"].clone()),
        ("global_rope_theta", theta("full_attention", "global_rope_theta")),
        ("local_rope_theta", theta("sliding_attention", "local_rope_theta")),
        ("global_attn_every_n_layers", every.into()),
        ("id2label", labels.clone()),
        ("label2id", json!({})),
    ])
}

pub fn modernbert(folder: &Folder, batch: &Padded) -> Computed {
    let config = modernbert_config(folder, json!({}));
    modernbert::ModernBert::load(folder.tensors_with("model.", []), &config)?.forward(&batch.ids, &batch.mask)
}

/// Its classifier ends in a softmax, which is 1 for the one label of a reranker. With a second label whose logit is
/// always 0 it is the logistic function of the first.
pub fn modernbert_classifier(folder: &Folder, batch: &Padded) -> Computed {
    let config = modernbert_config(folder, json!({"0": "relevant", "1": "nothing"}));
    let with_zeros = |name: &'static str| {
        let tensor = folder.tensor(name);
        Ok::<_, candle_core::Error>((name, Tensor::cat(&[tensor, &tensor.zeros_like()?], 0)?))
    };
    let classifier = [with_zeros("classifier.weight")?, with_zeros("classifier.bias")?];
    let model = modernbert::ModernBertForSequenceClassification::load(folder.tensors_with("", classifier), &config)?;
    model.forward(&batch.ids, &batch.mask)?.narrow(1, 0, 1)?.squeeze(1)
}

pub fn nomic_bert(folder: &Folder, batch: &Padded) -> Computed {
    let model = nomic_bert::NomicBertModel::load(folder.tensors(), &folder.config(&[]))?;
    model.forward(&batch.ids, Some(&batch.types), Some(&batch.mask))
}

/// The smaller Stella is a GTE model, without a configuration of its own. It always has token types.
pub fn gte(folder: &Folder, batch: &Padded) -> Computed {
    let config = &folder.config;
    let number = |key: &str| config[key].as_u64().expect(key) as usize;
    let real = |value: &Value| value.as_f64().expect("a number");
    let width = number("hidden_size");
    let config = stella_en_v5::Config {
        variant: stella_en_v5::ModelVariant::Small,
        vocab_size: number("vocab_size"),
        hidden_size: width,
        intermediate_size: number("intermediate_size"),
        num_hidden_layers: number("num_hidden_layers"),
        num_attention_heads: number("num_attention_heads"),
        max_position_embeddings: number("max_position_embeddings"),
        rope_theta: real(&config["rope_theta"]),
        norm_eps: real(&config["layer_norm_eps"]),
        activation_fn: candle_nn::Activation::Gelu,
        type_vocab_size: number("type_vocab_size").max(1),
        scaling_factor: real(&config["rope_scaling"]["factor"]),
        ..stella_en_v5::Config::default()
    };
    let no_types = Tensor::zeros((1, width), DType::F32, &Device::Cpu)?;
    let types = (number_of_types(folder) == 0).then_some(("embeddings.token_type_embeddings.weight", no_types));
    stella_en_v5::Model::new(&config, folder.tensors_with("new.", types))?.forward(&batch.ids, &batch.mask)
}

fn number_of_types(folder: &Folder) -> u64 {
    folder.config["type_vocab_size"].as_u64().expect("type_vocab_size")
}

/// What the decoders of Qwen need: the base of the rotation has two places, and a window that is not used is a number.
fn qwen_changes(folder: &Folder) -> [(&'static str, Value); 2] {
    let config = &folder.config;
    let theta =
        if config["rope_theta"].is_null() { &config["rope_parameters"]["rope_theta"] } else { &config["rope_theta"] };
    [("rope_theta", theta.clone()), ("sliding_window", config["max_position_embeddings"].clone())]
}

/// Without a mask of its own it is causal, so that padding on the right changes nothing before it.
pub fn qwen2(folder: &Folder, batch: &Padded) -> Computed {
    let config = folder.config(&qwen_changes(folder));
    qwen2::Model::new(&config, folder.tensors_with("model.", []))?.forward(&batch.ids, 0, None)
}

pub fn qwen3(folder: &Folder, batch: &Padded) -> Computed {
    let config = folder.config(&qwen_changes(folder));
    qwen3::Model::new(&config, folder.tensors_with("model.", []))?.forward(&batch.ids, 0)
}

/// The logit of `yes` less that of `no` after the last token: the hidden state by two rows of the embedding.
pub fn qwen3_yes_or_no(folder: &Folder, batch: &Padded) -> Computed {
    let hidden = qwen3(folder, batch)?;
    let last: Vec<Tensor> = batch
        .lengths
        .iter()
        .enumerate()
        .map(|(row, length)| hidden.get(row)?.get(length - 1))
        .collect::<Result<_, _>>()?;
    let [yes, no] = folder.yes_and_no();
    let embedding = folder.tensor("model.embed_tokens.weight");
    let direction = (embedding.get(yes)? - embedding.get(no)?)?;
    Tensor::stack(&last, 0)?.broadcast_mul(&direction)?.sum(D::Minus1)
}

fn first_token(hidden: &Tensor) -> Computed {
    hidden.narrow(1, 0, 1)?.squeeze(1)
}

fn linear(folder: &Folder, name: &str) -> Linear {
    let of = |part: &str| folder.tensor(&format!("{name}.{part}")).clone();
    Linear::new(of("weight"), Some(of("bias")))
}

/// Vectors of length 1.
pub fn normalized(vectors: &Tensor) -> Computed {
    vectors.broadcast_div(&vectors.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?)
}
