//! The token ids of folders whose settings change them, compared with the reference (`tests/parity/tokenizer_settings.py`).

use std::{collections::BTreeMap, fs};

use candle_core::Device;
use runner::{
    model::{CrossEncoder, DenseEncoder, DenseOptions, ModelError, Side, SparseOptions, SpladeModel},
    tokenizer::{TokenizerError, Tokens},
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::folder::{Folder, fixtures};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// The fixture whose folder is edited.
    base: String,
    #[serde(default)]
    edits: BTreeMap<String, Map<String, Value>>,
    #[serde(default)]
    without: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    removed: Vec<String>,
    #[serde(default)]
    emptied: Vec<String>,
    #[serde(default)]
    documents: Vec<String>,
    #[serde(default)]
    document_ids: Vec<Vec<u32>>,
    #[serde(default)]
    queries: Vec<String>,
    #[serde(default)]
    query_ids: Vec<Vec<u32>>,
    #[serde(default)]
    pairs: Vec<[String; 2]>,
    #[serde(default)]
    pair_ids: Vec<Vec<u32>>,
    #[serde(default)]
    pair_types: Vec<Vec<u32>>,
}

impl Case {
    fn folder(&self) -> Folder {
        let folder = Folder::of_case(&self.base);
        self.removed.iter().for_each(|file| folder.remove(file));
        self.emptied.iter().for_each(|file| folder.write(file, "{}"));
        let change = |file: &str, change: &dyn Fn(&mut Map<String, Value>)| {
            let path = folder.path(file);
            let mut fields: Map<String, Value> = if path.exists() {
                serde_json::from_slice(&fs::read(&path).expect(file)).expect(file)
            } else {
                Map::new()
            };
            change(&mut fields);
            if path.exists() || !fields.is_empty() {
                folder.write(file, Value::Object(fields).to_string());
            }
        };
        for (file, edits) in &self.edits {
            change(file, &|fields| fields.extend(edits.clone()));
        }
        for (file, keys) in &self.without {
            change(file, &|fields| fields.retain(|key, _| !keys.contains(key)));
        }
        folder
    }

    /// What differs from the reference.
    fn differences(&self) -> Vec<String> {
        let folder = self.folder();
        let dir = folder.path("");
        let case: Value = serde_json::from_slice(&fs::read(folder.path("case.json")).expect("a case")).expect("a case");
        let device = &Device::Cpu;
        let without_prompts = DenseOptions {
            document_prompt: Some(String::new()),
            query_prompt: Some(String::new()),
            ..DenseOptions::default()
        };
        let encoded: Result<[Vec<_>; 3], ModelError> = match case["task"].as_str() {
            Some("sparse") => SpladeModel::load("m", &dir, SparseOptions::default(), device).map(|model| {
                let of = |texts: &[String], side| texts.iter().map(|text| model.encode(text, side)).collect();
                [of(&self.documents, Side::Document), of(&self.queries, Side::Query), Vec::new()]
            }),
            Some("rerank") => CrossEncoder::load("m", &dir, None, device).map(|model| {
                [Vec::new(), Vec::new(), self.pairs.iter().map(|[query, text]| model.encode(query, text)).collect()]
            }),
            _ => DenseEncoder::load("m", &dir, &without_prompts, device).map(|model| {
                let of = |texts: &[String], side| texts.iter().map(|text| model.encode(text, side)).collect();
                [of(&self.documents, Side::Document), of(&self.queries, Side::Query), Vec::new()]
            }),
        };
        let [documents, queries, pairs] = match encoded {
            Ok(encoded) => encoded,
            Err(error) => return vec![format!("{}: {error}", self.name)],
        };
        let mut differences = Vec::new();
        let mut compare = |text: &str, tokens: Result<Tokens, ModelError>, ids: &[u32], types: Option<&Vec<u32>>| {
            let tokens = match tokens {
                Ok(tokens) => tokens,
                // The reference would read beyond its table.
                Err(ModelError::Tokenizer { source: TokenizerError::NoVector { id, rows, .. }, .. })
                    if ids.iter().find(|id| **id as usize >= rows) == Some(&id) =>
                {
                    return;
                }
                Err(error) => return differences.push(format!("{}: {text:?}: {error}", self.name)),
            };
            let found: Vec<u32> = (0..tokens.ids.len()).map(|at| tokens.types.get(at).copied().unwrap_or(0)).collect();
            let same_types =
                types.is_none_or(|types| if types.is_empty() { tokens.types.is_empty() } else { *types == found });
            if tokens.ids != ids || !same_types {
                differences
                    .push(format!("{}: {text:?}: {:?} {found:?}, reference {ids:?} {types:?}", self.name, tokens.ids));
            }
        };
        for (texts, encoded, ids) in
            [(&self.documents, documents, &self.document_ids), (&self.queries, queries, &self.query_ids)]
        {
            assert_eq!((texts.len(), encoded.len()), (ids.len(), ids.len()), "{}", self.name);
            for ((text, tokens), ids) in texts.iter().zip(encoded).zip(ids) {
                compare(text, tokens, ids, None);
            }
        }
        assert_eq!(pairs.len(), self.pair_ids.len(), "{}", self.name);
        for (((pair, tokens), ids), types) in self.pairs.iter().zip(pairs).zip(&self.pair_ids).zip(&self.pair_types) {
            compare(&pair.join(" | "), tokens, ids, Some(types));
        }
        differences
    }
}

#[test]
fn settings_of_a_folder_give_the_ids_of_the_reference() {
    let text = fs::read(fixtures().join("../tokenizer_settings.json")).expect("the cases");
    let cases: Vec<Case> = serde_json::from_slice(&text).expect("the cases");
    assert!(cases.len() > 90 && cases.iter().all(|case| !(case.documents.is_empty() && case.pairs.is_empty())));
    let differences: Vec<String> = cases.iter().flat_map(Case::differences).collect();
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}
