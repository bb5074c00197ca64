//! The keys of tokenizer files that are read, and those that change no id.

use super::fields::{Fields, Setting};
use crate::tokenizer::error::TokenizerError;

/// The special tokens that all classes know, in the order in which they are added.
pub const SPECIAL_TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Keys of `tokenizer_config.json` that are read.
const READ: [&str; 16] = [
    "added_tokens_decoder",
    "additional_special_tokens",
    "auto_map",
    "do_lower_case",
    "extra_special_tokens",
    "fast_tokenizer_files",
    "init_inputs",
    "max_len",
    "model_input_names",
    "model_max_length",
    "split_special_tokens",
    "strip_accents",
    "tokenize_chinese_chars",
    "tokenizer_class",
    "truncation_side",
    "add_prefix_space",
];

/// Keys of `tokenizer_config.json` that change no id of a text.
pub const WITHOUT_EFFECT: [&str; 50] = [
    // Where the file came from, and with what it was made.
    "_commit_hash",
    "backend",
    "files_loaded",
    "is_local",
    "local_files_only",
    "name_or_path",
    "tokenizer_type",
    "transformers_version",
    "use_fast",
    "verbose",
    // A processor of images or sounds around the tokenizer.
    "processor_class",
    // Other files of a vocabulary: there is a tokenizer.json.
    "full_tokenizer_file",
    "merges_file",
    "sp_model_kwargs",
    "special_tokens_map_file",
    "spm_file",
    "tokenizer_file",
    "vocab_file",
    "vocab_size",
    // Dropped where there is a tokenizer.json, whose post-processor decides.
    "add_bos_token",
    "add_eos_token",
    // Arguments of a call: sequences are not padded, and the limit is model_max_length.
    "max_length",
    "pad_to_multiple_of",
    "pad_token_type_id",
    "padding_side",
    "return_token_type_ids",
    "stride",
    "truncation_strategy",
    // From ids back to text.
    "clean_up_tokenization_spaces",
    "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output",
    "errors",
    "spaces_between_special_tokens",
    "trim_offsets",
    // Conversations and generated text.
    "chat_control_tokens",
    "chat_template",
    "response_schema",
    "response_template",
    "use_default_system_prompt",
    // Only of classes that transformers 5.24 no longer has, or only where a vocabulary is converted.
    "clean_text",
    "do_basic_tokenize",
    "do_split_on_punc",
    "do_word_tokenize",
    "from_slow",
    "legacy",
    "never_split",
    "subword_tokenizer_type",
    "word_tokenizer_type",
    "wordpieces_prefix",
    // Corrections for models of another architecture.
    "fix_mistral_regex",
    "mistral_format",
];

/// Arguments that say where a file is loaded from; the reference overrides them.
pub const OF_THE_HUB: [&str; 9] = [
    "cache_dir",
    "force_download",
    "local_files_only",
    "proxies",
    "revision",
    "subfolder",
    "token",
    "trust_remote_code",
    "use_auth_token",
];

/// Whether `key` names a special token, which every class adds.
pub fn is_token(key: &str, setting: &Setting) -> bool {
    SPECIAL_TOKENS.contains(&key)
        || (key.ends_with("_token")
            && (setting.value.is_null() || setting.value.is_string() || setting.value.is_object()))
}

/// Checks the keys of `tokenizer_config.json`.
///
/// # Errors
/// If a key is not known.
pub fn check_config(config: &Fields) -> Result<(), TokenizerError> {
    check(config, |key, setting| READ.contains(&key) || WITHOUT_EFFECT.contains(&key) || is_token(key, setting))
}

/// Checks the keys of the tokenizer's arguments in `sentence_bert_config.json`.
///
/// # Errors
/// If a key is not known.
pub fn check_arguments(arguments: &Fields) -> Result<(), TokenizerError> {
    // These choose the class, which arguments cannot, or files.
    const NOT_ARGUMENTS: [&str; 5] =
        ["auto_map", "fast_tokenizer_files", "init_inputs", "tokenizer_class", "tokenizer_type"];
    // Arguments are not dropped where there is a tokenizer.json.
    const READ_TOO: [&str; 2] = ["add_bos_token", "add_eos_token"];
    check(arguments, |key, setting| {
        !NOT_ARGUMENTS.contains(&key)
            && (READ.contains(&key)
                || READ_TOO.contains(&key)
                || OF_THE_HUB.contains(&key)
                || WITHOUT_EFFECT.contains(&key)
                || is_token(key, setting))
    })
}

/// Checks the keys of `special_tokens_map.json`.
///
/// # Errors
/// If a key is not known.
pub fn check_special_tokens_map(map: &Fields) -> Result<(), TokenizerError> {
    const LISTS: [&str; 2] = ["additional_special_tokens", "extra_special_tokens"];
    check(map, |key, _| LISTS.contains(&key) || key.ends_with("_token"))
}

fn check(fields: &Fields, is_known: impl Fn(&str, &Setting) -> bool) -> Result<(), TokenizerError> {
    let unknown = fields.settings().find(|(key, setting)| !is_known(key, setting));
    unknown.map_or(Ok(()), |(_, setting)| Err(setting.unknown()))
}
