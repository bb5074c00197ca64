//! The layers that set toggles: a file, `.env`, the environment and the spec.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crds::{contract::FailureReason, v1alpha1::TogglesSpec};
use serde_json::Value;

use super::entry::{TOGGLES, Toggle, ToggleEntry, known_key, known_keys};
use crate::process::error::{Result, StageError};

/// The names of the file of toggles.
const FILES: [&str; 3] = ["embedder.json", "embedder.yaml", "embedder.yml"];
/// The variable that names another file.
pub(super) const FILE_VARIABLE: &str = "EMBEDRUN_CONFIG_FILE";

/// The layer of the spec: `spec.toggles` and `spec.gpu.memoryCeiling`.
pub(super) fn of_spec(spec: &TogglesSpec, ceiling: Option<&str>) -> Vec<ToggleEntry> {
    let TogglesSpec { exclusive, sparse, rerank, metrics } = spec;
    let values = [("exclusive", exclusive), ("sparse", sparse), ("rerank", rerank), ("metrics", metrics)];
    let entry = |(key, value): (&'static str, &Option<bool>)| {
        let value = (*value)?.to_string();
        Some(ToggleEntry { key, value, source: format!("spec.toggles.{key}"), layer: "spec" })
    };
    let ceiling = ceiling.map(|value| ToggleEntry {
        key: "memory_ceiling",
        value: value.to_owned(),
        source: "spec.gpu.memoryCeiling".into(),
        layer: "spec",
    });
    values.into_iter().filter_map(entry).chain(ceiling).collect()
}

/// The toggles that environment variables set; `source` names a variable in messages.
pub(super) fn of_environment(
    variable: impl Fn(&str) -> Option<String>,
    layer: &'static str,
    source: impl Fn(&str) -> String,
) -> Vec<ToggleEntry> {
    let entry = |toggle: &Toggle| {
        let value = variable(toggle.variable)?;
        Some(ToggleEntry { key: toggle.key, value, source: source(toggle.variable), layer })
    };
    TOGGLES.iter().filter_map(entry).collect()
}

/// The layer of the file: the `named` one, or the one in the `folder`.
///
/// # Errors
/// If there are two files, or one is not a map of known toggles.
pub(super) fn of_file(folder: &Path, named: Option<String>) -> Result<Vec<ToggleEntry>> {
    let invalid = |message: String| StageError::new(FailureReason::InvalidConfiguration, message);
    let in_folder = FILES.iter().map(|name| folder.join(name)).filter(|path| path.exists());
    let files: Vec<PathBuf> = named.map_or_else(|| in_folder.collect(), |path| vec![path.into()]);
    let path = match &files[..] {
        [] => return Ok(Vec::new()),
        [path] => path,
        [first, second, ..] => {
            return Err(invalid(format!("found both {} and {}: keep one", first.display(), second.display())));
        }
    };
    let name = path.display().to_string();
    let text =
        std::fs::read_to_string(path).map_err(|error| invalid(format!("cannot read {name}")).caused_by(error))?;
    // JSON is YAML.
    let value: Value =
        serde_yaml_ng::from_str(&text).map_err(|error| invalid(format!("cannot parse {name}")).caused_by(error))?;
    let Value::Object(fields) = value else {
        return Err(invalid(format!("{name} is not a map of toggles; known: {}", known_keys())));
    };
    let mut entries = Vec::with_capacity(fields.len());
    for (field, value) in fields {
        let key = known_key(&field)
            .ok_or_else(|| invalid(format!("{name}: unknown toggle {field:?}; known: {}", known_keys())))?;
        let value = scalar(&value)
            .ok_or_else(|| invalid(format!("{name}: {field} is {value}, expected a value or a list of names")))?;
        entries.push(ToggleEntry { key, value, source: format!("{name}: {field}"), layer: "file" });
    }
    Ok(entries)
}

/// The text of a value; the items of a list are joined by commas. `None` for null and maps.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(value) => Some(value.to_string()),
        Value::String(value) => Some(value.clone()),
        Value::Array(items) => Some(items.iter().map(|item| item.as_str()).collect::<Option<Vec<_>>>()?.join(",")),
        Value::Null | Value::Object(_) => None,
    }
}

/// The layer of the `.env` file; its other variables are ignored.
///
/// # Errors
/// If the file cannot be read or parsed.
pub(super) fn of_dot_env(folder: &Path) -> Result<Vec<ToggleEntry>> {
    let path = folder.join(".env");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let name = path.display().to_string();
    let invalid = |error: dotenvy::Error| {
        StageError::new(FailureReason::InvalidConfiguration, format!("cannot parse {name}")).caused_by(error)
    };
    let variables: BTreeMap<String, String> =
        dotenvy::from_path_iter(&path).map_err(invalid)?.collect::<Result<_, _>>().map_err(invalid)?;
    let variable = |name: &str| variables.get(name).filter(|value| !value.trim().is_empty()).cloned();
    Ok(of_environment(variable, "dotenv", |variable| format!("{name}: {variable}")))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_and_dot_env_are_layers() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(of_file(folder.path(), None).expect("no file"), []);
        fs::write(folder.path().join("embedder.yaml"), "sparse: false\nsparse_models: [a, b]\nbatch_tokens: 512\n")
            .expect("written");
        fs::write(folder.path().join(".env"), "# ours\nEMBEDDER_ENABLE_RERANK=false\nOTHER=1\n").expect("written");
        let entries = of_file(folder.path(), None).expect("a file");
        let values: Vec<(&str, &str)> = entries.iter().map(|entry| (entry.key, entry.value.as_str())).collect();
        assert_eq!(values, [("batch_tokens", "512"), ("sparse", "false"), ("sparse_models", "a,b")]);
        assert!(entries[1].source.ends_with("embedder.yaml: sparse"), "{}", entries[0].source);
        let entries = of_dot_env(folder.path()).expect("a file");
        assert_eq!((entries.len(), entries[0].key, entries[0].layer), (1, "rerank", "dotenv"));
        fs::write(folder.path().join("embedder.json"), "{\"rerank\": true}").expect("written");
        assert!(of_file(folder.path(), None).expect_err("two").sentence().contains("keep one"));
    }

    #[test]
    fn an_invalid_file_is_rejected_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("embedder.json");
        let named = || Some(path.display().to_string());
        for (text, words) in [
            ("{\"reranking\": true}", "unknown toggle \"reranking\""),
            ("[true]", "is not a map of toggles"),
            ("{\"rerank\": {\"on\": true}}", "expected a value or a list"),
            ("{\"rerank\": ", "cannot parse"),
        ] {
            fs::write(&path, text).expect("written");
            let sentence = of_file(folder.path(), named()).expect_err(text).sentence();
            assert!(sentence.contains("embedder.json") && sentence.contains(words), "{sentence}");
        }
        let missing = of_file(folder.path(), Some("/nowhere.yaml".into())).expect_err("missing").sentence();
        assert!(missing.contains("/nowhere.yaml"), "{missing}");
    }
}
