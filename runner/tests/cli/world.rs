//! A folder with sources, a model and an output, and the binary to run on them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use arrow_array::{FixedSizeListArray, Float32Array, StringArray, UInt64Array, cast::AsArray};
use crds::{
    contract::{Failure, FailureReason, RunResult, StageOutcome},
    pointer::Pointer,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use runner::process::printable::printable;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::write_tiny_bert;

pub const BINARY: &str = env!("CARGO_BIN_EXE_embedrun");

pub struct World {
    folder: TempDir,
}

/// What the binary did.
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    /// What it wrote to the result file.
    pub result: Option<RunResult>,
}

impl Ended {
    pub fn succeeded(self) -> Self {
        assert_eq!(self.code, 0, "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts the code and the reason; the answer is the message, which the log says too, made printable.
    pub fn failed(self, code: i32, reason: FailureReason) -> Failure {
        assert_eq!(self.code, code, "{}", self.stderr);
        let Some(RunResult { outcome: StageOutcome::Failed(failure), .. }) = self.result else {
            panic!("no failure in the result file: {:?}", self.result);
        };
        assert_eq!(failure.reason, reason, "{}", failure.message);
        let message = printable(&failure.message);
        assert!(self.stderr.contains(&*message), "{message}\n{}", self.stderr);
        failure
    }
}

/// A row of the output.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub id: String,
    pub ordinal: u64,
    pub text: String,
    pub metadata: Value,
    pub vector: Vec<f32>,
}

impl World {
    /// Sources and a model named `tiny`; the output is not made yet.
    pub fn new() -> Self {
        let world = Self { folder: tempfile::tempdir().expect("a folder") };
        fs::create_dir(world.path("source")).expect("a folder");
        write_tiny_bert(&world.path("model"), 1);
        world.manifest("");
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file of the source.
    pub fn source(&self, name: &str, text: &str) -> &Self {
        let path = self.path("source").join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect(name);
        self
    }

    /// Ten chunks of different lengths in two formats.
    pub fn ten_chunks(&self) -> &Self {
        let words = ["one", "two words", "three words here", "a longer text of several words for the batch"];
        let lines: Vec<String> = (0..6)
            .map(|n| format!(r#"{{"id": "line-{n}", "text": "{} {n}", "metadata": {{"n": {n}}}}}"#, words[n % 4]))
            .collect();
        self.source("b.jsonl", &lines.join("\n"));
        self.source("a.json", r#"["first", "second text", "third text of the file", "fourth"]"#)
    }

    /// Writes the manifest, with `more` lines of the spec.
    pub fn manifest(&self, more: &str) -> &Self {
        let root = self.folder.path().display();
        self.manifest_text(&format!(
            "apiVersion: embedrun.dev/v1alpha1\n\
             kind: EmbeddingRun\n\
             metadata: {{name: handbook}}\n\
             spec:\n\
             \x20 collections:\n\
             \x20   - name: docs\n\
             \x20     source: {{hostPath: {{path: {root}/source}}}}\n\
             \x20 models:\n\
             \x20   dense: [{{name: tiny, source: \"file://{root}/model\"}}]\n\
             \x20 output: {{hostPath: {{path: {root}/out}}}}\n\
             \x20 gpu: {{count: 0}}\n{more}"
        ))
    }

    pub fn manifest_text(&self, text: &str) -> &Self {
        fs::write(self.path("run.yaml"), text).expect("a manifest");
        self
    }

    /// Runs the binary.
    pub fn embedrun(&self, arguments: &[&str]) -> Ended {
        let mut command = Command::new(BINARY);
        command.args(arguments);
        self.ended(command)
    }

    /// Runs a command that runs the binary, with the result file of this world.
    pub fn ended(&self, mut command: Command) -> Ended {
        let result = self.path("result.json");
        let _ = fs::remove_file(&result);
        let output = command
            .current_dir(self.folder.path())
            .env("EMBEDRUN_RESULT_FILE", &result)
            .env("EMBEDRUN_LOG_FORMAT", "text")
            .env_remove("EMBEDRUN_LOG")
            .env_remove("JOB_COMPLETION_INDEX")
            .output()
            .expect("the binary runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
            result: fs::read_to_string(result).ok().map(|text| RunResult::from_message(&text).expect("a result")),
        }
    }

    /// `embedrun run -f run.yaml`, with more arguments.
    pub fn run(&self, more: &[&str]) -> Ended {
        self.embedrun(&[&["run", "-f", "run.yaml"], more].concat())
    }

    /// Writes the configuration that the operator would make of the manifest.
    pub fn config(&self) -> PathBuf {
        let manifest = runner::config::Manifest::load(&self.path("run.yaml")).expect("a manifest");
        let config = manifest.resolve(&runner::config::LocalVolumes::default()).expect("resolved");
        let path = self.path("run.json");
        fs::write(&path, config.to_json()).expect("a configuration");
        path
    }

    /// The stages, one process each.
    pub fn plan(&self, shard_size: u64) -> Ended {
        self.config();
        self.embedrun(&["plan", "--config", "run.json", "--shard-size", &shard_size.to_string()])
    }

    pub fn embed(&self, shard: u32) -> Ended {
        self.embedrun(&["embed", "--config", "run.json", "--shard", &shard.to_string(), "--gpu-count", "0"])
    }

    pub fn finalize(&self) -> Ended {
        self.embedrun(&["finalize", "--config", "run.json"])
    }

    /// The only folder below `out/runs`.
    pub fn revision(&self) -> PathBuf {
        let mut found = fs::read_dir(self.path("out/runs")).expect("runs").flatten();
        let revision = found.next().expect("a revision").path();
        assert!(found.next().is_none(), "one revision");
        revision
    }

    /// What `current/<collection>` says.
    pub fn pointer(&self, collection: &str) -> Pointer {
        let bytes = fs::read(self.path("out/current").join(collection)).expect("a pointer");
        Pointer::parse(&bytes).expect("a pointer")
    }

    /// Every file below the output, with its bytes.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        fn walk(folder: &Path, root: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    walk(&entry.path(), root, files);
                } else {
                    let name = entry.path().strip_prefix(root).expect("below").to_string_lossy().into_owned();
                    files.insert(name, fs::read(entry.path()).expect("a file"));
                }
            }
        }
        let mut files = BTreeMap::new();
        walk(&self.path("out"), &self.path("out"), &mut files);
        files
    }

