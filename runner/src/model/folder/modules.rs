//! `modules.json`: the modules of a model, in the order in which they are computed.

use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::json::read_optional_json;
use crate::model::ModelError;

const FILE: &str = "modules.json";

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
}

impl ModuleKind {
    /// The last part of the Python classes' paths, which have moved between versions.
    const NAMES: [(&str, Self); 7] = [
        ("Transformer", Self::Transformer),
        ("StaticEmbedding", Self::StaticEmbedding),
        ("Pooling", Self::Pooling),
        ("Dense", Self::Dense),
        ("Normalize", Self::Normalize),
        ("MLMTransformer", Self::MlmTransformer),
        ("SpladePooling", Self::SpladePooling),
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
    pub(super) fn read(model: &str, dir: &Path) -> Result<Self, ModelError> {
        #[derive(Deserialize)]
        struct Entry {
            #[serde(rename = "type")]
            class: String,
            path: PathBuf,
        }
        let file = dir.join(FILE);
        let entries: Vec<Entry> = read_optional_json(model, &file)?;
        let modules = entries.into_iter().map(|Entry { class, path }| {
            let name = class.rsplit('.').next().unwrap_or(&class);
            let kind = ModuleKind::NAMES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
            let kind = kind.ok_or_else(|| {
                ModelError::unsupported(model, &file, "type", &class, &ModuleKind::NAMES.map(|(known, _)| known))
            })?;
            if !path.components().all(|part| matches!(part, Component::Normal(_))) {
                let path = path.display().to_string();
                return Err(ModelError::unsupported(model, &file, "path", &path, &["a folder below the model's"]));
            }
            Ok(Module { kind, dir: dir.join(path) })
        });
        let list = modules.collect::<Result<_, _>>()?;
        Ok(Self { model: model.to_owned(), file, list })
    }

    /// The modules of one kind, in their order.
    pub fn of_kind(&self, kind: ModuleKind) -> impl Iterator<Item = &Module> {
        self.list.iter().filter(move |module| module.kind == kind)
    }

    /// Whether there is a module of the kind.
    pub fn has(&self, kind: ModuleKind) -> bool {
        self.of_kind(kind).next().is_some()
    }

    /// Checks that the first module is one of the `encoders`, and that the rest are of the kinds `following`, in that order.
    /// Each kind is optional and appears at most once, except projections, which may be chained. A bare encoder passes.
    ///
    /// # Errors
    /// If there is another module, or one in another place: the runner would not compute it as the folder prescribes.
    pub fn expect_chain(&self, encoders: &[ModuleKind], following: &[ModuleKind]) -> Result<(), ModelError> {
        let mut kinds = self.list.iter().map(|module| module.kind).peekable();
        let mut fits = self.list.is_empty() || kinds.next().is_some_and(|kind| encoders.contains(&kind));
        for kind in following {
            while kinds.next_if_eq(kind).is_some() && *kind == ModuleKind::Dense {}
        }
        fits &= kinds.next().is_none();
        if fits {
            return Ok(());
        }
        let names = |kinds: &[ModuleKind], separator: &str| {
            let name =
                |kind: &ModuleKind| ModuleKind::NAMES.iter().find(|(_, named)| named == kind).map(|(name, _)| *name);
            kinds.iter().filter_map(name).collect::<Vec<_>>().join(separator)
        };
        let actual: Vec<ModuleKind> = self.list.iter().map(|module| module.kind).collect();
        let supported = match following {
            [] => names(encoders, " or "),
            _ => format!("{}, then {} in this order", names(encoders, " or "), names(following, ", ")),
        };
        Err(ModelError::unsupported(&self.model, &self.file, "type", &names(&actual, ", "), &[&supported]))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    #[test]
    fn modules_in_another_order_are_rejected() {
        let check = |kinds: &[&str]| {
            let dir = tempfile::tempdir().expect("a folder");
            let entries: Vec<_> = kinds.iter().map(|kind| json!({"type": format!("x.{kind}"), "path": kind})).collect();
            fs::write(dir.path().join(FILE), json!(entries).to_string()).expect("a file");
            let following = [ModuleKind::Pooling, ModuleKind::Dense, ModuleKind::Normalize];
            Modules::read("m", dir.path()).expect("modules").expect_chain(&[ModuleKind::Transformer], &following)
        };
        check(&[]).expect("a bare encoder");
        check(&["Transformer"]).expect("without a pooling");
        check(&["Transformer", "Pooling", "Dense", "Dense", "Normalize"]).expect("all of them");
        for kinds in [
            &["Pooling", "Transformer"][..],
            &["Transformer", "Pooling", "Pooling"],
            &["Transformer", "Pooling", "Normalize", "Dense"],
            &["Transformer", "SpladePooling"],
            &["MLMTransformer", "Pooling"],
        ] {
            let message = check(kinds).expect_err("another order").to_string();
            assert!(message.contains(&kinds.join(", ")), "{message}");
        }
    }
}
