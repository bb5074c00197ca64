//! Model folders that are rejected: each message names the file, the field or the tensor at fault.

use std::{collections::HashMap, fs, num::NonZeroUsize, path::Path};

use candle_core::{DType, Device, Tensor};
use crds::{
    contract::{ExitCode, FailureReason},
    v1alpha1::Dtype,
};
use runner::model::{DenseEncoder, DenseOptions, Pooling, Side, architecture::ARCHITECTURES};
use serde_json::{Value, json};

use crate::folder::{Folder, WEIGHTS, WORDS, assert_names};

#[test]
fn a_missing_folder() {
    let error = DenseEncoder::load("tiny", Path::new("/nowhere/at/all"), &DenseOptions::default(), &Device::Cpu)
        .map(|_| ())
        .expect_err("no folder");
    assert_eq!(error.reason(), FailureReason::ModelNotFound);
    assert_eq!(error.reason().exit_code(), ExitCode::BadConfiguration);
    assert_names(&error.to_string(), &["model tiny", "/nowhere/at/all"]);
}

#[test]
fn a_folder_without_a_required_file() {
    for file in ["config.json", "tokenizer.json", "1_Pooling/config.json"] {
        let folder = Folder::new();
        folder.remove(file);
        assert_names(&folder.refusal(), &[file, "missing"]);
    }
}

#[test]
fn a_configuration_that_is_not_valid() {
    for (file, content) in [("config.json", "{"), ("config.json", "{\"model_type\":\"bert\"}"), ("modules.json", "{}")]
    {
        let folder = Folder::new();
        folder.write(file, content);
        assert_names(&folder.refusal(), &[file, "not valid"]);
    }
}

#[test]
fn settings_that_are_not_implemented() {
    type Edit = fn(&mut Value);
    let cases: [(&str, Edit, &[&str]); 8] = [
        ("config.json", |json| json["hidden_act"] = json!("mish"), &["hidden_act", "\"mish\"", "gelu", "silu"]),
        ("config.json", |json| json["position_embedding_type"] = json!("relative_key"), &["absolute"]),
        ("config.json", |json| json["is_decoder"] = json!(true), &["is_decoder"]),
        ("modules.json", |json| json[1]["type"] = json!("my.own.CNN"), &["type", "\"my.own.CNN\"", "Pooling, Dense"]),
        ("modules.json", |json| json[1]["path"] = json!("../1_Pooling"), &["path", "\"../1_Pooling\""]),
        ("modules.json", |json| json[1]["path"] = json!("/etc"), &["path", "\"/etc\""]),
        ("modules.json", |json| json[1]["path"] = json!("1_Pooling/../.."), &["path", "\"1_Pooling/../..\""]),
        ("1_Pooling/config.json", |json| *json = json!({"pooling_mode": "min"}), &["\"min\"", "cls, max", "mean"]),
    ];
    for (file, edit, named) in cases {
        let folder = Folder::new();
        folder.edit(file, edit);
        let message = folder.refusal();
        assert_names(&message, &[file]);
        assert_names(&message, named);
    }
}

#[test]
fn an_unknown_architecture_with_the_known_ones() {
    let mut known: Vec<&str> = ARCHITECTURES.iter().flat_map(|known| known.model_types).copied().collect();
    known.sort_unstable();
    known.dedup();
    assert!(known.contains(&"bert") && known.contains(&"modernbert"), "{known:?}");
    let folder = Folder::new();
    for (model_type, found) in [(json!("t5"), "model_type \"t5\""), (json!(null), "model_type \"\"")] {
        folder.edit("config.json", |json| json["model_type"] = model_type);
        assert_names(&folder.refusal(), &["config.json", found, &known.join(", ")]);
    }
}

