//! The prompts of `config_sentence_transformers.json`: which text precedes a query, and which a document.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;

use super::json::read_optional_json;
use crate::model::ModelError;

const FILE: &str = "config_sentence_transformers.json";

/// Names of the prompt for a document, in the order of `SentenceTransformer.encode_document`.
const DOCUMENT_PROMPTS: [&str; 3] = ["document", "passage", "corpus"];

/// The prompts of `config_sentence_transformers.json`.
#[derive(Debug, Default, Deserialize)]
pub struct FolderPrompts {
    #[serde(default)]
    prompts: BTreeMap<String, Option<String>>,
    default_prompt_name: Option<String>,
}

impl FolderPrompts {
    /// Reads the prompts of the model folder `dir`.
    ///
    /// # Errors
    /// If the file is invalid, or its default prompt is not one of its prompts.
    pub(super) fn read(model: &str, dir: &Path) -> Result<Self, ModelError> {
        let file = dir.join(FILE);
        let prompts: Self = read_optional_json(model, &file)?;
        match prompts.unknown_default() {
            None => Ok(prompts),
            Some(unknown) => {
                let known: Vec<&str> = prompts.prompts.keys().map(String::as_str).collect();
                Err(ModelError::unsupported(model, &file, "default_prompt_name", unknown, &known))
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
