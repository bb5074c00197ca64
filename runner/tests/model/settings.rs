//! Every field of every settings file: what a model was saved with is known, and what is not known is rejected, so that no
//! setting is passed over.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use runner::model::{CrossEncoder, DenseEncoder, DenseOptions, ModelError, SparseOptions, SpladeModel};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::folder::fixtures;

/// Files of the tokenizer, whose own tests check their fields, and files that belong to the case.
const OTHERS: [&str; 8] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "sentence_bert_config.json",
    "case.json",
    // The data of the training, which nothing reads.
    "data_config.json",
    // Read by text generation only.
    "generation_config.json",
    "texts.jsonl",
];
/// Objects whose fields are names that a user chooses.
const FREE: [&str; 10] = [
    // Compared as a whole: the message shows all of it.
    "modality_config",
    "prompts",
    "id2label",
    "label2id",
    "__version__",
    "auto_map",
    "metadata",
    "weight_map",
    "task_specific_params",
    "requirements",
];

/// A model folder with the task it is for.
struct Subject {
    task: String,
    dir: PathBuf,
}

/// The fixtures, and the real models if they are there.
fn subjects() -> Vec<Subject> {
    let models = std::env::var_os("EMBEDRUN_TEST_MODELS").map(PathBuf::from);
    let found = fs::read_dir(fixtures()).expect("the fixtures").flatten().filter_map(|entry| {
        let case: Value = serde_json::from_slice(&fs::read(entry.path().join("case.json")).ok()?).ok()?;
        let own = entry.path().join("model.safetensors").exists();
        let dir = if own { entry.path() } else { models.as_ref()?.join(case["model"].as_str()?) };
        Some(Subject { task: case["task"].as_str()?.to_owned(), dir })
    });
    found.collect()
}

impl Subject {
    /// Checks the folder as the plan does.
    fn check(&self, dir: &Path) -> Result<(), ModelError> {
        let checked = match self.task.as_str() {
            "dense" => DenseEncoder::check("m", dir, &DenseOptions::default(), true),
            "sparse" => SpladeModel::check("m", dir, SparseOptions::default(), true),
            "rerank" => CrossEncoder::check("m", dir, None, true),
            task => panic!("no such task: {task}"),
        };
        checked.map(|_| ())
    }

    /// The settings files, relative to the folder.
    fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(self.dir.join(&folder)).expect("a folder").flatten() {
                let path = folder.join(entry.file_name());
                if entry.path().is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "json")
                    && !OTHERS.iter().any(|name| path.file_name().is_some_and(|file| file == *name))
                {
                    found.push(path);
                }
            }
        }
        found.sort();
        found
    }

    /// The folder with another content of one file.
    fn with(&self, file: &Path, content: &Value) -> TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            fs::create_dir_all(dir.path().join(&folder)).expect("a folder");
            for entry in fs::read_dir(self.dir.join(&folder)).expect("a folder").flatten() {
                let path = folder.join(entry.file_name());
                if entry.path().is_dir() {
                    folders.push(path);
                } else if path != file {
                    symlink(entry.path().canonicalize().expect("a path"), dir.path().join(path)).expect("a link");
                }
            }
        }
        fs::write(dir.path().join(file), content.to_string()).expect("a file");
        dir
    }
}

/// The places of all objects in a document, as JSON pointers.
fn objects(json: &Value, place: &str, found: &mut Vec<String>) {
    match json {
        Value::Object(fields) => {
            found.push(place.to_owned());
            for (name, value) in fields.iter().filter(|(name, _)| !FREE.contains(&name.as_str())) {
                objects(value, &format!("{place}/{name}"), found);
            }
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| objects(item, &format!("{place}/{index}"), found));
        }
        _ => {}
    }
}

/// Asserts that a document is rejected for the field, by file, field and value.
fn assert_rejected(subject: &Subject, file: &Path, json: &Value, field: &str, value: &Value) {
    let changed = subject.with(file, json);
    let error = subject.check(changed.path());
    let of = format!("{} {}: {field}", subject.dir.display(), file.display());
    let error = error.err().unwrap_or_else(|| panic!("{of} is passed over")).to_string();
    for named in [file.to_string_lossy().as_ref(), field, &value.to_string()] {
        assert!(error.contains(named), "{of}: {named} is not in {error:?}");
    }
}

#[test]
fn all_fields_are_known_and_an_unknown_one_is_rejected_wherever_it_stands() {
    let (subjects, mut files, mut fields) = (subjects(), 0, 0);
    for subject in &subjects {
        subject.check(&subject.dir).unwrap_or_else(|error| panic!("{}: {error}", subject.dir.display()));
        let is_static =
            fs::read_to_string(subject.dir.join("modules.json")).is_ok_and(|text| text.contains("StaticEmb"));
        for file in subject.files() {
            // A static embedding has no configuration, as the reference reads it.
            if is_static && file == Path::new("config.json") {
                continue;
            }
            files += 1;
            let json: Value =
                serde_json::from_slice(&fs::read(subject.dir.join(&file)).expect("a file")).expect("JSON");
            let mut places = Vec::new();
            objects(&json, "", &mut places);
            for place in places {
                let value = json!({"of": [7]});
                let mut spoiled = json.clone();
                spoiled.pointer_mut(&place).expect("an object")["unheard_of"] = value.clone();
                assert_rejected(subject, &file, &spoiled, "unheard_of", &value);
                fields += 1;
            }
        }
    }
    assert!(subjects.len() > 40 && files > 100 && fields > 120, "{} {files} {fields}", subjects.len());
}

