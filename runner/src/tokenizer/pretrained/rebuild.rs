//! What the Python classes build anew: model, normalizer, pre-tokenizer and post-processor, around the vocabulary of the file.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Map, Value, json};
use tokenizers::{
    AddedToken, PostProcessorWrapper, Tokenizer,
    processors::{roberta::RobertaProcessing, template::TemplateProcessing},
};

use super::{
    added::NamedTokens,
    class::Class,
    fields::{Fields, Setting},
    files,
    settings::Settings,
    token::Token,
};
use crate::tokenizer::{
    error::{TokenizerError, TokenizersError},
    library,
};

/// Qwen2's split of a text into words, single digits and signs.
const QWEN2_WORDS: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The tokenizer that `class` builds from the `tokenizer.json` at `path`, without added tokens, and the added tokens of the file by
/// id. The post-processor and the truncation are those of the file.
///
/// # Errors
/// If the file is not a tokenizer of the class's kind, or a setting is not valid.
pub fn backend(
    class: Class,
    path: &Path,
    settings: &Settings,
) -> Result<(Tokenizer, BTreeMap<u32, Token>), TokenizerError> {
    let open_error = |source: TokenizersError| TokenizerError::Open { path: path.to_owned(), source };
    let text = files::read(path)?;
    let file: Map<String, Value> = serde_json::from_slice(&text).map_err(|error| open_error(error.into()))?;
    drop(text);
    let mut file = Value::Object(file);
    if !file["model"].is_object() {
        return Err(open_error("it has no model".into()));
    }
    let added = added_tokens(&file["added_tokens"]).map_err(open_error)?;
    let (normalizer, pre_tokenizer) = pipeline(class, &file, settings)?;
    let model = model(class, path, file["model"].take(), settings)?;
    let built = json!({
        "version": "1.0", "padding": null, "added_tokens": [], "decoder": null, "model": model,
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer,
        "truncation": file["truncation"].take(), "post_processor": file["post_processor"].take(),
    });
    let backend = library::from_json(built).map_err(open_error)?;
    Ok((backend, added))
}

/// The added tokens of a `tokenizer.json`, by id.
fn added_tokens(tokens: &Value) -> Result<BTreeMap<u32, Token>, TokenizersError> {
    let read = |token: &Value| -> Result<(u32, Token), TokenizersError> {
        let id = token["id"].as_u64().and_then(|id| u32::try_from(id).ok()).ok_or("an added token has no id")?;
        Ok((id, Token::of(&serde_json::from_value::<AddedToken>(token.clone())?)))
    };
    tokens.as_array().into_iter().flatten().map(read).collect()
}

/// The model of the class, with the vocabulary and the merges of that of the file.
fn model(class: Class, path: &Path, mut of_file: Value, settings: &Settings) -> Result<Value, TokenizerError> {
    let expected = match class {
        Class::Bert | Class::DistilBert | Class::Mpnet => "WordPiece",
        Class::Roberta | Class::Gemma | Class::Qwen2 => "BPE",
        Class::XlmRoberta | Class::Camembert | Class::AsFile => "Unigram",
    };
    let kind = kind(&of_file).to_owned();
    if kind != expected {
        let file = Fields::of_object(path, "model", [("type".to_owned(), json!(kind))].into_iter().collect());
        let place: Setting = file.setting("type").expect("it was just put in");
        return Err(place.unsupported(&format!("{expected}, which the tokenizer_class builds")));
    }
    let unknown = unknown_token(class, settings)?;
    let vocabulary = of_file["vocab"].take();
    Ok(match class {
        Class::Bert | Class::DistilBert | Class::Mpnet => json!({
            "type": "WordPiece", "vocab": vocabulary, "unk_token": unknown, "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
        }),
        Class::Roberta | Class::Gemma | Class::Qwen2 => {
            let (unknown, affix) =
                if class == Class::Gemma { (json!(unknown), Value::Null) } else { (Value::Null, json!("")) };
            json!({
                "type": "BPE", "vocab": vocabulary, "merges": of_file["merges"].take(), "dropout": null,
                "unk_token": unknown, "continuing_subword_prefix": affix, "end_of_word_suffix": affix,
                "fuse_unk": class == Class::Gemma, "byte_fallback": class == Class::Gemma, "ignore_merges": false,
            })
        }
        Class::XlmRoberta | Class::Camembert | Class::AsFile => {
            let entries = vocabulary.as_array().into_iter().flatten();
            let at = || entries.clone().position(|entry| entry[0].as_str() == Some(&unknown)).unwrap_or(0);
            let unknown_id = if class == Class::Camembert { at() } else { 3 };
            json!({"type": "Unigram", "unk_id": unknown_id, "byte_fallback": false, "vocab": vocabulary})
        }
    })
}

/// The kind of a model; old files do not name it.
fn kind(model: &Value) -> &str {
    match &model["type"] {
        Value::String(kind) => kind,
        _ if model["merges"].is_array() => "BPE",
        _ if model["vocab"].is_array() => "Unigram",
        _ if model["continuing_subword_prefix"].is_string() => "WordPiece",
        _ => "WordLevel",
    }
}

fn unknown_token(class: Class, settings: &Settings) -> Result<String, TokenizerError> {
    let default = if matches!(class, Class::Bert | Class::DistilBert | Class::Mpnet) { "[UNK]" } else { "<unk>" };
    match settings.token("unk_token")? {
        Some(token) => Ok(token.content().to_owned()),
        // The byte-level models know all characters.
        None if settings.get("unk_token").is_some() && !matches!(class, Class::Qwen2 | Class::Roberta) => {
            Err(settings.place("unk_token").unsupported("a token"))
        }
        _ => Ok(default.to_owned()),
    }
}