#[test]
fn a_configuration_that_contradicts_the_weights_or_itself() {
    type Edit = fn(&mut Value);
    let bert: [(Edit, &[&str]); 10] = [
        (|json| json["hidden_size"] = json!(32), &["embeddings.", "has shape [32, 16], ", "implies [32, 32]"]),
        (|json| json["vocab_size"] = json!(80), &[WORDS, "has shape [76, 16], ", "implies [80, 16]"]),
        (|json| json["max_position_embeddings"] = json!(64), &["embeddings.position_embeddings.weight"]),
        (
            |json| json["max_position_embeddings"] = json!(1_u64 << 40),
            &["config.json", "max_position_embeddings", "1048576"],
        ),
        (|json| json["num_hidden_layers"] = json!(0), &[WEIGHTS, "has tensor encoder.layer.0."]),
        (|json| json["num_hidden_layers"] = json!(2), &[WEIGHTS, "no tensor encoder.layer.1."]),
        (|json| json["num_hidden_layers"] = json!(1_u64 << 60), &["config.json", "num_hidden_layers", "at most 1024"]),
        (|json| json["num_attention_heads"] = json!(3), &["config.json", "hidden_size 16", "num_attention_heads 3"]),
        (|json| json["num_attention_heads"] = json!(0), &["config.json", "hidden_size 16", "num_attention_heads 0"]),
        (|json| json["hidden_size"] = json!(-16), &["config.json", "not valid"]),
    ];
    let qwen: [(Edit, &[&str]); 4] = [
        (
            |json| json["num_key_value_heads"] = json!(3),
            &["config.json", "num_key_value_heads", "\"3 (of", "a divisor"],
        ),
        (
            |json| json["num_key_value_heads"] = json!(0),
            &["config.json", "num_key_value_heads", "\"0 (of", "a divisor"],
        ),
        (|json| json["num_key_value_heads"] = json!(4), &["k_proj.weight", "has shape [48, 64]", "implies [96, 64]"]),
        (|json| json["head_dim"] = json!(16), &["layers.0.", "has shape [24]", "implies [16]"]),
    ];
    let cases = bert.into_iter().map(|case| (Folder::new as fn() -> Folder, case));
    for (folder, (edit, named)) in
        cases.chain(qwen.into_iter().map(|case| ((|| Folder::of_case("qwen3-last-token")) as fn() -> Folder, case)))
    {
        let folder = folder();
        folder.edit("config.json", edit);
        assert_names(&folder.refusal(), named);
    }
}

#[test]
fn modules_in_an_unsupported_order() {
    let folder = Folder::of_case("bert-dense-tanh");
    let listed: Value = serde_json::from_slice(&fs::read(folder.path("modules.json")).expect("modules")).expect("JSON");
    folder.load();
    // Transformer, Pooling, Dense, Normalize.
    for order in [&[0, 0, 1, 2, 3][..], &[1, 0, 2, 3]] {
        folder.edit("modules.json", |json| *json = order.iter().map(|&at| listed[at].clone()).collect());
        assert_names(&folder.refusal(), &["modules.json", "type", "Dense"]);
    }
    // The projection reads a vector that is not pooled yet.
    folder.edit("modules.json", |json| *json = [0, 2, 1, 3].iter().map(|&at: &usize| listed[at].clone()).collect());
    assert_names(&folder.refusal(), &["2_Dense/config.json", "module_input_name", "sentence_embedding"]);
}

#[test]
fn a_projection_that_takes_another_width() {
    let folder = Folder::of_case("bert-dense-tanh");
    folder.edit("2_Dense/config.json", |json| json["in_features"] = json!(64));
    assert_names(&folder.refusal(), &["2_Dense/config.json", "in_features", "\"64\"", "supported: 48"]);
    let dense = |tensors: &[(&str, &[usize])]| {
        let ones = |shape: &[usize]| Tensor::ones(shape, DType::F32, &Device::Cpu).expect("a tensor");
        let tensors: HashMap<&str, Tensor> = tensors.iter().map(|(name, shape)| (*name, ones(shape))).collect();
        candle_core::safetensors::save(&tensors, folder.path("2_Dense/model.safetensors")).expect("weights");
    };
    folder.edit("2_Dense/config.json", |json| json["in_features"] = json!(48));
    dense(&[("linear.weight", &[40, 64]), ("linear.bias", &[40])]);
    assert_names(&folder.refusal(), &["2_Dense/model.safetensors", "linear.weight", "[40, 64]", "[40, 48]"]);
    dense(&[("linear.weight", &[40, 48]), ("linear.bias", &[40]), ("linear.scale", &[40])]);
    assert_names(&folder.refusal(), &["2_Dense/model.safetensors", "linear.scale"]);
    folder.edit("2_Dense/config.json", |json| json["activation_function"] = json!("torch.nn.Softmax"));
    assert_names(&folder.refusal(), &["2_Dense/config.json", "activation_function", "torch.nn.Softmax", "Tanh"]);
}

