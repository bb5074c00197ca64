//! A tiny BERT with made-up weights, for tests that need a model and no meaning.

use std::{collections::HashMap, fs, path::Path};

use candle_core::{Device, Tensor};
use serde_json::{Value, json};

/// The width of its vectors.
pub const DIMENSIONS: usize = 16;
/// The longest sequence that it takes, in tokens.
pub const MAX_TOKENS: usize = 32;

const INNER: usize = 32;

/// Writes the model folder. Models of different `seed` have different weights.
pub fn write_tiny_bert(folder: &Path, seed: u32) {
    fs::create_dir_all(folder.join("1_Pooling")).expect("a folder");
    let write = |name: &str, value: Value| fs::write(folder.join(name), value.to_string()).expect(name);
    let vocabulary = vocabulary();
    write(
        "config.json",
        json!({
            "model_type": "bert", "architectures": ["BertModel"], "vocab_size": vocabulary.len(),
            "hidden_size": DIMENSIONS, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": INNER,
            "hidden_act": "gelu", "max_position_embeddings": MAX_TOKENS, "type_vocab_size": 2,
            "layer_norm_eps": 1e-12, "pad_token_id": 0
        }),
    );
    write(
        "modules.json",
        json!([
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}
        ]),
    );
    write(
        "1_Pooling/config.json",
        json!({"word_embedding_dimension": DIMENSIONS, "pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true}),
    );
    write("tokenizer.json", tokenizer(&vocabulary));
    let tensors: HashMap<String, Tensor> = shapes(vocabulary.len())
        .into_iter()
        .enumerate()
        .map(|(index, (name, shape))| {
            let tensor = made_up(&name, &shape, seed.wrapping_mul(97).wrapping_add(index as u32));
            (name, tensor)
        })
        .collect();
    candle_core::safetensors::save(&tensors, folder.join("model.safetensors")).expect("weights");
}

/// Special tokens, then letters and digits at the beginning and inside of a word.
fn vocabulary() -> Vec<String> {
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"].map(ToOwned::to_owned);
    let letters = ('a'..='z').chain('0'..='9');
    let pieces = letters.flat_map(|letter| [letter.to_string(), format!("##{letter}")]);
    special.into_iter().chain(pieces).collect()
}

fn tokenizer(vocabulary: &[String]) -> Value {
    let ids: HashMap<&str, usize> = vocabulary.iter().enumerate().map(|(id, token)| (token.as_str(), id)).collect();
    let special = |id: usize| {
        json!({"id": id, "content": vocabulary[id], "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0), special(1), special(2), special(3)],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                       "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                     {"SpecialToken": {"id": "[SEP]", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}},
                     {"SpecialToken": {"id": "[SEP]", "type_id": 1}}],
            "special_tokens": {
                "[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}
            }
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": ids}
    })
}

fn shapes(vocabulary: usize) -> Vec<(String, Vec<usize>)> {
    let mut shapes = vec![
        ("embeddings.word_embeddings.weight".to_owned(), vec![vocabulary, DIMENSIONS]),
        ("embeddings.position_embeddings.weight".to_owned(), vec![MAX_TOKENS, DIMENSIONS]),
        ("embeddings.token_type_embeddings.weight".to_owned(), vec![2, DIMENSIONS]),
    ];
    let layer = "encoder.layer.0";
    for norm in
        ["embeddings.LayerNorm", &format!("{layer}.attention.output.LayerNorm"), &format!("{layer}.output.LayerNorm")]
    {
        shapes.push((format!("{norm}.weight"), vec![DIMENSIONS]));
        shapes.push((format!("{norm}.bias"), vec![DIMENSIONS]));
    }
    let linears = [
        ("attention.self.query", DIMENSIONS, DIMENSIONS),
        ("attention.self.key", DIMENSIONS, DIMENSIONS),
        ("attention.self.value", DIMENSIONS, DIMENSIONS),
        ("attention.output.dense", DIMENSIONS, DIMENSIONS),
        ("intermediate.dense", DIMENSIONS, INNER),
        ("output.dense", INNER, DIMENSIONS),
    ];
    for (module, from, to) in linears {
        shapes.push((format!("{layer}.{module}.weight"), vec![to, from]));
        shapes.push((format!("{layer}.{module}.bias"), vec![to]));
    }
    shapes
}

/// Values between -½ and ½ that depend on the seed alone; layer norms stay near the identity.
fn made_up(name: &str, shape: &[usize], seed: u32) -> Tensor {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let offset = if name.ends_with("LayerNorm.weight") { 1.0 } else { 0.0 };
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5 + offset
        })
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).expect("a tensor")
}