/// The normalizer and the pre-tokenizer of the class.
fn pipeline(class: Class, file: &Value, settings: &Settings) -> Result<(Value, Value), TokenizerError> {
    let switch = |key: &str, default: bool| match settings.get(key) {
        Some(setting) => setting.value.as_bool().ok_or_else(|| setting.unsupported("true, false")),
        None => Ok(default),
    };
    // Null is no prefix, whatever the default is.
    let prefix_space = |default: bool| match settings.get("add_prefix_space") {
        Some(_) => Ok(settings.flag("add_prefix_space")?.unwrap_or(false)),
        None => Ok(default),
    };
    Ok(match class {
        Class::AsFile => (file["normalizer"].clone(), file["pre_tokenizer"].clone()),
        Class::Bert | Class::DistilBert | Class::Mpnet => (
            json!({
                "type": "BertNormalizer", "clean_text": true, "lowercase": switch("do_lower_case", true)?,
                "handle_chinese_chars": switch("tokenize_chinese_chars", true)?,
                "strip_accents": settings.flag("strip_accents")?,
            }),
            json!({"type": "BertPreTokenizer"}),
        ),
        Class::Roberta => (Value::Null, byte_level(prefix_space(false)?, true)),
        Class::Qwen2 => (
            json!({"type": "NFC"}),
            json!({"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": QWEN2_WORDS}, "behavior": "Isolated", "invert": false},
                byte_level(prefix_space(false)?, false),
            ]}),
        ),
        Class::Gemma => (
            json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"}),
            json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false}),
        ),
        Class::XlmRoberta | Class::Camembert => {
            let prepend = if prefix_space(true)? { "always" } else { "never" };
            (
                character_map(&file["normalizer"]).clone(),
                json!({"type": "Sequence", "pretokenizers": [
                    {"type": "WhitespaceSplit"},
                    {"type": "Metaspace", "replacement": "▁", "prepend_scheme": prepend, "split": true},
                ]}),
            )
        }
    })
}

fn byte_level(add_prefix_space: bool, use_regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": true, "use_regex": use_regex})
}

/// The character map of `SentencePiece` in a normalizer, the only part of it that is kept.
fn character_map(normalizer: &Value) -> &Value {
    let parts = match &normalizer["normalizers"] {
        Value::Array(parts) => parts.as_slice(),
        _ => std::slice::from_ref(normalizer),
    };
    parts.iter().find(|part| part["type"] == "Precompiled").unwrap_or(&Value::Null)
}

/// Sets the post-processor of the class, with the special tokens of the settings.
///
/// # Errors
/// If the class needs a special token that the settings set to null, or the arguments add tokens in a way that is not valid.
pub fn set_post_processor(
    class: Class,
    backend: &mut Tokenizer,
    named: &NamedTokens,
    settings: &Settings,
) -> Result<(), TokenizerError> {
    let token = |key: &str| -> Result<(String, u32), TokenizerError> {
        let content = named.content(key).filter(|content| !content.is_empty());
        let found = content.and_then(|content| Some((content.to_owned(), backend.token_to_id(content)?)));
        found.ok_or_else(|| settings.place(key).unsupported("a token"))
    };
    let processor: PostProcessorWrapper = match class {
        Class::Bert | Class::DistilBert => {
            let ((cls, cls_id), (sep, sep_id)) = (token("cls_token")?, token("sep_token")?);
            let single = [format!("{cls}:0"), "$A:0".into(), format!("{sep}:0")];
            let pair = [single.as_slice(), &["$B:1".into(), format!("{sep}:1")]].concat();
            template(single.into(), pair, vec![(cls, cls_id), (sep, sep_id)])
        }
        Class::Mpnet | Class::Roberta => RobertaProcessing::new(token("sep_token")?, token("cls_token")?).into(),
        Class::XlmRoberta | Class::Camembert => {
            let ((bos, bos_id), (eos, eos_id)) = (token("bos_token")?, token("eos_token")?);
            let single = [bos.clone(), "$A".into(), eos.clone()];
            let pair = [single.as_slice(), &[eos.clone(), "$B".into(), eos.clone()]].concat();
            template(single.into(), pair, vec![(bos, bos_id), (eos, eos_id)])
        }
        Class::AsFile | Class::Gemma | Class::Qwen2 => {
            // Arguments that add a token replace the post-processor of the file.
            let [first, last] = ["add_bos_token", "add_eos_token"];
            let explicit = settings.get(first).is_some() || settings.get(last).is_some();
            if backend.get_post_processor().is_some() && !explicit {
                return Ok(());
            }
            let added = |switch: &str, key: &str| -> Result<Option<(String, u32)>, TokenizerError> {
                let adds = settings.flag(switch)?.unwrap_or(false) && named.content(key).is_some();
                adds.then(|| token(key)).transpose()
            };
            let (bos, eos) = (added(first, "bos_token")?, added(last, "eos_token")?);
            let framed = |kind: usize, name: &str| -> Vec<String> {
                let special = |token: &Option<(String, u32)>| token.as_ref().map(|(text, _)| format!("{text}:{kind}"));
                [special(&bos), Some(format!("${name}:{kind}")), special(&eos)].into_iter().flatten().collect()
            };
            let pair = [framed(0, "A"), framed(1, "B")].concat();
            template(framed(0, "A"), pair, [bos, eos].into_iter().flatten().collect())
        }
    };
    backend.with_post_processor(Some(processor));
    Ok(())
}

fn template(single: Vec<String>, pair: Vec<String>, special: Vec<(String, u32)>) -> PostProcessorWrapper {
    let mut builder = TemplateProcessing::builder();
    builder.try_single(single).expect("pieces");
    builder.try_pair(pair).expect("pieces");
    builder.special_tokens(special).build().expect("a template with its tokens").into()
}
