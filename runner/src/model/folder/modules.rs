//! `modules.json`: the modules of a model, in the order in which they are computed.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::files::Files;
use crate::{hub, model::ModelError};

const FILE: &str = "modules.json";
/// The place in the list and the label of a module, and the arguments that it may get while encoding.
const WITHOUT_EFFECT: [&str; 3] = ["idx", "name", "kwargs"];

/// A module of `modules.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleKind {
    /// An encoder.
    Transformer,
    /// An embedding table that is an encoder by itself.
    StaticEmbedding,
    /// Token vectors to one vector.
    Pooling,
    /// A projection of the vector.
    Dense,
    /// The vector scaled to length 1.
    Normalize,
    /// An encoder with the head of a masked language model.
    MlmTransformer,
    /// The head's logits to one sparse vector.
    SpladePooling,
    /// The logits of a language model to one score.
    LogitScore,
    /// Nothing: it has an effect in training only.
    Dropout,
}

impl ModuleKind {
    /// The last part of the Python classes' paths, which have moved between versions.
    const NAMES: [(&str, Self); 9] = [
        ("Transformer", Self::Transformer),
        ("StaticEmbedding", Self::StaticEmbedding),
        ("Pooling", Self::Pooling),
        ("Dense", Self::Dense),
        ("Normalize", Self::Normalize),
        ("MLMTransformer", Self::MlmTransformer),
        ("SpladePooling", Self::SpladePooling),
        ("LogitScore", Self::LogitScore),
        ("Dropout", Self::Dropout),
    ];
}

/// A module and its folder.
#[derive(Clone, Debug)]
pub struct Module {
    /// The kind of the module.
    pub kind: ModuleKind,
    /// The module's folder.
    pub dir: PathBuf,
}

/// The modules of a model; none in a bare encoder.
#[derive(Debug)]
pub struct Modules {
    model: String,
    /// `modules.json`.
    file: PathBuf,
    list: Vec<Module>,
}

impl Modules {
    /// Reads the modules of the model folder `dir`; no modules if it has no `modules.json`.
    ///
    /// # Errors
    /// If the file is invalid, or lists an unknown module or one outside the model folder.
    pub(super) fn read(files: &Files, dir: &Path) -> Result<Self, ModelError> {
        #[derive(Deserialize)]
        struct Entry {
            #[serde(rename = "type")]
            class: String,
            path: String,
        }
        let (model, file) = (files.model(), dir.join(FILE));
        let entries: Vec<Entry> = files.optional_strict_json(&file, &WITHOUT_EFFECT)?;
        let modules = entries.into_iter().map(|Entry { class, path }| {
            let name = class.rsplit('.').next().unwrap_or(&class);
            let kind = ModuleKind::NAMES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
            let kind = kind.ok_or_else(|| {
                ModelError::unsupported(model, &file, "type", &class, &ModuleKind::NAMES.map(|(known, _)| known))
            })?;
            let below = hub::module_path(&path)
                .ok_or_else(|| ModelError::unsupported(model, &file, "path", &path, &["a folder below the model's"]))?;
            Ok(Module { kind, dir: if below.is_empty() { dir.to_owned() } else { dir.join(below) } })
        });
        let list = modules.collect::<Result<_, _>>()?;
        Ok(Self { model: model.to_owned(), file, list })
    }

    /// All modules, in their order.
    pub fn all(&self) -> &[Module] {
        &self.list
    }

    /// `modules.json`.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The modules of one kind, in their order.
    pub fn of_kind(&self, kind: ModuleKind) -> impl Iterator<Item = &Module> {
        self.list.iter().filter(move |module| module.kind == kind)
    }

    /// Whether there is a module of the kind.
    pub fn has(&self, kind: ModuleKind) -> bool {
        self.of_kind(kind).next().is_some()
    }

    /// Checks that the modules are one of the `chains`. A bare encoder passes.
    ///
    /// # Errors
    /// If there is another module, or one in another place: the runner would not compute it as the folder prescribes.
    pub fn expect_one_of(&self, chains: &[&[ModuleKind]]) -> Result<(), ModelError> {
        let actual: Vec<ModuleKind> = self.list.iter().map(|module| module.kind).collect();
        if actual.is_empty() || chains.contains(&&actual[..]) {
            return Ok(());
        }
        let supported: Vec<String> = chains.iter().map(|chain| names(chain, ", ")).collect();
        Err(self.unsupported(&supported.iter().map(String::as_str).collect::<Vec<_>>()))
    }

    /// The error of a chain of modules that is not one of the `supported`.
    pub(super) fn unsupported(&self, supported: &[&str]) -> ModelError {
        let actual: Vec<ModuleKind> = self.list.iter().map(|module| module.kind).collect();
        ModelError::unsupported(&self.model, &self.file, "type", &names(&actual, ", "), supported)
    }
}

fn names(kinds: &[ModuleKind], separator: &str) -> String {
    let name = |kind: &ModuleKind| ModuleKind::NAMES.iter().find(|(_, named)| named == kind).map(|(name, _)| *name);
    kinds.iter().filter_map(name).collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    fn modules(entries: serde_json::Value) -> Result<Modules, ModelError> {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join(FILE), entries.to_string()).expect("a file");
        Modules::read(&Files::new("m", dir.path()), dir.path())
    }

    #[test]
    fn a_chain_that_is_not_one_of_the_supported_is_rejected() {
        use ModuleKind::{LogitScore, Transformer};
        let check = |kinds: &[&str]| {
            let entries: Vec<_> = kinds.iter().map(|kind| json!({"type": format!("x.{kind}"), "path": kind})).collect();
            modules(json!(entries)).expect("modules").expect_one_of(&[&[Transformer], &[Transformer, LogitScore]])
        };
        check(&[]).expect("a bare encoder");
        check(&["Transformer", "LogitScore"]).expect("a chain");
        for kinds in [&["LogitScore", "Transformer"][..], &["Transformer", "Pooling"]] {
            let message = check(kinds).expect_err("another chain").to_string();
            assert!(message.contains(&kinds.join(", ")), "{message}");
        }
    }

    #[test]
    fn the_folder_of_a_module_may_be_written_in_several_ways() {
        for path in ["", ".", "./"] {
            let found =
                modules(json!([{"idx": 0, "name": "0", "type": "x.Transformer", "path": path}])).expect("modules");
            let parent = found.file().parent().expect("a folder").to_owned();
            assert_eq!(found.all()[0].dir, parent, "{path:?}");
        }
        let error = modules(json!([{"type": "x.Transformer", "path": "../other"}])).expect_err("a path out of it");
        assert!(error.to_string().contains("../other"), "{error}");
    }

    #[test]
    fn an_unknown_field_of_a_module_is_rejected() {
        let error = modules(json!([{"type": "x.Transformer", "path": "", "input": "b"}])).expect_err("unknown");
        assert!(error.to_string().contains("0.input") && error.to_string().contains("\"b\""), "{error}");
    }
}
