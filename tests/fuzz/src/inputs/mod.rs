//! What parses bytes from outside, each as a function of the bytes. None may panic, hang, or take memory without bounds,
//! and what is read must be read the same way again.
//!
//! The functions call the runner where a run calls it. `runner/tests/seeds.rs` calls them with every seed, so that they
//! are compiled and checked by `cargo test`.

mod hub;
mod model;
mod output;
mod settings;
mod source;

pub use self::{
    hub::hub,
    model::{model_json, safetensors, tokenizer},
    output::{marker, message, plan, summary},
    settings::{config, manifest, queries},
    source::{chunks_json, json_lines, markdown, text},
};

/// What takes the bytes of an input.
pub type Input = fn(&[u8]);

/// Every input by the name of its target.
pub const INPUTS: [(&str, Input); 15] = [
    ("chunks_json", chunks_json),
    ("json_lines", json_lines),
    ("markdown", markdown),
    ("text", text),
    ("safetensors", safetensors),
    ("tokenizer", tokenizer),
    ("model_json", model_json),
    ("hub", hub),
    ("message", message),
    ("plan", plan),
    ("marker", marker),
    ("summary", summary),
    ("queries", queries),
    ("config", config),
    ("manifest", manifest),
];

/// A folder of this process, for inputs that are files.
fn folder() -> &'static std::path::Path {
    use std::sync::LazyLock;
    static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a folder"));
    FOLDER.path()
}
