//! The footer of a file of vectors: what made it, for readers that refuse what does not fit.

use std::{fs, path::Path, process::Command};

use crds::fingerprint::{self, ColumnFingerprint, Fingerprint};
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    searching::world_of,
    stages::{Spec, finalized, manifest, run_with, summary, world},
    world::{World, json},
};

/// The documents in the footers of all shards, in the order of the summary.
fn footers(world: &World) -> Vec<Value> {
    let files = summary(world)["export_run"]["files"].as_array().expect("files").clone();
    let read = |file: &Value| {
        let path = world.path("out").join(file["path"].as_str().expect("a path"));
        let reader = SerializedFileReader::new(fs::File::open(path).expect("a file")).expect("Parquet");
        let metadata = reader.metadata().file_metadata();
        let mut entries = metadata.key_value_metadata().expect("entries").iter();
        let entry = entries.find(|entry| entry.key == "embedrun").expect("an entry");
        serde_json::from_str(entry.value.as_deref().expect("a value")).expect("JSON")
    };
    files.iter().map(read).collect()
}

fn sha256(path: &Path) -> String {
    hex::encode(Sha256::digest(fs::read(path).expect("a file")))
}

#[test]
fn a_file_says_what_made_every_column() {
    let (world, spec) = world();
    let root = world.path("").display().to_string();
    let prompts = r#"{"model_type": "SparseEncoder", "prompts": {"document": "passage: ", "query": ""}}"#;
    fs::write(world.path("sparse/config_sentence_transformers.json"), prompts).expect("prompts");
    let dense = format!(
        "[{{name: tiny, source: \"file://{root}model\", weight: 3, dimensions: 8, precision: Int8, prompts: {{query: \"q \", \
         document: \"d \"}}}}, {{name: other, source: \"file://{root}other\", precision: F16, maxTokens: 20}}]"
    );
    manifest(&world, &Spec { dense, ..spec });
    finalized(run_with(&world, &[], &["--shard-size", "4"]));
    let summary = summary(&world);
    let revision = world.revision();
    let plan = json(&revision.join("plan.json"));
    let footers = footers(&world);
    assert_eq!(footers.len(), 3);
    for (shard, footer) in footers.iter().enumerate() {
        let fingerprint: Fingerprint = serde_json::from_value(footer.clone()).expect("a fingerprint");
        assert_eq!((fingerprint.version, fingerprint.shard as usize), (fingerprint::VERSION, shard));
        assert_eq!(Some(fingerprint.revision.as_str()), revision.file_name().and_then(|name| name.to_str()));
        assert_eq!(fingerprint.collection, "docs");
        assert_eq!(fingerprint.content_sha256, plan["shards"][shard]["sha256"]);
        let [
            ColumnFingerprint::Dense(tiny),
            ColumnFingerprint::Dense(other),
            ColumnFingerprint::Fused(fused),
            ColumnFingerprint::Sparse(splade),
        ] = &fingerprint.columns[..]
        else {
            panic!("other columns: {footer}");
        };
        // As the summary has it, and as the folder is.
        for (dense, pass, folder) in [(tiny, 0, "model"), (other, 1, "other")] {
            let pass = &summary["dense_run"]["passes"][pass];
            assert_eq!(
                (&dense.column[..], &dense.source[..]),
                (pass["model"].as_str().expect("a name"), pass["source"].as_str().expect("a source"))
            );
            assert_eq!(
                (&pass["model_sha256"], &pass["tokenizer_sha256"]),
                (&dense.model_sha256.clone().into(), &dense.tokenizer_sha256.clone().into())
            );
            assert_eq!(dense.tokenizer_sha256, sha256(&world.path(folder).join("tokenizer.json")));
            assert_eq!((&dense.pooling[..], &dense.dtype[..]), ("Mean", "F32"));
        }
        let settings = |dense: &fingerprint::DenseFingerprint| {
            (dense.max_tokens, dense.dimensions, format!("{:?}", dense.precision), dense.similarity.to_string())
        };
        assert_eq!(settings(tiny), (32, 8, "Int8".into(), "cosine".into()));
        assert_eq!(settings(other), (20, 16, "F16".into(), "cosine".into()));
        assert_eq!((tiny.document_prompt.as_deref(), tiny.query_prompt.as_deref()), (Some("d "), Some("q ")));
        assert_eq!((&other.document_prompt, &other.query_prompt), (&None, &None));
        let shares: Vec<(&str, f64)> = fused.models.iter().map(|fused| (&fused.model[..], fused.share)).collect();
        assert_eq!(shares, [("tiny", 0.75), ("other", 0.25)]);
        assert_eq!((fused.dimensions, format!("{:?}", fused.precision)), (24, "F16".into()));
        assert_eq!((&splade.column[..], splade.top_k, splade.vocabulary), ("splade", Some(64), 320));
        assert_eq!((splade.document_prompt.as_deref(), &splade.query_prompt), (Some("passage: "), &None));
        assert_eq!(splade.tokenizer_sha256, sha256(&world.path("sparse/tokenizer.json")));
    }
    let content: Vec<&Value> = footers.iter().map(|footer| &footer["content_sha256"]).collect();
    assert!(content[0] != content[1] && content[1] != content[2], "{content:?}");
}

