//! `config_sentence_transformers.json`: which text precedes a query, and which a document, and the widths and the activation
//! that the model was saved with.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;

use super::files::Files;
use crate::model::ModelError;

const FILE: &str = "config_sentence_transformers.json";

/// Names of the prompt for a document, in the order of `SentenceTransformer.encode_document`.
const DOCUMENT_PROMPTS: [&str; 3] = ["document", "passage", "corpus"];

/// Fields that change no vector, weight or score: the versions that saved the model, its kind, whose modules say the same,
/// parts of a cross-encoder that stay in f32, and the comparison of vectors, which is not the model's work.
const WITHOUT_EFFECT: [&str; 5] =
    ["__version__", "keep_in_fp32_modules", "model_type", "requirements", "similarity_fn_name"];

/// `config_sentence_transformers.json`.
#[derive(Debug, Default, Deserialize)]
pub struct FolderPrompts {
    #[serde(default)]
    prompts: BTreeMap<String, Option<String>>,
    default_prompt_name: Option<String>,
    /// The width that the vectors of a dense encoder are truncated to.
    pub truncate_dim: Option<usize>,
    /// The entries that are kept of the vectors of a sparse encoder.
    pub max_active_dims: Option<usize>,
    /// The class of the activation of a cross-encoder's scores.
    pub activation_fn: Option<String>,
}

impl FolderPrompts {
    /// Reads the prompts of the model folder `dir`.
    ///
    /// # Errors
    /// If the file is invalid, or its default prompt is not one of its prompts.
    pub(super) fn read(files: &Files, dir: &Path) -> Result<Self, ModelError> {
        let file = dir.join(FILE);
        let prompts: Self = files.optional_strict_json(&file, &WITHOUT_EFFECT)?;
        match prompts.unknown_default() {
            None => Ok(prompts),
            Some(unknown) => {
                let known: Vec<&str> = prompts.prompts.keys().map(String::as_str).collect();
                Err(ModelError::unsupported(files.model(), &file, "default_prompt_name", unknown, &known))
            }
        }
    }

    /// The text that precedes a document, as `SentenceTransformer.encode_document` chooses it.
    pub fn document(&self) -> Option<&str> {
        self.first(&DOCUMENT_PROMPTS)
    }

    /// The text that precedes a query, as `SentenceTransformer.encode_query` chooses it.
    pub fn query(&self) -> Option<&str> {
        self.first(&["query"])
    }

    /// The text that precedes the query of a pair: `CrossEncoder.predict` knows the default prompt only.
    pub fn of_pair(&self) -> Option<&str> {
        self.first(&[])
    }

    /// The name of a default prompt that is not one of the prompts. The names of the two sides are always valid, even
    /// without a text.
    fn unknown_default(&self) -> Option<&str> {
        let default = self.default_prompt_name.as_deref();
        default.filter(|name| !self.prompts.contains_key(*name) && !["query", "document"].contains(name))
    }

    /// The text of the first of the `names` that has a prompt, else of the default prompt; `None` if it is empty.
    fn first(&self, names: &[&str]) -> Option<&str> {
        let names = names.iter().copied().filter(|name| self.prompts.contains_key(*name));
        let name = names.chain(self.default_prompt_name.as_deref()).next()?;
        self.prompts.get(name)?.as_deref().filter(|prompt| !prompt.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn prompts_are_chosen_as_the_reference_does() {
        let prompts = |json| serde_json::from_value::<FolderPrompts>(json).expect("prompts");
        let both = prompts(json!({"prompts": {"query": "q: ", "passage": "p: "}, "default_prompt_name": null}));
        assert_eq!((both.query(), both.document()), (Some("q: "), Some("p: ")));
        let default = prompts(json!({"prompts": {"sts": "s: "}, "default_prompt_name": "sts"}));
        assert_eq!((default.query(), default.document()), (Some("s: "), Some("s: ")));
        let empty = prompts(json!({"prompts": {"query": "", "document": ""}}));
        assert_eq!((empty.query(), empty.document()), (None, None));
        assert_eq!(FolderPrompts::default().document(), None);
    }
}