#[test]
fn more_dimensions_than_the_vector_has_or_none() {
    for requested in [17, 0] {
        let options = DenseOptions { dimensions: Some(requested), ..DenseOptions::default() };
        let message = Folder::new().refusal_with(&options, FailureReason::InvalidConfiguration);
        assert_names(&message, &[&format!("dimensions is {requested}"), "have 16", "to 1 to 16"]);
    }
}

#[test]
fn an_unknown_default_prompt() {
    let folder = Folder::new();
    let prompts = json!({"prompts": {"sts": "s "}, "default_prompt_name": "clustering"});
    folder.write("config_sentence_transformers.json", prompts.to_string());
    let named = ["config_sentence_transformers.json", "default_prompt_name", "\"clustering\"", "sts"];
    assert_names(&folder.refusal(), &named);
}

#[test]
fn a_folder_that_does_not_say_how_to_pool_unless_the_run_does() {
    let folder = Folder::new();
    folder.remove("modules.json");
    assert_names(&folder.refusal(), &["for example Mean or Cls"]);
    let options = DenseOptions { pooling: Some(Pooling::Cls), ..DenseOptions::default() };
    assert_eq!(folder.load_with(&options).expect("the run says how").poolings(), [Pooling::Cls]);
}

#[test]
fn no_weights() {
    let folder = Folder::new();
    folder.remove("model.safetensors");
    assert_names(&folder.refusal(), &["has no model.safetensors"]);
}

#[test]
fn a_pickle_by_its_name() {
    for pickle in ["pytorch_model.bin", "model.pt", "model.ckpt", "model.pkl"] {
        let folder = Folder::new();
        fs::rename(folder.path("model.safetensors"), folder.path(pickle)).expect(pickle);
        assert_names(&folder.refusal(), &[pickle, "pickle", "model.safetensors"]);
    }
}

#[test]
fn weights_that_are_cut_off_or_not_safetensors() {
    let folder = Folder::new();
    let whole = fs::read(folder.path("model.safetensors")).expect("weights");
    for bytes in [&whole[..whole.len() - 1], &whole[..100], &whole[..3], &b""[..], &b"<html>not found</html>"[..]] {
        folder.write(WEIGHTS, bytes);
        assert_names(&folder.refusal(), &["model.safetensors", "truncated or corrupt"]);
    }
}

#[test]
fn a_missing_tensor_by_its_name() {
    let folder = Folder::new();
    let name = "encoder.layer.0.attention.self.key.bias";
    folder.edit_weights(|tensors| assert!(tensors.remove(name).is_some()));
    assert_names(&folder.refusal(), &["model.safetensors", name]);
}

#[test]
fn a_tensor_of_another_shape_with_both_shapes() {
    let folder = Folder::new();
    folder.edit("config.json", |json| json["intermediate_size"] = json!(48));
    let message = folder.refusal();
    assert_names(&message, &["encoder.layer.0.intermediate.dense.weight", "has shape [32, 16]", "[48, 16]"]);
}

#[test]
fn a_tensor_that_is_not_of_floats() {
    for (dtype, name) in [(DType::U8, "U8"), (DType::I64, "I64"), (DType::U32, "U32")] {
        let folder = Folder::new();
        folder.retype(WORDS, dtype);
        assert_names(&folder.refusal(), &[WORDS, WEIGHTS, &format!("is {name}")]);
    }
}

#[test]
fn the_head_of_another_task_by_its_name() {
    let folder = Folder::new();
    folder.add(&[("classifier.weight", &[2, 16]), ("classifier.bias", &[2])]);
    assert_names(&folder.refusal(), &[WEIGHTS, "has tensor classifier.bias", "another kind of model"]);
}

#[test]
fn a_weight_that_is_not_finite_with_its_place() {
    let bias = "encoder.layer.0.output.dense.bias";
    for (tensor, at, value) in
        [(WORDS, 20, f32::NAN), (bias, 3, f32::INFINITY), ("embeddings.LayerNorm.weight", 15, f32::NEG_INFINITY)]
    {
        let folder = Folder::new();
        folder.set(tensor, [at], value);
        assert_names(&folder.refusal(), &[WEIGHTS, tensor, &format!("the value {value} at index {at}")]);
        folder.retype(tensor, DType::F16);
        assert_names(&folder.refusal(), &[WEIGHTS, tensor, &format!("the value {value} at index {at}")]);
    }
    let folder = Folder::new();
    folder.retype(bias, DType::F64);
    folder.edit_weights(|tensors| {
        let large = (&tensors[bias] * 1e300).expect("finite in f64");
        tensors.insert(bias.to_owned(), large);
    });
    assert_names(&folder.refusal(), &[WEIGHTS, bias, "inf at index "]);
}