    /// The rows of a collection as its summary lists their files.
    pub fn rows(&self, collection: &str) -> Vec<Row> {
        let summary = json(&self.revision().join(collection).join("processing_summary.json"));
        let files = summary["export_run"]["files"].as_array().expect("files").clone();
        files.iter().flat_map(|file| rows(&self.path("out").join(file["path"].as_str().expect("a path")))).collect()
    }
}

pub fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON")
}

fn rows(file: &Path) -> Vec<Row> {
    let file = fs::File::open(file).expect("a Parquet file");
    let mut rows = Vec::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet").build().expect("a reader") {
        let batch = batch.expect("a batch");
        let text = |name: &str| -> StringArray { batch.column_by_name(name).expect(name).as_string().clone() };
        let (ids, texts, metadata) = (text("id"), text("text"), text("metadata"));
        let ordinals: &UInt64Array = batch.column_by_name("ordinal").expect("ordinal").as_primitive();
        let vectors: &FixedSizeListArray = batch.column_by_name("tiny").expect("vectors").as_fixed_size_list();
        for row in 0..batch.num_rows() {
            let vector = vectors.value(row);
            let vector: &Float32Array = vector.as_primitive();
            rows.push(Row {
                id: ids.value(row).into(),
                ordinal: ordinals.value(row),
                text: texts.value(row).into(),
                metadata: serde_json::from_str(metadata.value(row)).expect("JSON"),
                vector: vector.values().to_vec(),
            });
        }
    }
    rows
}
