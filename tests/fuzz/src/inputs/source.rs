//! The files of a collection.

use std::{fs, ops::ControlFlow};

use crds::contract::CollectionConfig;
use runner::{config::toggles::SourceLimits, process::interrupt::Interrupt, source::Source};
use serde_json::json;

use super::folder;

/// A list of records in JSON.
pub fn chunks_json(data: &[u8]) {
    records("a.json", data);
}

/// A record per line.
pub fn json_lines(data: &[u8]) {
    records("a.jsonl", data);
}

/// Markdown.
pub fn markdown(data: &[u8]) {
    records("a.md", data);
}

/// Plain text.
pub fn text(data: &[u8]) {
    records("a.txt", data);
}

/// Reads the records of a file, and again from the middle: a shard begins anywhere in a file.
fn records(name: &str, data: &[u8]) {
    let dir = folder().join("source").join(name);
    fs::create_dir_all(&dir).expect("a folder");
    fs::write(dir.join(name), data).expect("a file");
    let Ok(all) = read(&dir, name, 0) else { return };
    let middle = all.len() as u64 / 2;
    let from_middle = read(&dir, name, middle).expect("what was read can be read again");
    assert_eq!(from_middle, all[middle as usize..], "records from {middle} on");
}

/// The number of a record, and the id and the text of its chunk.
type ReadRecord = (u64, Option<(String, String)>);

/// The records from `from` on.
fn read(dir: &std::path::Path, name: &str, from: u64) -> Result<Vec<ReadRecord>, ()> {
    let path = dir.display().to_string();
    let collection: CollectionConfig = serde_json::from_value(json!({
        "name": "docs", "source": {"path": path, "uri": format!("file://{path}")}, "format": "Auto", "fields": {}
    }))
    .expect("a collection");
    let source = Source::open(&collection, SourceLimits::default(), &Interrupt::default()).expect("a folder");
    let mut records = Vec::new();
    let visited = source.visit(name, from, &mut |record| {
        let chunk = record.chunk.map(|chunk| (chunk.id, chunk.text));
        records.push((record.location.record, chunk));
        Ok(ControlFlow::Continue(()))
    });
    visited.map(|_| records).map_err(|error| assert!(!error.sentence().is_empty()))
}
