//! The names of files in a model folder.

/// The weights.
pub(super) const WEIGHTS: &str = "model.safetensors";
/// The index of the weights files, if there are several.
pub(super) const WEIGHTS_INDEX: &str = "model.safetensors.index.json";
/// The configuration of an encoder or a module.
pub(super) const CONFIG: &str = "config.json";
/// The tokenizer.
pub(super) const TOKENIZER: &str = "tokenizer.json";
