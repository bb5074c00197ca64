//! What a user or the operator writes for the runner.

use std::{fs, path::PathBuf};

use crds::contract::Place;
use runner::{
    config::{self as configuration, LocalVolumes, Manifest},
    retrieval::queries::QueryFile,
};

use super::folder;

fn written(name: &str, data: &[u8]) -> PathBuf {
    let dir = folder().join("settings");
    fs::create_dir_all(&dir).expect("a folder");
    let file = dir.join(name);
    fs::write(&file, data).expect("a file");
    file
}

/// The queries of a rerank stage.
pub fn queries(data: &[u8]) {
    let path = written("queries.jsonl", data).display().to_string();
    let _ = QueryFile::read(&Place { uri: format!("file://{path}"), path });
}

/// The configuration of a pod.
pub fn config(data: &[u8]) {
    let _ = configuration::load(&written("run.json", data));
}

/// The manifest of a run.
pub fn manifest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(manifest) = Manifest::parse(text, "run.yaml") {
        let _ = manifest.resolve(&LocalVolumes::default());
    }
}
