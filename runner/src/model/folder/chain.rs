//! The chain of a dense encoder: which modules contribute to the vector of a text, in which order.
//!
//! The modules of `sentence-transformers` read and write named features; a module may read the tokens' vectors behind the
//! pooling, or write a feature that nobody reads. [`Chain::of`] follows the features from the vector of the text back to
//! the encoder, and leaves out what does not contribute.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{
    files::Files,
    modules::{Module, ModuleKind, Modules},
    projection::ProjectionConfig,
};
use crate::model::{ModelError, files::CONFIG};

/// The feature that holds the vectors of the tokens.
const TOKENS: &str = "token_embeddings";
/// The feature that holds the vector of the text.
const TEXT: &str = "sentence_embedding";

/// A step over vectors.
#[derive(Clone, Debug)]
pub enum Step {
    /// A projection, whose folder has its weights.
    Project(ProjectionConfig),
    /// Vectors are scaled to length 1.
    Normalize,
}

/// The modules that contribute to the vector of a text.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// The steps over the vectors of the tokens.
    pub of_tokens: Vec<Step>,
    /// The folder of the pooling; `None` if the run sets the pooling and the folder has none, and for static embeddings.
    pub pooling: Option<PathBuf>,
    /// The steps over the vector of the text.
    pub of_text: Vec<Step>,
}

/// A module with the node whose output it reads.
struct Node {
    input: Option<usize>,
    kind: NodeKind,
}

enum NodeKind {
    Encoder,
    Pooling(Option<PathBuf>),
    Step(Step),
}

/// The features that a module reads and writes.
#[derive(Default, Deserialize)]
struct Names {
    module_input_name: Option<String>,
    module_output_name: Option<String>,
}

impl Chain {
    /// The chain of a folder. `pooled` says that the run sets the pooling.
    ///
    /// # Errors
    /// If a module is of another kind, reads a feature that does not exist, or the vector of a text is not pooled exactly
    /// once; for static embeddings, if it is pooled at all.
    pub fn of(files: &Files, modules: &Modules, pooled: bool) -> Result<Self, ModelError> {
        let all = modules.all();
        let is_static = all.first().is_some_and(|module| module.kind == ModuleKind::StaticEmbedding);
        let mut nodes = vec![Node { input: None, kind: NodeKind::Encoder }];
        let mut features = BTreeMap::from([((if is_static { TEXT } else { TOKENS }).to_owned(), 0)]);
        let has_pooling = modules.has(ModuleKind::Pooling);
        if pooled && !has_pooling && !is_static {
            nodes.push(Node { input: Some(0), kind: NodeKind::Pooling(None) });
            features.insert(TEXT.to_owned(), 1);
        }
        if all.first().is_some_and(|first| !matches!(first.kind, ModuleKind::Transformer | ModuleKind::StaticEmbedding))
        {
            return Err(unsupported(modules));
        }
        for module in all.iter().skip(1) {
            let Some((node, output)) = read(files, modules, module, &features)? else { continue };
            features.insert(output, nodes.len());
            nodes.push(node);
        }
        let Some(last) = features.get(TEXT) else {
            // A bare encoder, or one whose modules do not pool.
            return if all.iter().any(|module| module.kind == ModuleKind::Dense) {
                Err(unsupported(modules))
            } else {
                Ok(Self::default())
            };
        };
        Self::back_from(*last, nodes, usize::from(!is_static)).ok_or_else(|| unsupported(modules))
    }

    /// The contributing nodes, from the `last` one back to the encoder; `None` if there are not `poolings` among them.
    fn back_from(last: usize, nodes: Vec<Node>, poolings: usize) -> Option<Self> {
        let mut nodes: Vec<Option<Node>> = nodes.into_iter().map(Some).collect();
        let mut path = Vec::new();
        let mut next = Some(last);
        while let Some(node) = next.and_then(|index| nodes[index].take()) {
            next = node.input;
            path.push(node.kind);
        }
        let mut chain = Self::default();
        let mut pooled = 0;
        for kind in path.into_iter().rev() {
            match kind {
                NodeKind::Encoder => {}
                NodeKind::Pooling(dir) => {
                    pooled += 1;
                    chain.pooling = dir;
                }
                NodeKind::Step(step) if pooled < poolings => chain.of_tokens.push(step),
                NodeKind::Step(step) => chain.of_text.push(step),
            }
        }
        (pooled == poolings).then_some(chain)
    }
}