#[test]
fn a_misspelled_field_is_never_taken_for_its_default() {
    // One folder per kind and architecture has all of their fields.
    for name in [
        "bert-dense-residual",
        "bert-prompt-cls",
        "bert-mlm-prompt",
        "gemma3-mean",
        "modernbert-mean",
        "nomic-bert-mean",
        "qwen3-last-token",
        "new-cls",
        "jina-bert-v2-mean",
        "distilbert-mlm",
        "rerank-modernbert-cls",
        "rerank-qwen3-chain",
    ] {
        let dir = fixtures().join(name);
        let case: Value = serde_json::from_slice(&fs::read(dir.join("case.json")).expect("a case")).expect("JSON");
        let subject = Subject { task: case["task"].as_str().expect("a task").to_owned(), dir };
        for file in subject.files() {
            let json: Value =
                serde_json::from_slice(&fs::read(subject.dir.join(&file)).expect("a file")).expect("JSON");
            let mut places = Vec::new();
            objects(&json, "", &mut places);
            for place in places {
                let fields: Vec<String> = json
                    .pointer(&place)
                    .and_then(Value::as_object)
                    .into_iter()
                    .flatten()
                    .map(|(name, _)| name.clone())
                    .collect();
                for field in fields {
                    let mut spoiled = json.clone();
                    let object = spoiled.pointer_mut(&place).and_then(Value::as_object_mut).expect("an object");
                    let value = object.remove(&field).expect("a field");
                    object.insert(format!("{field}_"), value);
                    let changed = subject.with(&file, &spoiled);
                    let error = subject.check(changed.path());
                    assert!(error.is_err(), "{name} {}: {place}/{field}_ is passed over", file.display());
                }
            }
        }
    }
}

#[test]
fn a_pointer_of_git_lfs_is_named_whatever_file_it_stands_for() {
    const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 90868376\n";
    for (name, files) in [
        ("bert-dense-tanh", &["model.safetensors", "tokenizer.json", "2_Dense/model.safetensors", "config.json"][..]),
        ("bert-mlm-untied", &["model.safetensors", "1_SpladePooling/config.json", "tokenizer_config.json"]),
        ("rerank-qwen3-chain", &["model.safetensors", "tokenizer.json", "chat_template.jinja", "modules.json"]),
    ] {
        let dir = fixtures().join(name);
        let case: Value = serde_json::from_slice(&fs::read(dir.join("case.json")).expect("a case")).expect("JSON");
        let subject = Subject { task: case["task"].as_str().expect("a task").to_owned(), dir };
        for file in files {
            let changed = subject.with(Path::new(file), &Value::Null);
            fs::write(changed.path().join(file), POINTER).expect("a pointer");
            let error = subject.check(changed.path()).expect_err("a pointer");
            assert!(matches!(error, ModelError::LfsPointer { .. }), "{name} {file}: {error}");
            let message = error.to_string();
            assert!(message.contains(file) && message.contains("git lfs pull"), "{message}");
        }
    }
}

#[test]
fn an_adapter_is_not_taken_for_its_model() {
    let subject = Subject { task: "dense".into(), dir: fixtures().join("bert-mean") };
    let changed = subject.with(Path::new("adapter_config.json"), &json!({"peft_type": "LORA"}));
    let error = subject.check(changed.path()).expect_err("an adapter").to_string();
    assert!(error.contains("adapter_config.json") && error.contains("merge"), "{error}");
}

#[test]
fn what_is_missing_is_found_without_reading_weights() {
    let spoil = |name: &str, task: &str, spoil: &dyn Fn(&Path)| {
        let subject = Subject { task: task.into(), dir: fixtures().join(name) };
        let changed = subject.with(Path::new("case.json"), &json!({}));
        spoil(changed.path());
        subject.check(changed.path()).expect_err("spoiled").to_string()
    };
    let remove = |file: &'static str| move |dir: &Path| fs::remove_file(dir.join(file)).expect(file);
    let truncate = |dir: &Path| {
        let bytes = fs::read(dir.join("model.safetensors")).expect("weights");
        fs::remove_file(dir.join("model.safetensors")).expect("a link");
        fs::write(dir.join("model.safetensors"), &bytes[..bytes.len() - 1]).expect("weights");
    };
    assert!(spoil("rerank-bert", "rerank", &remove("tokenizer.json")).contains("tokenizer.json"));
    assert!(spoil("rerank-bert", "rerank", &remove("model.safetensors")).contains("model.safetensors"));
    assert!(spoil("rerank-qwen3-chain", "rerank", &remove("1_LogitScore/config.json")).contains("1_LogitScore"));
    assert!(spoil("rerank-qwen3-chain", "rerank", &remove("chat_template.jinja")).contains("chat_template"));
    assert!(spoil("bert-dense-tanh", "dense", &remove("2_Dense/model.safetensors")).contains("2_Dense"));
    assert!(spoil("bert-mean", "dense", &truncate).contains("truncated"));
}
