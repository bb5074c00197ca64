//! A model folder is loaded, or refused with the reason; a vector does not depend on its batch. On a tiny made-up BERT.

#[path = "common/mod.rs"]
mod tiny;

use std::{
    collections::HashMap,
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use candle_core::{DType, Device, Tensor};
use crds::contract::{ExitCode, FailureReason};
use runner::{
    batch::{Rows, TokenBudget},
    model::{DenseModel, DenseOptions, ModelError, Pooling},
    stage::dense::{PassError, PassOptions, PassRecord, Progress, run},
    text::Tokens,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const SAME: f64 = 0.999_99;

/// A tiny model folder to spoil.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        tiny::write_tiny_bert(folder.path(), 1);
        Self(folder)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn remove(&self, file: &str) {
        fs::remove_file(self.path(file)).expect(file);
    }

    fn edit(&self, file: &str, edit: impl FnOnce(&mut Value)) {
        let mut json = serde_json::from_slice(&fs::read(self.path(file)).expect(file)).expect(file);
        edit(&mut json);
        fs::write(self.path(file), json.to_string()).expect(file);
    }

    fn edit_weights(&self, edit: impl Fn(&mut HashMap<String, Tensor>)) {
        let file = self.path("model.safetensors");
        let mut tensors = candle_core::safetensors::load(&file, &Device::Cpu).expect("weights");
        edit(&mut tensors);
        candle_core::safetensors::save(&tensors, &file).expect("weights");
    }

    fn load_with(&self, options: &DenseOptions) -> Result<DenseModel, ModelError> {
        DenseModel::load("tiny", self.0.path(), options, &Device::Cpu)
    }

    fn load(&self) -> DenseModel {
        self.load_with(&DenseOptions::default()).expect("the model loads")
    }

    /// The message of the refusal, after checking that it is the reason that is wanted and names the model.
    fn refusal(&self, reason: FailureReason) -> String {
        let error = self.load_with(&DenseOptions::default()).map(|_| ()).expect_err("the folder is refused");
        assert_eq!(error.reason(), reason, "{error}");
        let message = error.to_string();
        assert!(message.starts_with("model tiny: "), "{message}");
        message
    }
}

fn assert_names(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

mod refused {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there() {
        let error = DenseModel::load("tiny", Path::new("/nowhere/at/all"), &DenseOptions::default(), &Device::Cpu)
            .map(|_| ())
            .expect_err("there is no folder");
        assert_eq!(error.reason(), FailureReason::ModelNotFound);
        assert_eq!(error.reason().exit_code(), ExitCode::BadConfiguration);
        assert_names(&error.to_string(), &["model tiny", "/nowhere/at/all"]);
    }

    #[test]
    fn a_folder_without_a_file_that_is_needed() {
        for file in ["config.json", "tokenizer.json", "1_Pooling/config.json"] {
            let folder = Folder::new();
            folder.remove(file);
            assert_names(&folder.refusal(FailureReason::InvalidModel), &[file, "missing"]);
        }
    }

    #[test]
    fn a_configuration_that_is_not_valid() {
        for (file, content) in
            [("config.json", "{"), ("config.json", "{\"model_type\":\"bert\"}"), ("modules.json", "{}")]
        {
            let folder = Folder::new();
            fs::write(folder.path(file), content).expect(file);
            assert_names(&folder.refusal(FailureReason::InvalidModel), &[file, "not valid"]);
        }
    }

    #[test]
    fn what_is_not_computed() {
        type Edit = fn(&mut Value);
        let cases: [(&str, Edit, &[&str]); 8] = [
            ("config.json", |json| json["model_type"] = json!("t5"), &["model_type", "\"t5\"", "bert"]),
            ("config.json", |json| json["architectures"] = json!(["BertForSequenceClassification"]), &["BertModel"]),
            ("config.json", |json| json["hidden_act"] = json!("silu"), &["hidden_act", "\"silu\"", "gelu"]),
            ("config.json", |json| json["position_embedding_type"] = json!("relative_key"), &["absolute"]),
            ("config.json", |json| json["is_decoder"] = json!(true), &["is_decoder"]),
            ("config.json", |json| json["num_attention_heads"] = json!(3), &["hidden_size 16", "3"]),
            ("modules.json", |json| json[2]["type"] = json!("sentence_transformers.models.Dense"), &["Dense"]),
            ("1_Pooling/config.json", |json| *json = json!({"pooling_mode": "max"}), &["\"max\"", "cls, mean"]),
        ];
        for (file, edit, named) in cases {
            let folder = Folder::new();
            folder.edit(file, edit);
            let message = folder.refusal(FailureReason::InvalidModel);
            assert_names(&message, &[file]);
            assert_names(&message, named);
        }
    }

    #[test]
    fn a_folder_that_wants_the_text_changed() {
        for (file, content, field) in [
            ("sentence_bert_config.json", json!({"do_lower_case": true}), "do_lower_case"),
            ("config_sentence_transformers.json", json!({"default_prompt_name": "query"}), "default_prompt_name"),
        ] {
            let folder = Folder::new();
            fs::write(folder.path(file), content.to_string()).expect(file);
            assert_names(&folder.refusal(FailureReason::InvalidModel), &[file, field]);
        }
    }

    #[test]
    fn a_folder_that_does_not_say_how_to_pool_unless_the_run_does() {
        let folder = Folder::new();
        folder.remove("modules.json");
        assert_names(&folder.refusal(FailureReason::InvalidModel), &["Cls or Mean"]);
        let options = DenseOptions { pooling: Some(Pooling::Cls), ..DenseOptions::default() };
        assert_eq!(folder.load_with(&options).expect("the run says how").pooling(), Pooling::Cls);
    }

    #[test]
    fn no_weights() {
        let folder = Folder::new();
        folder.remove("model.safetensors");
        assert_names(&folder.refusal(FailureReason::InvalidModel), &["there is no model.safetensors"]);
    }

    #[test]
    fn a_pickle_by_its_name() {
        for pickle in ["pytorch_model.bin", "model.pt", "model.ckpt", "model.pkl"] {
            let folder = Folder::new();
            fs::rename(folder.path("model.safetensors"), folder.path(pickle)).expect(pickle);
            assert_names(&folder.refusal(FailureReason::InvalidModel), &[pickle, "pickle", "model.safetensors"]);
        }
    }

    #[test]
    fn weights_that_are_cut_off_or_not_safetensors() {
        let folder = Folder::new();
        let whole = fs::read(folder.path("model.safetensors")).expect("weights");
        for bytes in [&whole[..whole.len() - 1], &whole[..100], &whole[..3], &b""[..], &b"<html>not found</html>"[..]] {
            fs::write(folder.path("model.safetensors"), bytes).expect("weights");
            assert_names(&folder.refusal(FailureReason::InvalidModel), &["model.safetensors", "truncated or corrupt"]);
        }
    }

    #[test]
    fn a_missing_tensor_by_its_name() {
        let folder = Folder::new();
        let name = "encoder.layer.0.attention.self.key.bias";
        folder.edit_weights(|tensors| assert!(tensors.remove(name).is_some()));
        assert_names(&folder.refusal(FailureReason::InvalidModel), &["model.safetensors", name]);
    }

    #[test]
    fn a_tensor_of_another_shape_with_both_shapes() {
        let folder = Folder::new();
        folder.edit("config.json", |json| json["intermediate_size"] = json!(48));
        let message = folder.refusal(FailureReason::InvalidModel);
        assert_names(&message, &["encoder.layer.0.intermediate.dense.weight", "has shape [32, 16]", "[48, 16]"]);
    }

    #[test]
    fn a_tensor_that_is_not_of_floats() {
        let folder = Folder::new();
        let name = "embeddings.word_embeddings.weight";
        folder.edit_weights(|tensors| {
            let quantised = tensors[name].to_dtype(DType::U8).expect("integers");
            tensors.insert(name.to_owned(), quantised);
        });
        assert_names(&folder.refusal(FailureReason::InvalidModel), &[name, "U8"]);
    }

    #[test]
    fn a_tokenizer_with_ids_that_the_embedding_does_not_have() {
        let folder = Folder::new();
        folder.edit("tokenizer.json", |json| json["model"]["vocab"]["surplus"] = json!(500));
        assert_names(&folder.refusal(FailureReason::InvalidModel), &["tokenizer.json", "501", "76 rows"]);
    }

    #[test]
    fn a_tokenizer_that_is_not_one() {
        let folder = Folder::new();
        fs::write(folder.path("tokenizer.json"), "[]").expect("a file");
        assert_names(&folder.refusal(FailureReason::InvalidModel), &["tokenizer.json"]);
    }

    #[test]
    fn a_length_without_room_for_text() {
        let options = DenseOptions { max_tokens: Some(2), ..DenseOptions::default() };
        let error = Folder::new().load_with(&options).map(|_| ()).expect_err("no room");
        assert_eq!(error.reason().exit_code(), ExitCode::BadConfiguration);
        assert_names(&error.to_string(), &["model tiny", "max tokens is 2"]);
    }
}

mod loaded {
    use super::*;

    #[test]
    fn the_longest_sequence_is_the_least_of_all_limits() {
        let folder = Folder::new();
        let longest = |asked| {
            let options = DenseOptions { max_tokens: asked, ..DenseOptions::default() };
            folder.load_with(&options).expect("the model loads").max_tokens()
        };
        assert_eq!((longest(None), longest(Some(10)), longest(Some(500))), (tiny::MAX_TOKENS, 10, tiny::MAX_TOKENS));
        fs::write(folder.path("tokenizer_config.json"), json!({"model_max_length": 1e30}).to_string()).expect("a file");
        assert_eq!(longest(None), tiny::MAX_TOKENS);
        fs::write(folder.path("tokenizer_config.json"), json!({"model_max_length": 30}).to_string()).expect("a file");
        assert_eq!(longest(None), 30);
        fs::write(folder.path("sentence_bert_config.json"), json!({"max_seq_length": 20}).to_string()).expect("a file");
        assert_eq!(longest(None), 20);
    }

    #[test]
    fn prefixed_and_old_tensor_names_give_the_same_vectors() {
        let folder = Folder::new();
        let tokens = folder.load().tokenizer().encode("one two three").expect("tokens");
        let plain = folder.load().embed(&[&tokens]).expect("a vector");
        folder.edit_weights(|tensors| {
            *tensors = tensors
                .drain()
                .map(|(name, tensor)| {
                    let name =
                        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
                    (format!("bert.{name}"), tensor)
                })
                .collect();
        });
        assert_eq!(folder.load().embed(&[&tokens]).expect("a vector"), plain);
    }

    #[test]
    fn weights_beside_a_pickle_are_used() {
        let folder = Folder::new();
        fs::write(folder.path("pytorch_model.bin"), "").expect("a file");
        assert_eq!(folder.load().dimensions(), tiny::DIMENSIONS);
    }

    #[test]
    fn vectors_have_length_one_unless_the_folder_or_the_run_does_not_normalise() {
        let folder = Folder::new();
        let length = |options: &DenseOptions| {
            let model = folder.load_with(options).expect("the model loads");
            let tokens = model.tokenizer().encode("one").expect("tokens");
            let vector = model.embed(&[&tokens]).expect("a vector").into_values();
            vector.iter().map(|value| value * value).sum::<f32>().sqrt()
        };
        let raw = DenseOptions { normalize: Some(false), ..DenseOptions::default() };
        assert!((length(&DenseOptions::default()) - 1.0).abs() < 1e-6);
        assert!((length(&raw) - 1.0).abs() > 0.1);
        folder.edit("modules.json", |json| {
            json.as_array_mut().expect("modules").pop();
        });
        assert!((length(&DenseOptions::default()) - length(&raw)).abs() < 1e-6);
    }

    #[test]
    fn a_text_alone_and_in_a_batch_of_any_lengths_has_one_vector() {
        for pooling in [Pooling::Cls, Pooling::Mean] {
            let options = DenseOptions { pooling: Some(pooling), ..DenseOptions::default() };
            let model = Folder::new().load_with(&options).expect("the model loads");
            let encode = |text: &str| model.tokenizer().encode(text).expect("tokens");
            let (a, b, long) = (encode("abc d"), encode("xyz 9"), encode("the whole alphabet in small letters"));
            assert_eq!(a.ids.len(), b.ids.len(), "a batch of them is one of equal lengths");
            let alone = model.embed(&[&a]).expect("a vector");
            assert!(cosine(alone.row(0), model.embed(&[&b]).expect("a vector").row(0)) < 0.999, "the texts differ");
            let batches: [&[&Tokens]; 4] = [&[&a, &a], &[&a, &b], &[&a, &long], &[&a, &b, &long, &a]];
            for batch in batches {
                let similarity = cosine(alone.row(0), model.embed(batch).expect("vectors").row(0));
                assert!(similarity >= SAME, "{pooling}, batch of {}: cosine {similarity}", batch.len());
            }
        }
    }

    #[test]
    fn a_vector_that_is_not_finite_is_an_error_that_names_its_row() {
        let folder = Folder::new();
        // The id of "z" alone: "a" … "z" and their continuations follow four special tokens.
        let z = 4 + 2 * 25;
        folder.edit_weights(|tensors| {
            let name = "embeddings.word_embeddings.weight";
            let mut rows = tensors[name].to_vec2::<f32>().expect("rows");
            rows[z][0] = f32::NAN;
            tensors.insert(name.to_owned(), Tensor::new(rows, &Device::Cpu).expect("a tensor"));
        });
        let texts = ["a", "b b b", "z", "c c"];
        let error = pass(&folder.load(), &texts, 2, |_| (), &Arc::default()).expect_err("row 2 is not finite");
        let PassError::Model(error) = error else { panic!("{error}") };
        assert_eq!(error.reason(), FailureReason::InvalidVector);
        assert_names(&error.to_string(), &["model tiny", "row 2"]);
    }
}

/// Runs a pass in windows of `window` texts; the sink checks that the windows come in order.
fn pass(
    model: &DenseModel,
    texts: &[&str],
    window: usize,
    progress: impl FnMut(Progress),
    cancelled: &Arc<AtomicBool>,
) -> Result<(Rows, PassRecord), PassError<&'static str>> {
    let options = PassOptions {
        window: NonZeroUsize::new(window).expect("a window"),
        batch: TokenBudget(40),
        tokenizer_threads: NonZeroUsize::MIN,
        workers: NonZeroUsize::MIN,
        cancelled: Arc::clone(cancelled),
    };
    let mut values = Vec::new();
    let record = run(model, texts.iter().map(Ok), &options, progress, |first, rows| {
        assert_eq!(values.len(), first * model.dimensions(), "windows come in order");
        values.extend(rows.into_values());
        Ok(())
    })?;
    Ok((Rows::new(model.dimensions(), values), record))
}

mod passes {
    use super::*;

    const TEXTS: [&str; 7] = [
        "a",
        "one two three four five",
        "",
        "b c",
        "this text has more than thirty two tokens of one letter",
        "d",
        "e",
    ];

    #[test]
    fn vectors_come_in_the_order_of_the_texts_with_any_window() {
        let model = Folder::new().load();
        for window in [1, 2, 3, 7, 100] {
            let (vectors, record) = pass(&model, &TEXTS, window, |_| (), &Arc::default()).expect("a pass");
            assert_eq!((vectors.len(), record.chunks), (TEXTS.len(), TEXTS.len() as u64));
            for (row, text) in TEXTS.iter().enumerate() {
                let tokens = model.tokenizer().encode(text).expect("tokens");
                let similarity = cosine(vectors.row(row), model.embed(&[&tokens]).expect("a vector").row(0));
                assert!(similarity >= SAME, "window {window}, {text:?}: cosine {similarity}");
            }
        }
    }

    #[test]
    fn the_record_counts_what_was_done() {
        let model = Folder::new().load();
        let mut reports = Vec::new();
        let (_, record) = pass(&model, &TEXTS, 3, |done| reports.push(done), &Arc::default()).expect("a pass");
        let encoded: Vec<Tokens> = TEXTS.iter().map(|text| model.tokenizer().encode(text).expect("tokens")).collect();
        assert_eq!(record.model, "tiny");
        assert_eq!(record.dimensions, tiny::DIMENSIONS);
        assert_eq!(record.tokens, encoded.iter().map(|tokens| tokens.ids.len() as u64).sum::<u64>());
        // 45 letters and two special tokens, where 32 are allowed.
        assert_eq!((record.truncated_chunks, record.tokens_lost), (1, 15));
        assert_eq!(record.batches, reports.len() as u64);
        assert!(reports.is_sorted_by_key(|done| done.chunks));
        assert_eq!(reports.last(), Some(&Progress { chunks: record.chunks, tokens: record.tokens }));
    }

    #[test]
    fn no_texts_are_a_pass_of_nothing() {
        let (vectors, record) = pass(&Folder::new().load(), &[], 3, |_| (), &Arc::default()).expect("a pass");
        assert_eq!((vectors.len(), record.chunks, record.batches), (0, 0, 0));
    }

    #[test]
    fn a_cancelled_pass_stops_after_the_batch_it_is_at() {
        let cancelled = Arc::new(AtomicBool::new(false));
        let mut batches = 0;
        let count_and_cancel = |_| {
            batches += 1;
            cancelled.store(true, Ordering::Relaxed);
        };
        let error = pass(&Folder::new().load(), &TEXTS, 1, count_and_cancel, &cancelled).expect_err("cancelled");
        assert!(matches!(error, PassError::Cancelled), "{error}");
        assert_eq!(batches, 1);
    }

    #[test]
    fn a_sink_that_fails_ends_the_pass_with_its_error() {
        let options = PassOptions {
            window: NonZeroUsize::MIN,
            batch: TokenBudget(40),
            tokenizer_threads: NonZeroUsize::MIN,
            workers: NonZeroUsize::MIN,
            cancelled: Arc::default(),
        };
        let endless = std::iter::repeat_with(|| Ok("a"));
        let error = run(
            &Folder::new().load(),
            endless,
            &options,
            |_| (),
            |first, _| if first == 2 { Err("full") } else { Ok(()) },
        );
        assert!(matches!(error, Err(PassError::Sink("full"))), "{error:?}");
    }
}
