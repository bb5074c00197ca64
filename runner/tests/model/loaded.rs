//! What a folder and a run can say, and what a vector then is.

use crds::v1alpha1::Dtype;
use runner::{
    model::{DenseOptions, Pooling, Side},
    tokenizer::Tokens,
};
use serde_json::{Value, json};

use crate::{
    folder::{Folder, cosine, vector},
    tiny,
};

const SAME: f64 = 0.999_99;

#[test]
fn the_longest_sequence_is_the_least_of_the_limits_that_hold() {
    let folder = Folder::new();
    let longest = |asked| {
        let options = DenseOptions { max_tokens: asked, ..DenseOptions::default() };
        folder.load_with(&options).expect("the model loads").max_tokens()
    };
    assert_eq!((longest(None), longest(Some(10)), longest(Some(500))), (tiny::MAX_TOKENS, 10, tiny::MAX_TOKENS));
    folder.write("tokenizer_config.json", json!({"model_max_length": 1e30}).to_string());
    assert_eq!(longest(None), tiny::MAX_TOKENS);
    folder.write("tokenizer_config.json", json!({"model_max_length": 30}).to_string());
    assert_eq!(longest(None), 30);
    folder.write("sentence_bert_config.json", json!({"max_seq_length": 20}).to_string());
    assert_eq!(longest(None), 20);
    // This limit replaces that of the tokenizer, and the positions of the model are the end.
    folder.write("tokenizer_config.json", json!({"model_max_length": 10}).to_string());
    assert_eq!(longest(None), 20);
    folder.write("sentence_bert_config.json", json!({"max_seq_length": 200}).to_string());
    assert_eq!(longest(None), tiny::MAX_TOKENS);
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
    folder.write("pytorch_model.bin", "");
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
fn weights_in_several_files_give_the_vectors_of_one_file() {
    for case in [None, Some("qwen3-last-token")] {
        let folder = case.map_or_else(Folder::new, Folder::of_case);
        let (whole, digest) = (folder.vector("one two three"), folder.load().weights_digest().to_owned());
        folder.shard();
        assert_eq!(folder.vector("one two three"), whole);
        assert_ne!(folder.load().weights_digest(), digest, "the digest is that of the files");
    }
}

#[test]
fn heads_that_a_dense_model_does_not_use_change_nothing() {
    let folder = Folder::new();
    let plain = folder.vector("one two three");
    folder.add(&[("pooler.dense.weight", &[16, 16]), ("pooler.dense.bias", &[16]), ("cls.predictions.bias", &[76])]);
    assert_eq!(folder.vector("one two three"), plain);
}

#[test]
fn vectors_of_an_activation_and_of_a_pooling_differ_from_those_of_another() {
    let folder = Folder::new();
    let usual = folder.vector("one two three");
    folder.edit("config.json", |json| json["hidden_act"] = json!("silu"));
    let silu = folder.vector("one two three");
    assert!(cosine(&usual, &silu) < 0.999_9, "the activation is that of the configuration");
    folder.edit("1_Pooling/config.json", |json| *json = json!({"pooling_mode": "max"}));
    assert_eq!(folder.load().poolings(), [Pooling::Max]);
    assert!(cosine(&silu, &folder.vector("one two three")) < 0.999);
}

#[test]
fn a_model_that_wants_lower_case_gets_prompt_and_text_in_lower_case() {
    let folder = Folder::new();
    folder.edit("tokenizer.json", |json| json["normalizer"]["lowercase"] = json!(false));
    folder.write("tokenizer_config.json", json!({"tokenizer_class": "TokenizersBackend"}).to_string());
    let (lower, upper) = (folder.vector("query one b2"), folder.vector("QUERY One B2"));
    assert!(cosine(&lower, &upper) < 0.999, "the tokenizer tells the cases apart");
    folder.write("sentence_bert_config.json", json!({"do_lower_case": true}).to_string());
    assert_eq!(folder.vector("QUERY One B2"), lower);
    let options = DenseOptions { document_prompt: Some("QUERY ".into()), ..DenseOptions::default() };
    assert_eq!(vector(&folder.load_with(&options).expect("the model loads"), "One B2", Side::Document), lower);
}

#[test]
fn the_tokens_of_a_prompt_that_is_not_pooled_are_counted_as_they_are_encoded() {
    let folder = Folder::new();
    folder.edit("tokenizer.json", |json| json["normalizer"]["lowercase"] = json!(false));
    folder.write("tokenizer_config.json", json!({"tokenizer_class": "TokenizersBackend"}).to_string());
    folder.write("sentence_bert_config.json", json!({"do_lower_case": true}).to_string());
    folder.edit("1_Pooling/config.json", |json| json["include_prompt"] = json!(false));
    let options = DenseOptions { document_prompt: Some("QQQ ".into()), ..DenseOptions::default() };
    let model = folder.load_with(&options).expect("the model loads");
    let tokens = model.encode("one", Side::Document).expect("tokens");
    // [CLS] and three letters before the text, three letters and [SEP] in all behind.
    assert_eq!((tokens.ids.len(), tokens.unpooled), (8, 4));
}

#[test]
fn layers_that_the_settings_leave_out_are_not_computed() {
    let three = || Folder::of_case("bert-mean");
    let (whole, left) = (three(), three());
    left.edit("sentence_bert_config.json", |json| json["config_args"] = json!({"num_hidden_layers": 1}));
    let cut = three();
    cut.edit("config.json", |json| json["num_hidden_layers"] = json!(1));
    cut.edit_weights(|tensors| tensors.retain(|name, _| !name.contains("layer.1.") && !name.contains("layer.2.")));
    assert_eq!(left.vector("one two"), cut.vector("one two"));
    assert!(cosine(&left.vector("one two"), &whole.vector("one two")) < 0.999);
}

#[test]
fn prompts_give_the_vectors_of_texts_that_begin_with_them() {
    let folder = Folder::new();
    let plain = folder.load();
    let of = |text: &str| vector(&plain, text, Side::Document);
    let prompts = |json: Value| folder.write("config_sentence_transformers.json", json.to_string());
    let sides = |options: &DenseOptions| {
        let model = folder.load_with(options).expect("the model loads");
        [Side::Document, Side::Query].map(|side| vector(&model, "one", side))
    };
    let none = DenseOptions::default();

    prompts(json!({"prompts": {"query": "find ", "passage": "p "}, "default_prompt_name": null}));
    assert_eq!(sides(&none), [of("p one"), of("find one")]);
    prompts(json!({"prompts": {"sts": "s "}, "default_prompt_name": "sts"}));
    assert_eq!(sides(&none), [of("s one"), of("s one")]);
    prompts(json!({"prompts": {"sts": "s "}, "default_prompt_name": "document"}));
    assert_eq!(sides(&none), [of("one"), of("one")], "the reference always knows the name, without a prompt");
    prompts(json!({"prompts": {"query": "find ", "passage": "p "}}));
    let run = DenseOptions { document_prompt: Some("run ".into()), query_prompt: Some(String::new()), ..none };
    assert_eq!(sides(&run), [of("run one"), of("one")], "the run has the last word");
}

#[test]
fn invisible_characters_are_left_to_the_tokenizer() {
    let model = Folder::new().load();
    let ids = |text: &str| model.encode(text, Side::Document).expect("tokens").ids;
    for (text, same) in [
        ("zero\u{200b}width", "zerowidth"),
        ("\u{feff}bom", "bom"),
        ("so\u{ad}ft", "soft"),
        ("bell\u{7} nul\u{0}l", "bell null"),
        ("tab\tnew\nline", "tab new line"),
        ("left\u{2067}to", "leftto"),
        ("\u{200b}\u{200d}\u{1}", ""),
    ] {
        assert_eq!(ids(text), ids(same), "{text:?}");
        let [one, other] = [text, same].map(|text| vector(&model, text, Side::Document));
        assert_eq!(one, other, "{text:?}");
    }
    assert_eq!(ids("\u{200b}").len(), 2, "the special tokens alone");
}

#[test]
fn dimensions_cut_the_vector_and_normalise_it_again() {
    let folder = Folder::new();
    let options = |dimensions| DenseOptions { dimensions, normalize: Some(false), ..DenseOptions::default() };
    let of = |dimensions| {
        let model = folder.load_with(&options(dimensions)).expect("the model loads");
        let vector = vector(&model, "one two", Side::Document);
        assert_eq!(vector.len(), model.dimensions());
        vector
    };
    let (whole, cut) = (of(None), of(Some(5)));
    assert_eq!(cut.len(), 5);
    assert!(cosine(&whole[..5], &cut) >= SAME);
    assert!((cut.iter().map(|value| value * value).sum::<f32>() - 1.0).abs() < 1e-6);
    assert_eq!(of(Some(tiny::DIMENSIONS)), whole, "all of them are no cut");
}

#[test]
fn eight_bit_weights_give_nearly_the_vectors_of_floats() {
    // The tiny model, and of each way of a feed-forward network and an attention one more.
    let folders = ["bert-dense-tanh", "modernbert-mean", "qwen3-last-token", "nomic-bert-mean"].map(Folder::of_case);
    for folder in [Folder::new()].iter().chain(&folders) {
        let load = |dtype| {
            folder.load_with(&DenseOptions { dtype: Some(dtype), ..DenseOptions::default() }).expect("the model loads")
        };
        let (floats, int8) = (load(Dtype::F32), load(Dtype::Int8));
        for text in ["one", "two words", "the whole alphabet in small letters"] {
            let (exact, found) = (vector(&floats, text, Side::Document), vector(&int8, text, Side::Document));
            let similarity = cosine(&exact, &found);
            assert!(similarity >= 0.99, "{text:?}: cosine {similarity}");
            assert_ne!(exact, found, "the weights are quantised");
        }
    }
}

#[test]
fn eight_bit_vectors_do_not_depend_on_the_batch() {
    let options = DenseOptions { dtype: Some(Dtype::Int8), ..DenseOptions::default() };
    let model = Folder::new().load_with(&options).expect("the model loads");
    let tokens = ["abc d", "xyz 9", "the whole alphabet in small letters"]
        .map(|text| model.encode(text, Side::Document).expect("tokens"));
    let together = model.embed(&tokens.iter().collect::<Vec<&Tokens>>()).expect("vectors");
    for (row, tokens) in tokens.iter().enumerate() {
        let similarity = cosine(together.row(row), model.embed(&[tokens]).expect("a vector").row(0));
        assert!(similarity >= 0.9999, "row {row}: cosine {similarity}");
    }
}

#[test]
fn the_names_of_wrappers_in_a_checkpoint_are_no_part_of_the_model() {
    let expected = Folder::of_case("bert-mean").vector("one two three");
    for wrapper in ["_orig_mod.", "module.", "0.auto_model.", "module._orig_mod."] {
        let folder = Folder::of_case("bert-mean");
        folder.edit_weights(|tensors| {
            *tensors = tensors.drain().map(|(name, tensor)| (format!("{wrapper}{name}"), tensor)).collect();
        });
        assert_eq!(folder.vector("one two three"), expected, "{wrapper}");
    }
    // A checkpoint of which a part is wrapped is another model, and the tensor is named as the file names it.
    let folder = Folder::of_case("bert-mean");
    folder.add(&[("module.extra.weight", &[2, 2])]);
    let message = folder.refusal();
    assert!(message.contains("module.extra.weight"), "{message}");
}