#[test]
fn two_attempts_write_the_same_footer() {
    let footers = |()| {
        let world = World::new();
        world.ten_chunks();
        world.run(&["--shard-size", "4"]).succeeded();
        let mut footers = footers(&world);
        // The folders of the two worlds differ, and with them the revision.
        for footer in &mut footers {
            footer["revision"] = Value::Null;
            footer["columns"][0]["source"] = Value::Null;
        }
        footers
    };
    assert_eq!(footers(()), footers(()));
}

/// The program of the documentation, if there is a Python with its packages: `EMBEDRUN_TEST_PYTHON`, or `python3`.
#[test]
fn the_example_reads_vectors_and_refuses_what_does_not_fit() {
    let python = std::env::var("EMBEDRUN_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let packages = Command::new(&python).args(["-c", "import numpy, pyarrow.parquet"]).output();
    if !packages.is_ok_and(|output| output.status.success()) {
        eprintln!("left out: {python} has no numpy and pyarrow");
        return;
    }
    let world = world_of("dot");
    let read = |model: &str, folder: &str| {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/read_vectors.py");
        let mut command = Command::new(&python);
        command.arg(example).arg(world.path("out")).args(["docs", model]).arg(world.path(folder));
        let output = command.output().expect("Python runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (output.status.success(), text(output.stdout), text(output.stderr))
    };
    for precision in ["F32", "F16", "Int8", "Binary"] {
        let manifest = fs::read_to_string(world.path("run.yaml")).expect("a manifest");
        let (before, after) = manifest.split_once("/model\"").expect("a model");
        let (_, after) = after.split_once('}').expect("its end");
        world.manifest_text(&format!("{before}/model\", precision: {precision}}}{after}"));
        world.run(&["--shard-size", "5"]).succeeded();
        let (succeeded, stdout, stderr) = read("tiny", "model");
        assert!(succeeded, "{precision}: {stderr}");
        assert_eq!(stdout.matches("5 vectors of 16 dimensions, compared by dot").count(), 2, "{precision}: {stdout}");
    }
    let (succeeded, _, stderr) = read("other", "model");
    assert!(!succeeded && stderr.contains("no vectors of model other"), "{stderr}");
    let tokenizer = world.path("model/tokenizer.json");
    fs::write(&tokenizer, fs::read_to_string(&tokenizer).expect("a tokenizer") + "\n").expect("written");
    let (succeeded, _, stderr) = read("tiny", "model");
    assert!(!succeeded && stderr.contains("another tokenizer"), "{stderr}");
}
