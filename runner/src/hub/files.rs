//! Selects the files of a repository that a model needs: its settings and its safetensors, never a pickle and never code.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// The list of the modules of a sentence-transformers model, each in its own folder or in the root.
pub const MODULES: &str = "modules.json";
/// The configuration of an encoder or a module.
pub const CONFIG: &str = "config.json";
/// The tokenizer.
pub const TOKENIZER: &str = "tokenizer.json";
/// The weights in one file.
pub const WEIGHTS: &str = "model.safetensors";
/// The index of weights in several files.
const INDEX: &str = "model.safetensors.index.json";

/// The settings files of the root and of a module's folder; all are optional here.
const SETTINGS: [&str; 16] = [
    CONFIG,
    MODULES,
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    // Older names of sentence_bert_config.json.
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
    "chat_template.jinja",
    "adapter_config.json",
];

/// Extensions of files that are pickles, or hold one.
const PICKLES: [&str; 5] = [".bin", ".ckpt", ".pkl", ".pt", ".pth"];

/// The weights of a folder.
#[derive(Debug, PartialEq, Eq)]
pub enum Weights {
    /// One file.
    Whole(String),
    /// Several files, listed by this index.
    Sharded(String),
    /// Only a pickle.
    Pickled(String),
    /// No weights.
    None,
}

/// The last part of a path.
pub fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The path of a module's folder in `modules.json`, from the model's folder with single slashes and without `.`; the root is
/// empty. `None` if it leads out of the model's folder.
pub fn module_path(path: &str) -> Option<String> {
    if path.starts_with('/') {
        return None;
    }
    let steps: Vec<&str> = path.split('/').filter(|step| !matches!(*step, "" | ".")).collect();
    (!steps.contains(&"..")).then(|| steps.join("/"))
}

/// The folders of a model's modules, as its `modules.json` lists them. The root is the empty string, and the only folder of a
/// model without `modules.json`.
pub fn folders(modules: Option<&[u8]>) -> serde_json::Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Module {
        path: String,
    }
    let Some(modules) = modules else {
        return Ok(BTreeSet::from([String::new()]));
    };
    let modules: Vec<Module> = serde_json::from_slice(modules)?;
    // A path out of the folder has no files here; it is rejected when the folder is opened.
    Ok(modules.iter().filter_map(|module| module_path(&module.path)).collect())
}

/// Whether the model's first module is a static embedding, which has no `config.json`.
pub fn is_static(modules: Option<&[u8]>) -> bool {
    #[derive(Deserialize)]
    struct Module {
        #[serde(rename = "type")]
        class: String,
    }
    let modules = modules.and_then(|modules| serde_json::from_slice::<Vec<Module>>(modules).ok());
    modules.as_ref().and_then(|modules| modules.first()).is_some_and(|first| first.class.ends_with("StaticEmbedding"))
}

/// The settings files in `folders` and in the root that are `listed` in the repository.
pub fn settings(folders: &BTreeSet<String>, listed: &BTreeSet<String>) -> Vec<String> {
    let root = folders.iter().all(|folder| !folder.is_empty()).then(String::new);
    let folders = root.iter().chain(folders);
    let paths = folders.flat_map(|folder| SETTINGS.map(|name| join(folder, name)));
    paths.filter(|path| listed.contains(path)).collect()
}

/// The weights in `folder`.
pub fn weights(folder: &str, listed: &BTreeSet<String>) -> Weights {
    let (whole, index) = (join(folder, WEIGHTS), join(folder, INDEX));
    if listed.contains(&whole) {
        return Weights::Whole(whole);
    }
    if listed.contains(&index) {
        return Weights::Sharded(index);
    }
    let pickle = |path: &&String| {
        join(folder, name(path)) == **path && PICKLES.iter().any(|extension| path.ends_with(extension))
    };
    listed.iter().find(pickle).map_or(Weights::None, |pickle| Weights::Pickled(pickle.clone()))
}