/// The node of a module behind the encoder, and the feature that it writes; `None` if it has no effect.
fn read(
    files: &Files,
    modules: &Modules,
    module: &Module,
    features: &BTreeMap<String, usize>,
) -> Result<Option<(Node, String)>, ModelError> {
    let file = module.dir.join(CONFIG);
    let find = |name: &str, field: &str| {
        let known: Vec<&str> = features.keys().map(String::as_str).collect();
        features.get(name).copied().ok_or_else(|| ModelError::unsupported(files.model(), &file, field, name, &known))
    };
    match module.kind {
        ModuleKind::Pooling => {
            let input = features.get(TOKENS).copied().ok_or_else(|| unsupported(modules))?;
            let kind = NodeKind::Pooling(Some(module.dir.clone()));
            Ok(Some((Node { input: Some(input), kind }, TEXT.to_owned())))
        }
        ModuleKind::Dense => {
            let config = ProjectionConfig::read(files, &module.dir)?;
            let input = find(&config.input, "module_input_name")?;
            let output = config.output.clone();
            Ok(Some((Node { input: Some(input), kind: NodeKind::Step(Step::Project(config)) }, output)))
        }
        ModuleKind::Normalize => {
            let names: Names = files.optional_strict_json(&file, &[])?;
            let input = names.module_input_name.unwrap_or_else(|| TEXT.to_owned());
            // As the reference: a feature that does not exist is not normalised.
            let Some(from) = features.get(&input) else { return Ok(None) };
            let output = names.module_output_name.unwrap_or(input);
            Ok(Some((Node { input: Some(*from), kind: NodeKind::Step(Step::Normalize) }, output)))
        }
        ModuleKind::Dropout => {
            expect_dropout(files, &file)?;
            Ok(None)
        }
        _ => Err(unsupported(modules)),
    }
}

/// Checks the configuration of a module that has an effect in training only.
fn expect_dropout(files: &Files, file: &Path) -> Result<(), ModelError> {
    #[derive(Default, Deserialize)]
    struct Nothing {}
    let Nothing {} = files.optional_strict_json(file, &["dropout"])?;
    Ok(())
}

