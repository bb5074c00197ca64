//! The sources over real files: records, their order, and error messages.

use std::{fs, ops::ControlFlow};

use crds::{
    contract::{CollectionConfig, FailureReason, Place},
    v1alpha1::Format,
};
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::{chunk::stable_id, *};
use crate::{
    config::toggles::SourceLimits,
    process::{error::Result, interrupt::Interrupt},
};

pub(super) struct Files(pub(super) TempDir);

/// Id, text and metadata of a chunk; `None` for a record without text.
pub(super) type Read = Option<(String, String, serde_json::Value)>;

impl Files {
    pub(super) fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, text).expect(name);
        }
        Self(folder)
    }

    pub(super) fn open(&self, path: &str, format: Format) -> Result<Source> {
        self.open_with(path, format, SourceLimits::default(), &Interrupt::default())
    }

    pub(super) fn open_with(
        &self,
        path: &str,
        format: Format,
        limits: SourceLimits,
        interrupt: &Interrupt,
    ) -> Result<Source> {
        let path = self.0.path().join(path);
        let collection = CollectionConfig {
            name: "docs".into(),
            source: Place { path: path.to_string_lossy().into_owned(), uri: "pvc://chunks/x".into() },
            format,
            fields: crds::v1alpha1::FieldMapping::default(),
        };
        Source::open(&collection, limits, interrupt)
    }

    pub(super) fn read(&self) -> Result<Vec<Read>> {
        read(&self.open("", Format::Auto)?, 0)
    }

    pub(super) fn error(&self) -> (FailureReason, String) {
        let error = self.read().expect_err("rejected");
        (error.reason, error.sentence())
    }
}

pub(super) fn read(source: &Source, from: u64) -> Result<Vec<Read>> {
    let mut records = Vec::new();
    for file in source.list()?.files {
        let _ = source.visit(&file.path, from, &mut |record: SourceRecord<'_>| {
            records.push(record.chunk.map(|chunk| {
                let metadata = serde_json::from_str(&chunk.metadata).expect("JSON");
                (chunk.id, chunk.text, metadata)
            }));
            Ok(ControlFlow::Continue(()))
        })?;
    }
    Ok(records)
}

pub(super) fn paths(listing: &Listing) -> Vec<&str> {
    listing.files.iter().map(|file| file.path.as_str()).collect()
}

pub(super) fn texts(records: Vec<Read>) -> Vec<String> {
    records.into_iter().flatten().map(|(_, text, _)| text).collect()
}

#[test]
fn a_list_of_records_keeps_ids_texts_and_metadata() {
    let text = r#"[{"id": "a", "text": " One ", "metadata": {"n": 1}, "more": [1]}, {"id": 7, "text": "Two"}]"#;
    let records = Files::new(&[("c_chunks.json", text)]).read().expect("read");
    assert_eq!(
        records,
        [Some(("a".into(), " One ".into(), json!({"n": 1}))), Some(("7".into(), "Two".into(), json!({})))]
    );
}

