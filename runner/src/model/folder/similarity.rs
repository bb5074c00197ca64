//! `similarity_fn_name` of `config_sentence_transformers.json`: how the vectors of a model are compared.

use std::path::Path;

use crds::v1alpha1::Similarity;
use serde::Deserialize;
use serde_json::Value;

use super::files::Files;
use crate::model::ModelError;

const FILE: &str = "config_sentence_transformers.json";
const FIELD: &str = "similarity_fn_name";

/// The names of the functions: those of `sentence_transformers.SimilarityFunction`, and the name of its member for the dot
/// product.
const NAMES: [(&str, Similarity); 5] = [
    ("cosine", Similarity::Cosine),
    ("dot", Similarity::Dot),
    ("dot_product", Similarity::Dot),
    ("euclidean", Similarity::Euclidean),
    ("manhattan", Similarity::Manhattan),
];

#[derive(Default, Deserialize)]
struct SavedConfig {
    #[serde(default)]
    similarity_fn_name: Value,
}

/// The similarity that the model folder `dir` names, one of those that are `supported`; `None` if it names none.
///
/// # Errors
/// If the file is invalid, or names another function.
pub(super) fn similarity(
    files: &Files,
    dir: &Path,
    supported: &[Similarity],
) -> Result<Option<Similarity>, ModelError> {
    let file = dir.join(FILE);
    let saved: SavedConfig = files.optional_json(&file)?;
    let name = match saved.similarity_fn_name {
        Value::Null => return Ok(None),
        Value::String(name) => name,
        other => other.to_string(),
    };
    let known: Vec<(&str, Similarity)> =
        NAMES.into_iter().filter(|(_, similarity)| supported.contains(similarity)).collect();
    let found = known.iter().find(|(known, _)| *known == name).map(|(_, similarity)| *similarity);
    let names = || known.iter().map(|(known, _)| *known).collect::<Vec<_>>();
    found.map(Some).ok_or_else(|| ModelError::unsupported(files.model(), &file, FIELD, &name, &names()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    const ALL: [Similarity; 4] = [Similarity::Cosine, Similarity::Dot, Similarity::Euclidean, Similarity::Manhattan];

    fn read(config: &Value, supported: &[Similarity]) -> Result<Option<Similarity>, String> {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join(FILE), config.to_string()).expect("a file");
        similarity(&Files::new("m", dir.path()), dir.path(), supported).map_err(|error| error.to_string())
    }

    #[test]
    fn every_name_of_the_reference_is_read() {
        for (name, similarity) in NAMES {
            assert_eq!(read(&json!({FIELD: name}), &ALL), Ok(Some(similarity)), "{name}");
        }
        assert_eq!(read(&json!({FIELD: null}), &ALL), Ok(None));
        assert_eq!(read(&json!({"prompts": {}}), &ALL), Ok(None));
        assert_eq!(
            similarity(&Files::new("m", Path::new("/no/such/folder")), Path::new("/no/such/folder"), &ALL).ok(),
            Some(None)
        );
    }

    #[test]
    fn another_function_is_rejected_by_file_field_and_value() {
        for (config, supported, value) in [
            (json!({FIELD: "hamming"}), &ALL[..], "hamming"),
            (json!({FIELD: 1}), &ALL, "1"),
            (json!({FIELD: "euclidean"}), &ALL[..2], "euclidean"),
        ] {
            let message = read(&config, supported).expect_err(value);
            for part in [FILE, FIELD, value, "cosine"] {
                assert!(message.contains(part), "{message}");
            }
        }
    }
}