/// The weights files that an index lists; they are in the folder of the index.
pub fn shards(index: &str, text: &[u8]) -> serde_json::Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let folder = index.strip_suffix(INDEX).unwrap_or_default().trim_end_matches('/');
    let Index { weight_map } = serde_json::from_slice(text)?;
    Ok(weight_map.into_values().map(|shard| join(folder, &shard)).collect())
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn the_folders_are_those_of_the_modules_and_the_root_without_a_list() {
        let modules = br#"[{"path": "", "type": "Transformer"}, {"path": "1_Pooling/", "type": "Pooling"}]"#;
        assert_eq!(folders(Some(modules)).expect("modules"), set(&["", "1_Pooling"]));
        assert_eq!(folders(None).expect("the root"), set(&[""]));
        assert!(folders(Some(b"{}")).is_err());
    }

    #[test]
    fn a_static_embedding_is_known_by_its_first_module() {
        let of = |class: &str| format!(r#"[{{"path": "", "type": "sentence_transformers.models.{class}"}}]"#);
        assert!(is_static(Some(of("StaticEmbedding").as_bytes())));
        assert!(!is_static(Some(of("Transformer").as_bytes())));
        assert!(!is_static(None));
    }

    #[test]
    fn a_folder_has_one_path_however_it_is_written() {
        for (path, normalised) in [
            ("", ""),
            (".", ""),
            ("./", ""),
            ("1_Pooling", "1_Pooling"),
            ("1_Pooling/", "1_Pooling"),
            ("./1_Pooling", "1_Pooling"),
            ("modules//./1_Pooling", "modules/1_Pooling"),
        ] {
            assert_eq!(module_path(path).as_deref(), Some(normalised), "{path}");
        }
        for path in ["..", "../x", "x/../y", "/x"] {
            assert_eq!(module_path(path), None, "{path}");
        }
        let modules = br#"[{"path": ".", "type": "Transformer"}, {"path": "./1_Pooling/", "type": "Pooling"}]"#;
        assert_eq!(folders(Some(modules)).expect("modules"), set(&["", "1_Pooling"]));
    }

    #[test]
    fn settings_come_from_the_root_and_the_modules_only() {
        let listed = set(&[
            ".gitattributes",
            "1_Pooling/config.json",
            "README.md",
            "added_tokens.json",
            "config.json",
            "modeling_custom.py",
            "modules.json",
            "onnx/config.json",
            "sentence_xlm-roberta_config.json",
            "tokenizer.json",
            "vocab.txt",
        ]);
        let expected = [
            "config.json",
            "modules.json",
            "tokenizer.json",
            "added_tokens.json",
            "sentence_xlm-roberta_config.json",
            "1_Pooling/config.json",
        ];
        assert_eq!(settings(&set(&["", "1_Pooling"]), &listed), expected);
        assert_eq!(settings(&set(&["1_Pooling"]), &listed), expected);
    }

    #[test]
    fn safetensors_are_preferred_to_a_pickle() {
        let of = |folder: &str, listed: &[&str]| weights(folder, &set(listed));
        let (index, shard) = ("model.safetensors.index.json", "model-00001-of-00001.safetensors");
        assert_eq!(
            of("", &["model.safetensors", "pytorch_model.bin", index]),
            Weights::Whole("model.safetensors".into())
        );
        assert_eq!(of("", &[index, shard, "pytorch_model.bin"]), Weights::Sharded(index.into()));
        assert_eq!(of("2_Dense", &["2_Dense/model.safetensors"]), Weights::Whole("2_Dense/model.safetensors".into()));
        assert_eq!(of("", &["config.json", "pytorch_model.bin"]), Weights::Pickled("pytorch_model.bin".into()));
        assert_eq!(of("", &["onnx/model.onnx", "2_Dense/pytorch_model.bin"]), Weights::None);
    }

    #[test]
    fn weights_files_are_in_the_folder_of_their_index() {
        let text = br#"{"metadata": {}, "weight_map": {"a": "model-1.safetensors", "b": "model-1.safetensors"}}"#;
        assert_eq!(shards("model.safetensors.index.json", text).expect("an index"), set(&["model-1.safetensors"]));
        assert_eq!(shards("0/model.safetensors.index.json", text).expect("an index"), set(&["0/model-1.safetensors"]));
    }
}