#[test]
fn a_weight_that_the_type_of_the_run_cannot_hold() {
    let folder = Folder::new();
    let bias = "encoder.layer.0.intermediate.dense.bias";
    folder.set(bias, [5], -70_000.0);
    folder.load();
    let options = DenseOptions { dtype: Some(Dtype::Bf16), ..DenseOptions::default() };
    folder.load_with(&options).expect("BF16 has the range of F32");
    let options = DenseOptions { dtype: Some(Dtype::F16), ..DenseOptions::default() };
    let message = folder.refusal_with(&options, FailureReason::InvalidConfiguration);
    assert_names(&message, &[WEIGHTS, bias, "-70000 at index 5", "F16"]);
}

#[test]
fn a_part_of_the_weights_that_is_missing_cut_off_or_not_to_be_read() {
    let folder = Folder::new();
    folder.shard();
    folder.load();
    let index = "model.safetensors.index.json";
    let whole = fs::read(folder.path("part-1.safetensors")).expect("a part");
    folder.write("part-1.safetensors", &whole[..whole.len() - 1]);
    assert_names(&folder.refusal(), &["part-1.safetensors", "truncated or corrupt"]);
    folder.remove("part-1.safetensors");
    assert_names(&folder.refusal(), &["part-1.safetensors", "missing"]);
    folder.write("part-1.safetensors", &whole);

    let elsewhere = tempfile::tempdir().expect("a folder");
    let outside = elsewhere.path().join("outside.safetensors");
    fs::write(&outside, &whole).expect("a file");
    let relative =
        format!("../{}/outside.safetensors", outside.parent().and_then(Path::file_name).expect("a name").display());
    for climbing in [relative.as_str(), &outside.display().to_string(), "..", "1_Pooling/../part-1.safetensors", ""] {
        folder.edit(index, |json| json["weight_map"][WORDS] = json!(climbing));
        assert_names(
            &folder.refusal(),
            &[index, "weight_map", &format!("{climbing:?}"), "the name of a file in the same folder"],
        );
    }

    folder.write("part-9.bin", "a pickle");
    folder.edit(index, |json| json["weight_map"][WORDS] = json!("part-9.bin"));
    assert_names(&folder.refusal(), &["part-9.bin is a pickle", WEIGHTS]);
    folder.write(index, "{\"metadata\": {}}");
    assert_names(&folder.refusal(), &[index, "not valid"]);
}

#[test]
fn an_index_that_leaves_out_a_part_by_the_tensor_that_is_then_missing() {
    let folder = Folder::new();
    folder.shard();
    folder.edit("model.safetensors.index.json", |json| {
        json["weight_map"].as_object_mut().expect("a map").retain(|_, file| file != "part-2.safetensors");
    });
    assert_names(&folder.refusal(), &["no tensor e"]);
}

#[test]
fn a_text_with_an_id_that_the_embedding_does_not_have() {
    let folder = Folder::new();
    folder.edit("tokenizer.json", |json| json["model"]["vocab"]["surplus"] = json!(500));
    let model = folder.load();
    model.encode("other words", Side::Document).expect("ids of the table");
    let error = model.encode("one surplus", Side::Document).expect_err("an id beyond the table");
    assert_eq!(error.reason(), FailureReason::InvalidRecord, "{error}");
    assert_names(&error.to_string(), &["row 0", "\"surplus\"", "500", "76"]);
    let texts = ["one", "a surplus"];
    let error = model.encode_batch(&texts, Side::Document, NonZeroUsize::MIN).expect_err("an id beyond the table");
    assert_names(&error.to_string(), &["row 1"]);
}

#[test]
fn a_tokenizer_whose_special_tokens_the_embedding_does_not_have() {
    let folder = Folder::new();
    folder.write("tokenizer_config.json", json!({"cls_token": "[NEW]"}).to_string());
    assert_names(&folder.refusal(), &["tokenizer.json", "\"[NEW]\"", "76"]);
}