fn unsupported(modules: &Modules) -> ModelError {
    modules.unsupported(&[
        "Transformer, then Dense and Normalize over tokens, one Pooling, and Dense and Normalize over the text",
        "StaticEmbedding, then Dense and Normalize",
    ])
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;

    /// A folder with the modules, each with its configuration.
    fn chain(list: &[(&str, Value)], pooled: bool) -> Result<Chain, ModelError> {
        let dir = tempfile::tempdir().expect("a folder");
        let mut entries = Vec::new();
        for (index, (kind, config)) in list.iter().enumerate() {
            let path = format!("{index}_{kind}");
            fs::create_dir(dir.path().join(&path)).expect("a folder");
            fs::write(dir.path().join(&path).join(CONFIG), config.to_string()).expect("a file");
            entries.push(json!({"idx": index, "name": index.to_string(), "path": path, "type": format!("x.{kind}")}));
        }
        fs::write(dir.path().join("modules.json"), json!(entries).to_string()).expect("a file");
        let files = Files::new("m", dir.path());
        Chain::of(&files, &Modules::read(&files, dir.path())?, pooled)
    }

    fn dense(names: Value) -> Value {
        let mut config = json!({"in_features": 4, "out_features": 4});
        for (name, value) in names.as_object().expect("names") {
            config[name] = value.clone();
        }
        config
    }

    /// The steps over tokens and over the text, as one letter each.
    fn steps(chain: &Chain) -> (String, String) {
        let letter = |step: &Step| if matches!(step, Step::Normalize) { 'N' } else { 'D' };
        (chain.of_tokens.iter().map(letter).collect(), chain.of_text.iter().map(letter).collect())
    }

    #[test]
    fn modules_that_contribute_are_kept_in_their_order() {
        let (transformer, pooling) = (("Transformer", json!({})), ("Pooling", json!({"pooling_mode": "cls"})));
        let tokens = dense(json!({"module_input_name": "token_embeddings"}));
        let projected = dense(json!({"module_output_name": "projected"}));
        let back = dense(json!({"module_input_name": "projected", "module_output_name": "sentence_embedding"}));
        let (plain, none) = (dense(json!({})), json!({}));
        let normalize_tokens = json!({"module_input_name": "token_embeddings"});
        for (behind, expected) in [
            (vec![], ("", "")),
            (vec![("Dense", plain.clone()), ("Dense", plain.clone()), ("Normalize", none.clone())], ("", "DDN")),
            (vec![("Normalize", none.clone()), ("Dense", plain.clone())], ("", "ND")),
            // Behind the pooling, the vectors of the tokens are read by nobody.
            (vec![("Dense", tokens.clone()), ("Normalize", none.clone())], ("", "N")),
            (vec![("Dense", projected.clone()), ("Normalize", none.clone())], ("", "N")),
            (vec![("Dense", projected), ("Dense", back)], ("", "DD")),
            (vec![("Dropout", json!({"dropout": 0.1})), ("Dense", plain)], ("", "D")),
        ] {
            let list: Vec<_> = [transformer.clone(), pooling.clone()].into_iter().chain(behind).collect();
            let found = steps(&chain(&list, false).expect("a chain"));
            assert_eq!((found.0.as_str(), found.1.as_str()), expected, "{list:?}");
        }
        let list = [transformer, ("Dense", tokens), ("Normalize", normalize_tokens), pooling, ("Normalize", none)];
        assert_eq!(steps(&chain(&list, false).expect("a chain")), ("DN".into(), "N".into()));
    }

    #[test]
    fn a_feature_that_does_not_exist_is_named() {
        let list = [
            ("Transformer", json!({})),
            ("Pooling", json!({})),
            ("Dense", dense(json!({"module_input_name": "pooled"}))),
        ];
        let error = chain(&list, false).expect_err("no such feature").to_string();
        assert!(error.contains("module_input_name \"pooled\"") && error.contains("2_Dense"), "{error}");
    }

    #[test]
    fn other_modules_and_orders_are_rejected() {
        let none = json!({});
        let from_tokens =
            dense(json!({"module_input_name": "token_embeddings", "module_output_name": "sentence_embedding"}));
        for list in [
            vec![("Pooling", none.clone()), ("Transformer", none.clone())],
            vec![("Transformer", none.clone()), ("SpladePooling", none.clone())],
            vec![("MLMTransformer", none.clone()), ("Pooling", none.clone())],
            vec![("StaticEmbedding", none.clone()), ("Pooling", none.clone())],
            vec![("Transformer", none.clone()), ("Pooling", none.clone()), ("LogitScore", none.clone())],
            vec![("Transformer", none.clone()), ("Dense", from_tokens)],
        ] {
            let kinds: Vec<&str> = list.iter().map(|(kind, _)| *kind).collect();
            let message = chain(&list, false).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(message.contains(&kinds.join(", ")), "{kinds:?}: {message}");
        }
    }

    #[test]
    fn the_pooling_of_the_run_stands_behind_a_bare_encoder() {
        assert!(chain(&[], true).expect("a chain").of_text.is_empty());
        let list = [("Transformer", json!({})), ("Normalize", json!({}))];
        assert_eq!(steps(&chain(&list, true).expect("a chain")), (String::new(), "N".into()));
    }
}
