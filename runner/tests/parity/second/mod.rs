//! A second reference in the same process: the padded models of `candle-transformers`.
//!
//! The expected vectors of a case come from the Python reference, once. Here the same folder is computed by another
//! implementation, every time: the texts as one padded batch, then the head in plain code. The runner and the
//! second reference must agree, and both must agree with the expected vectors; a failure says which of the three is alone.
//!
//! [`SECOND`] names the model of every case, or why `candle-transformers` has none. A case that the list does not name
//! fails. [`OTHERWISE`] names the cases where the two references are known to disagree.

mod dense;
mod distances;
mod folder;
mod models;
mod padded;
mod rerank;
mod sparse;

use std::{fs, os::unix::fs::symlink, path::Path};

use candle_core::Tensor;
use libtest_mimic::Trial;
use serde_json::Value;

use crate::cases::Case;
use distances::{ALONE_IS_EXPECTED, ALONE_IS_SECOND, Distances};
use folder::Folder;
use padded::Padded;

/// The result of a model of `candle-transformers`.
type Computed = candle_core::Result<Tensor>;

/// What `candle-transformers` computes of a case.
#[derive(Clone, Copy)]
enum Second {
    /// The hidden states [rows, longest, width] of a padded batch.
    Hidden(fn(&Folder, &Padded) -> Computed),
    /// The same of a model without an attention mask: each text alone, without padding.
    HiddenAlone(fn(&Folder, &Padded) -> Computed),
    /// The logits [rows, longest, vocabulary] of a masked language model.
    Vocabulary(fn(&Folder, &Padded) -> Computed),
    /// The scores [rows] of pairs, which the runner has after (`true`) or before the activation.
    Scores(fn(&Folder, &Padded) -> Computed, Activated),
    /// Nothing, for this reason.
    Lacking(&'static str),
}

/// Whether the second reference gives logits or scores after the activation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Activated {
    No,
    Yes,
}

const BERT: Second = Second::Hidden(models::bert);
const ROBERTA: Second = Second::Hidden(models::roberta);
const BERT_MLM: Second = Second::Vocabulary(models::bert_for_masked_lm);

/// Every case.
const SECOND: &[(&str, Second)] = &[
    ("all-MiniLM-L6-v2", BERT),
    ("bert-class-mean", BERT),
    ("bert-cls", BERT),
    ("bert-default-prompt", BERT),
    ("bert-dense-tanh", Second::Lacking("a Dense module is no part of it; its encoder is that of bert-mean")),
    ("bert-dense-residual", Second::Lacking("a Dense module is no part of it; its encoder is that of bert-mean")),
    ("bert-dense-tokens", Second::Lacking("a Dense module is no part of it; its encoder is that of bert-mean")),
    ("bert-last-token", BERT),
    ("bert-max", BERT),
    ("bert-mean", BERT),
    ("bert-mlm-prompt", BERT_MLM),
    ("bert-mlm-tied", BERT_MLM),
    ("bert-mlm-untied", BERT_MLM),
    (
        "bert-prompt-cls",
        Second::Lacking("the poolings of this test skip no tokens; its encoder is that of bert-prompt-not-pooled"),
    ),
    ("bert-prompt-not-pooled", BERT),
    (
        "bert-prompt-weighted-mean",
        Second::Lacking("the poolings of this test skip no tokens; its encoder is that of bert-prompt-not-pooled"),
    ),
    ("bert-several-poolings", Second::Lacking("a Dense module is no part of it; its encoder is that of bert-mean")),
    ("bert-truncated-dimensions", BERT),
    ("bert-weighted-mean", BERT),
    ("bge-small-en-v1.5-dq", BERT),
    ("distilbert-mean", Second::Hidden(models::distilbert)),
    ("distilbert-mlm", Second::Vocabulary(models::distilbert_for_masked_lm)),
    ("gemma3-mean", Second::Lacking("its Gemma 3 is causal and gives the logits of the last token alone")),
    ("gemma3-mean-saved", Second::Lacking("its Gemma 3 is causal and gives the logits of the last token alone")),
    ("jina-bert-v2-mean", Second::HiddenAlone(models::jina_bert)),
    ("jina-bert-v2-qk-norm-mean", Second::Lacking("its JinaBERT has no norm of queries and keys")),
    ("modernbert-mean", Second::Hidden(models::modernbert)),
    ("mpnet-mean", Second::Lacking("it has no MPNet")),
    ("ms-marco-MiniLM-L12-v2-dq", Second::Scores(models::bert_classifier, Activated::No)),
    ("new-cls", Second::Hidden(models::gte)),
    ("new-cls-prefixed", Second::Hidden(models::gte)),
    ("nomic-bert-mean", Second::Hidden(models::nomic_bert)),
    ("nomic-bert-mean-saved", Second::Lacking("it reads the layout of the hub alone, that of nomic-bert-mean")),
    ("paraphrase-MiniLM-L3-v2", BERT),
    ("qwen2-last-token", Second::Hidden(models::qwen2)),
    ("qwen3-last-token", Second::Hidden(models::qwen3)),
    ("rerank-bert", Second::Scores(models::bert_classifier, Activated::No)),
    ("rerank-bert-prompt", Second::Scores(models::bert_classifier, Activated::No)),
    ("rerank-bert-sigmoid", Second::Scores(models::bert_classifier, Activated::No)),
    ("rerank-distilbert", Second::Scores(models::distilbert_classifier, Activated::No)),
    ("rerank-modernbert-cls", Second::Lacking("its ModernBERT has no biases")),
    ("rerank-modernbert-mean", Second::Scores(models::modernbert_classifier, Activated::Yes)),
    ("rerank-qwen3", Second::Scores(models::qwen3_yes_or_no, Activated::No)),
    ("rerank-qwen3-chain", Second::Lacking("it has no chat template; its encoder is that of rerank-qwen3")),
    ("rerank-qwen3-pair", Second::Lacking("the answers are those of a module; its encoder is that of rerank-qwen3")),
    ("rerank-roberta", Second::Scores(models::roberta_classifier, Activated::No)),
    ("rerank-xlm-roberta", Second::Scores(models::roberta_classifier, Activated::No)),
    ("roberta-class-mean", ROBERTA),
    ("roberta-mean", ROBERTA),
    ("roberta-mlm", Second::Vocabulary(models::roberta_for_masked_lm)),
    ("splade-tiny", BERT_MLM),
    ("static-embedding", Second::Lacking("it has no static embeddings, which are no transformer")),
    ("static-model2vec", Second::Lacking("it has no static embeddings, which are no transformer")),
    ("xlm-roberta-class-cls", ROBERTA),
    ("xlm-roberta-cls", ROBERTA),
    ("xlm-roberta-mlm", Second::Lacking("the decoder of its XLM-RoBERTa is always that of the word embeddings")),
];

