//! What another process of a run has written: an earlier stage, an earlier release, or somebody with access to the output.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use crds::{contract::RunResult, identity::Revision};
use runner::{
    config::{LocalVolumes, Manifest, toggles::Toggles},
    device::DeviceOptions,
    plan::Plan,
    process::interrupt::Interrupt,
    run::{self, Run},
};

use super::{folder, model::folder_of_model};

/// The termination message of a pod.
pub fn message(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(result) = RunResult::from_message(text) {
        let again = result.to_message();
        RunResult::from_message(&again).expect("what is written is read");
    }
}

/// `plan.json`.
pub fn plan(data: &[u8]) {
    let revision = Revision::from_recorded("0000000000");
    if let Ok(plan) = Plan::parse(data, "plan.json", &revision) {
        Plan::parse(&plan.to_json(), "plan.json", &revision).expect("what is written is read");
    }
}

/// `processing_summary.json`, which is shown as text and as a page.
pub fn summary(data: &[u8]) {
    if let Ok(summary) = report::read(data, "processing_summary.json") {
        let _ = report::text(&summary);
        let _ = report::html(&summary, std::slice::from_ref(&summary));
    }
}

/// The marker of a shard, as the stage that reads the markers of all shards finds it.
pub fn marker(data: &[u8]) {
    static MARKER: LazyLock<(Run, PathBuf)> = LazyLock::new(finished);
    let (run, marker) = &*MARKER;
    fs::write(marker, data).expect("a marker");
    if let Err(error) = run::finalize(run) {
        assert!(!error.sentence().is_empty());
    }
}

/// A run over one chunk that is complete, and the marker of its shard.
fn finished() -> (Run, PathBuf) {
    let root = folder().join("run");
    fs::create_dir_all(root.join("source")).expect("a folder");
    fs::write(root.join("source/a.json"), r#"["one", "two"]"#).expect("a source");
    let (root, model) = (root.display(), folder_of_model().display());
    let manifest = format!(
        "{{apiVersion: embedrun.dev/v1alpha1, kind: EmbeddingRun, metadata: {{name: fuzz}}, spec: {{
         collections: [{{name: docs, source: {{hostPath: {{path: {root}/source}}}}}}],
         models: {{dense: [{{name: tiny, source: 'file://{model}'}}]}},
         output: {{hostPath: {{path: {root}/out}}}}, gpu: {{count: 0}}}}}}"
    );
    let manifest = Manifest::parse(&manifest, "run.yaml").expect("a manifest");
    let config = manifest.resolve(&LocalVolumes::default()).expect("a configuration");
    let toggles = Toggles::of_process(&config, None, &[]).expect("toggles");
    let devices = DeviceOptions::default();
    let run = Run::open(config, toggles, &devices, Interrupt::default(), false).expect("a run");
    if let Err(failure) = run::run(&run, 100) {
        panic!("{}", failure.error.sentence());
    }
    let marker = find(Path::new(&format!("{root}/out")), "commit").expect("a marker");
    (run, marker)
}

/// A JSON file whose name contains `part`, below a folder.
fn find(dir: &Path, part: &str) -> Option<PathBuf> {
    let mut paths = fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path());
    paths.find_map(|path| {
        if path.is_dir() {
            return find(&path, part);
        }
        let named = path.file_stem()?.to_str()?.to_ascii_lowercase().contains(part);
        (named && path.extension()? == "json").then(|| path.clone())
    })
}