#[test]
fn settings_of_tokenizer_files_that_are_not_implemented() {
    let token = |value: Value| json!({"added_tokens_decoder": value});
    let cases: [(&str, Value, &[&str]); 23] = [
        (
            "tokenizer_config.json",
            json!({"tokenizer_class": "AlbertTokenizer"}),
            &["tokenizer_class", "\"AlbertTokenizer\"", "BertTokenizer"],
        ),
        (
            "tokenizer_config.json",
            json!({"tokenizer_class": "RobertaTokenizerFast"}),
            &["tokenizer.json", "model.type", "\"WordPiece\"", "BPE"],
        ),
        ("tokenizer_config.json", json!({"tokenizer_class": 7}), &["tokenizer_class 7"]),
        ("tokenizer_config.json", json!({"truncation_side": "middle"}), &["truncation_side \"middle\"", "left, right"]),
        ("tokenizer_config.json", json!({"do_lower_case": "no"}), &["do_lower_case \"no\"", "true, false"]),
        ("tokenizer_config.json", json!({"model_max_length": "512"}), &["model_max_length \"512\""]),
        ("tokenizer_config.json", json!({"model_input_names": ["input_ids", "bbox"]}), &["model_input_names", "bbox"]),
        (
            "tokenizer_config.json",
            json!({"auto_map": {"AutoTokenizer": ["my.Tokenizer", null]}}),
            &["auto_map", "my.Tokenizer"],
        ),
        ("tokenizer_config.json", json!({"cls_token": null}), &["cls_token null"]),
        ("tokenizer_config.json", token(json!({"4": "word"})), &["added_tokens_decoder \"word\""]),
        (
            "tokenizer_config.json",
            token(json!({"4": {"content": "word", "colour": 1}})),
            &["added_tokens_decoder", "colour"],
        ),
        ("tokenizer_config.json", json!({"stirp_accents": true}), &["the field stirp_accents with the value true"]),
        ("special_tokens_map.json", json!({"colour": "red"}), &["the field colour with the value \"red\""]),
        ("added_tokens.json", json!({"word": "four"}), &["word \"four\""]),
        ("sentence_bert_config.json", json!({"tokenizer_args": {"colour": "red"}}), &["tokenizer_args.colour", "red"]),
        (
            "sentence_bert_config.json",
            json!({"tokenizer_args": {"tokenizer_class": "BertTokenizer"}}),
            &["tokenizer_args.tokenizer_class"],
        ),
        ("sentence_bert_config.json", json!({"colour": "red"}), &["the field colour with the value \"red\""]),
        ("sentence_bert_config.json", json!({"max_seq_length": "512"}), &["max_seq_length \"512\""]),
        (
            "sentence_bert_config.json",
            json!({"config_kwargs": {"hidden_size": 8}}),
            &["config_kwargs.hidden_size \"8\"", "num_hidden_layers"],
        ),
        (
            "sentence_bert_config.json",
            json!({"model_args": {"variant": "fp16"}}),
            &["model_args.variant with the value \"fp16\""],
        ),
        (
            "sentence_bert_config.json",
            json!({"transformer_task": "fill-mask"}),
            &["transformer_task \"fill-mask\"", "feature-extraction"],
        ),
        ("sentence_bert_config.json", json!({"query_expansion": {"length": 32}}), &["query_expansion", "null"]),
        (
            "sentence_xlnet_config.json",
            json!({"processing_kwargs": {"text": {"stride": 4}}}),
            &["processing_kwargs.text.stride with the value 4"],
        ),
    ];
    for (file, content, named) in cases {
        let folder = Folder::new();
        folder.write(file, content.to_string());
        let message = folder.refusal();
        if !named.contains(&"tokenizer.json") {
            assert_names(&message, &[file]);
        }
        assert_names(&message, named);
    }
}

#[test]
fn a_tokenizer_that_is_not_one() {
    let folder = Folder::new();
    folder.write("tokenizer.json", "[]");
    assert_names(&folder.refusal(), &["tokenizer.json"]);
}

#[test]
fn a_length_without_room_for_text() {
    let options = DenseOptions { max_tokens: Some(2), ..DenseOptions::default() };
    let error = Folder::new().load_with(&options).map(|_| ()).expect_err("no room");
    assert_eq!(error.reason().exit_code(), ExitCode::BadConfiguration);
    assert_names(&error.to_string(), &["model tiny", "max tokens is 2"]);
}