/// Where `candle-transformers` computes something else than the first reference: the case, the key of `config.json` with
/// which the runner computes the same, and its value.
///
/// Its DistilBERT takes the tanh form of GELU where the configuration names the erf form. `transformers` takes the erf
/// form, and so do the published models.
const OTHERWISE: &[(&str, &str, &str)] = &[
    ("distilbert-mean", "activation", "gelu_new"),
    ("distilbert-mlm", "activation", "gelu_new"),
    ("rerank-distilbert", "activation", "gelu_new"),
];

/// A test per case that has a second reference, and one that none is forgotten.
pub fn trials(cases: Vec<Case>) -> Vec<Trial> {
    let names: Vec<String> = cases.iter().map(|case| case.name.clone()).collect();
    let complete = Trial::test("second-reference/every-case-is-named", move || {
        let unnamed: Vec<&String> = names.iter().filter(|name| named(name).is_none()).collect();
        if unnamed.is_empty() {
            return Ok(());
        }
        Err(format!("{unnamed:?}: name the model of candle-transformers in parity/second/mod.rs, or why none").into())
    });
    let compared = cases.into_iter().filter_map(|case| {
        let second = named(&case.name)?;
        if let Second::Lacking(reason) = second {
            assert!(!reason.is_empty(), "{} has a reason", case.name);
            return None;
        }
        let name = format!("second-reference/{}", case.name);
        Some(case.trial(name, move |case| check(case, second)))
    });
    compared.chain([complete]).collect()
}

fn named(case: &str) -> Option<Second> {
    SECOND.iter().find(|(name, _)| *name == case).map(|(_, second)| *second)
}

fn check(case: &Case, second: Second) -> Result<(), String> {
    let Some((_, key, value)) = OTHERWISE.iter().find(|(name, ..)| *name == case.name) else {
        return compare(case, second)?.all_agree(&case.name);
    };
    compare(case, second)?.has_alone(&case.name, ALONE_IS_SECOND)?;
    let folder = tempfile::tempdir().expect("a folder");
    edit(&case.model, folder.path(), key, value);
    let edited = case.with_model(folder.path().to_owned());
    compare(&edited, second)?.has_alone(&edited.name, ALONE_IS_EXPECTED)
}

/// How far the runner, the second reference and the expected vectors of a case are from each other.
fn compare(case: &Case, second: Second) -> Result<Distances, String> {
    let folder = Folder::read(&case.model);
    match second {
        Second::Hidden(model) => dense::compare(case, &folder, model, false),
        Second::HiddenAlone(model) => dense::compare(case, &folder, model, true),
        Second::Vocabulary(model) => sparse::compare(case, &folder, model),
        Second::Scores(model, activated) => rerank::compare(case, &folder, model, activated),
        Second::Lacking(_) => unreachable!("left out above"),
    }
}

/// Makes `to` the model `from` with another value in its `config.json`.
fn edit(from: &Path, to: &Path, key: &str, value: &str) {
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        symlink(entry.path(), to.join(entry.file_name())).expect("a link");
    }
    let mut config: Value =
        serde_json::from_slice(&fs::read(from.join("config.json")).expect("config.json")).expect("JSON");
    config[key] = value.into();
    fs::remove_file(to.join("config.json")).expect("the link");
    fs::write(to.join("config.json"), config.to_string()).expect("config.json");
}

/// The texts that are compared: all, or the first of a published model, which takes its time.
fn compared(case: &Case, texts: usize) -> usize {
    const OF_A_PUBLISHED_MODEL: usize = 8;
    if case.published.is_some() { texts.min(OF_A_PUBLISHED_MODEL) } else { texts }
}