#[test]
fn lists_of_strings_and_lists_in_objects_are_read() {
    let strings = Files::new(&[("a.json", "\u{feff}[\"one\", \"two\"]\n")]).read().expect("read");
    assert_eq!(texts(strings), ["one", "two"]);
    for field in ["chunks", "data", "records", "items"] {
        let text = format!(r#"{{"version": 2, "data": 3, "{field}": [{{"text": "one"}}], "items": {{"a": 1}}}}"#);
        let text = text.replace(&format!(r#""data": 3, "{field}""#), &format!(r#""chunks": null, "{field}""#));
        assert_eq!(texts(Files::new(&[("a.json", &text)]).read().expect(field)), ["one"], "{text}");
    }
}

#[test]
fn json_lines_may_have_blank_lines_carriage_returns_and_a_byte_order_mark() {
    let text = "\u{feff}{\"text\": \"one\"}\r\n\r\n  \n{\"text\": \"two\"}\r\n\"three\"";
    let files = Files::new(&[("a.jsonl", text)]);
    assert_eq!(texts(files.read().expect("read")), ["one", "two", "three"]);
}

#[test]
fn markdown_is_cut_at_headings_and_nowhere_else() {
    let text = "Before.\n\n# One\n\nText.\n\n```\n# no heading\n```\n\n> # quoted\n\n## *Two* `x`\nMore.\n\nUnder\n=====\nEnd.\n\n# Empty\n";
    let records = Files::new(&[("guide/a.md", text)]).read().expect("read");
    let records: Vec<_> = records.into_iter().flatten().map(|(_, text, metadata)| (text, metadata)).collect();
    assert_eq!(
        records,
        [
            ("Before.".into(), json!({"path": "guide/a.md", "line": 1})),
            (
                "# One\n\nText.\n\n```\n# no heading\n```\n\n> # quoted".into(),
                json!({"path": "guide/a.md", "line": 3, "heading": "One", "headings": ["One"]})
            ),
            (
                "## *Two* `x`\nMore.".to_owned(),
                json!({"path": "guide/a.md", "line": 13, "heading": "Two x", "headings": ["One", "Two x"]})
            ),
            (
                "Under\n=====\nEnd.".into(),
                json!({"path": "guide/a.md", "line": 16, "heading": "Under", "headings": ["Under"]})
            ),
            ("# Empty".into(), json!({"path": "guide/a.md", "line": 20, "heading": "Empty", "headings": ["Empty"]})),
        ]
    );
}

#[test]
fn a_text_file_is_one_chunk_and_an_empty_one_none() {
    let records = Files::new(&[("a.txt", "All\nof it.\n"), ("b.txt", " \n")]).read().expect("read");
    assert_eq!(records.len(), 2);
    assert_eq!(
        records[0].as_ref().map(|(_, text, metadata)| (text.as_str(), metadata.clone())),
        Some(("All\nof it.\n", json!({"path": "a.txt"})))
    );
    assert_eq!(records[1], None);
}

#[test]
fn files_are_sorted_by_path_without_hidden_files_and_each_once() {
    let files = Files::new(&[
        ("b.txt", "b"),
        ("a/z.txt", "a/z"),
        ("a.txt", "a"),
        (".hidden.txt", "no"),
        (".git/x.txt", "no"),
        ("lost+found/y.txt", "no"),
        ("..2024_01/key.txt", "key"),
        ("c.csv", "no format"),
    ]);
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, files.0.path().join(name)).expect("a link");
    link("..2024_01", "..data");
    link("..data/key.txt", "key.txt");
    link("a", "same");
    link("nowhere", "broken.txt");
    link("..", "a/up");
    let source = files.open("", Format::Auto).expect("open");
    let listing = source.list().expect("listed");
    assert_eq!(paths(&listing), ["a.txt", "a/z.txt", "b.txt", "key.txt"]);
    assert!(
        listing
            .files
            .iter()
            .all(|file| file.size == fs::metadata(files.0.path().join(&file.path)).expect("a file").len())
    );
    assert!(listing.files.iter().all(|file| file.modified.is_some()));
    assert_eq!(listing.ignored, ["c.csv"]);
    assert_eq!(texts(read(&source, 0).expect("read")), ["a", "a/z", "b", "key"]);
}

#[test]
fn a_source_may_be_a_single_file() {
    let files =
        Files::new(&[("deep/a.jsonl", "{\"text\": \"one\"}\n{\"txt\": 1}"), ("deep/b.jsonl", "{\"text\": \"two\"}")]);
    let source = files.open("deep/b.jsonl", Format::Auto).expect("open");
    assert_eq!(texts(read(&source, 0).expect("read")), ["two"]);
}

#[test]
fn an_explicit_format_reads_files_of_any_name() {
    let files = Files::new(&[("part-000", "{\"text\": \"one\"}\n")]);
    assert_eq!(texts(read(&files.open("", Format::JsonLines).expect("open"), 0).expect("read")), ["one"]);
}

#[test]
fn the_id_of_a_record_without_one_does_not_change() {
    // Pinned: a reload of a vector database must replace points, not double them.
    assert_eq!(stable_id("docs", "a/b.md", 3), "50863cd0-4e19-8866-9d75-42e177511d1a");
    let files = Files::new(&[("a.json", r#"["x", {"text": "y", "id": null}]"#)]);
    let ids: Vec<String> = files.read().expect("read").into_iter().flatten().map(|(id, ..)| id).collect();
    assert_eq!(ids, [stable_id("docs", "a.json", 0), stable_id("docs", "a.json", 1)]);
}

#[test]
fn an_invalid_file_is_named_with_the_location_of_the_error() {
    let cases = [
        (
            "a.json",
            "[{\"text\": \"one\"},\n {\"text\": ]",
            FailureReason::InvalidFile,
            "a.json: not valid JSON: expected value at line 2 column 11",
        ),
        (
            "a.json",
            "[\"one\"] tail",
            FailureReason::InvalidFile,
            "a.json: not valid JSON: trailing characters at line 1 column 9",
        ),
        ("a.json", "[\"one\"", FailureReason::InvalidFile, "a.json: not valid JSON: EOF"),
        (
            "a.json",
            "\"text\"",
            FailureReason::InvalidFile,
            "expected a list of records, or an object with one in chunks",
        ),
        (
            "a.json",
            "{\"texts\": []}",
            FailureReason::InvalidFile,
            "an object without a list of records: none of its fields chunks, data, records, items is a list",
        ),
        (
            "a.json",
            "{\"data\": [], \"items\": []}",
            FailureReason::InvalidFile,
            "both \"data\" and \"items\" are lists",
        ),
        ("a.json", "[\"\u{0}\"]", FailureReason::InvalidFile, "line 1 column"),
        (
            "a.json",
            "[\"one\",\n{\"body\": \"x\", \"n\": 1}]",
            FailureReason::InvalidRecord,
            "a.json, record 2 (line 2): no field \"text\" (the text); its fields: body, n; set fields.text",
        ),
        (
            "a.json",
            "[{\"text\": 3}]",
            FailureReason::InvalidRecord,
            "record 1 (line 1): field \"text\" (the text) must be a string, it is a number",
        ),
        (
            "a.json",
            "[[1]]",
            FailureReason::InvalidRecord,
            "record 1 (line 1): a record must be an object or a string, it is a list",
        ),
        (
            "a.jsonl",
            "{\"text\": \"one\"}\n\n{\"text\": }",
            FailureReason::InvalidFile,
            "a.jsonl, line 3: not valid JSON: expected value at column 10",
        ),
        (
            "a.jsonl",
            "{\"text\": null}",
            FailureReason::InvalidRecord,
            "a.jsonl, line 1: field \"text\" (the text) must be a string, it is null",
        ),
        (
            "a.jsonl",
            "\n{\"text\": \"one\", \"id\": true}",
            FailureReason::InvalidRecord,
            "line 2: field \"id\" (the id) must be a string or a number, it is a boolean",
        ),
        (
            "a.jsonl",
            "{\"text\": \"one\", \"id\": \"\"}",
            FailureReason::InvalidRecord,
            "line 1: field \"id\" (the id) is empty",
        ),
    ];
    for (name, text, reason, expected) in cases {
        let (actual, sentence) = Files::new(&[(name, text)]).error();
        assert_eq!(actual, reason, "{text}: {sentence}");
        assert!(sentence.starts_with("pvc://chunks/x/a.json"), "{sentence}");
        assert!(sentence.contains(expected), "{text}: {sentence}");
    }
}

#[test]
fn bytes_that_are_not_utf8_are_named_with_the_line() {
    for name in ["a.jsonl", "a.md", "a.txt"] {
        let files = Files::new(&[]);
        fs::write(files.0.path().join(name), b"{\"text\": \"one\"}\n{\"text\": \"\xe9\"}").expect(name);
        let (reason, sentence) = files.error();
        assert_eq!(
            (reason, sentence),
            (FailureReason::InvalidFile, format!("pvc://chunks/x/{name}, line 2: not UTF-8 text"))
        );
    }
    let files = Files::new(&[]);
    fs::write(files.0.path().join("a.json"), b"[\n\"\xe9\"]").expect("a file");
    assert!(files.error().1.contains("line 2"), "{}", files.error().1);
}

#[test]
fn a_missing_source_is_named_by_uri_and_by_path() {
    let error = Files::new(&[]).open("missing", Format::Auto).expect_err("missing");
    assert_eq!(error.reason, FailureReason::SourceNotFound);
    let sentence = error.sentence();
    assert!(sentence.contains("cannot read the source of collection \"docs\": pvc://chunks/x (/"), "{sentence}");
}

proptest! {
    #[test]
    fn reading_from_a_record_returns_the_rest_in_every_format(
        records in proptest::collection::vec("[a-z#\" ]{0,6}", 0..12),
        from in 0_u64..14,
    ) {
        let lines: Vec<String> = records.iter().map(|text| json!({"text": text}).to_string()).collect();
        let sections: Vec<String> = records.iter().map(|text| format!("# h\n\nx{text}\n")).collect();
        for (name, text) in [
            ("a.json", format!("[{}]", lines.join(","))),
            ("a.jsonl", lines.join("\n")),
            ("a.md", sections.join("\n")),
        ] {
            let files = Files::new(&[(name, &text)]);
            let source = files.open("", Format::Auto).expect("open");
            let whole = read(&source, 0).expect("read");
            let tail = read(&source, from).expect("read");
            prop_assert_eq!(&whole[(from as usize).min(whole.len())..], &tail[..]);
            if name != "a.md" {
                prop_assert_eq!(whole.len(), records.len());
            }
        }
    }
}
