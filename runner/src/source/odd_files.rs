//! Odd and hostile sources over real files: links, special files, names, sizes, and JSON that other readers change.

use std::{
    ffi::OsStr,
    fs,
    io::Write,
    ops::ControlFlow,
    os::unix::{ffi::OsStrExt, fs::symlink, net::UnixListener},
    sync::atomic::Ordering,
};

use crds::{contract::FailureReason, v1alpha1::Format};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::{
    tests::{Files, Read, paths, read, texts},
    *,
};
use crate::{
    config::toggles::SourceLimits,
    process::{error::Result, interrupt::Interrupt},
};

const SMALL: SourceLimits = SourceLimits { record: 64, text: 64 };

fn ids(records: Vec<Read>) -> Vec<String> {
    records.into_iter().flatten().map(|(id, ..)| id).collect()
}

/// The chunks of a source, their metadata as it is stored.
fn metadata(files: &Files) -> Vec<String> {
    let source = files.open("", Format::Auto).expect("open");
    let mut found = Vec::new();
    for file in source.list().expect("listed").files {
        let _ = source
            .visit(&file.path, 0, &mut |record: SourceRecord<'_>| {
                found.extend(record.chunk.map(|chunk| chunk.metadata));
                Ok(ControlFlow::Continue(()))
            })
            .expect("read");
    }
    found
}

fn limited(files: &Files) -> Result<Vec<Read>> {
    read(&files.open_with("", Format::Auto, SMALL, &Interrupt::default())?, 0)
}

#[test]
fn ids_and_metadata_keep_the_digits_that_the_user_wrote() {
    let big = "340282366920938463463374607431768211455";
    let record =
        |id: &str| format!("{{\"id\": {id}, \"text\": \"x\", \"metadata\": {{\"v\": {id}, \"a\": [1.10, 1E400]}}}}");
    let records: Vec<String> =
        [big, "340282366920938463463374607431768211454", "1.10", "1.1", "1E2", "-0", "0"].map(record).into();
    for (name, text) in [
        ("a.jsonl", records.join("\n")),
        ("a.json", format!("[{}]", records.join(",\n  "))),
        ("b.json", format!("{{\"n\": {big}, \"data\": [{}]}}", records.join(","))),
    ] {
        let files = Files::new(&[(name, &text)]);
        let source = files.open("", Format::Auto).expect("open");
        let mut read_ids = Vec::new();
        let _ = source.visit(name, 0, &mut |record: SourceRecord<'_>| {
            read_ids.extend(record.chunk.map(|chunk| chunk.id));
            Ok(ControlFlow::Continue(()))
        });
        assert_eq!(
            read_ids,
            [big, "340282366920938463463374607431768211454", "1.10", "1.1", "1E2", "-0", "0"],
            "{name}"
        );
        assert_eq!(metadata(&files)[2], r#"{"v":1.10,"a":[1.10,1E400]}"#, "{name}");
    }
}

#[test]
fn metadata_keeps_the_order_of_its_keys_and_the_spelling_of_its_strings() {
    let text = "{\"text\": \"x\", \"metadata\": { \"b\" : \"\\u00e9 \\/ é\",\t\"a\" : {\"b\": null, \"b\": 1} }}";
    let expected = "{\"b\":\"\\u00e9 \\/ é\",\"a\":{\"b\":null,\"b\":1}}";
    assert_eq!(metadata(&Files::new(&[("a.jsonl", text), ("b.json", &format!("[{text}]"))])), [expected, expected]);
    let plain =
        "{\"text\": \"x\", \"metadata\": \"a  b\"}\n{\"text\": \"x\", \"metadata\": null}\n{\"text\": \"x\"}\n\"x\"";
    assert_eq!(metadata(&Files::new(&[("a.jsonl", plain)])), ["\"a  b\"", "{}", "{}", "{}"]);
}

#[test]
fn json_that_cannot_be_read_again_is_named_with_its_line() {
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for (record, words) in [
        ("{\"text\": \"\\ud800\"}".to_owned(), "half of a surrogate pair"),
        ("{\"text\": \"x\", \"metadata\": [\"\\udc00\"]}".to_owned(), "half of a surrogate pair"),
        (format!("{{\"text\": \"x\", \"metadata\": {}}}", deep(100_000)), "nested too deeply"),
        (format!("{{\"text\": \"x\", \"other\": {}}}", deep(100_000)), "nested too deeply"),
        (deep(100_000), "nested too deeply"),
        ("[".repeat(1_000_000), "EOF"),
        ("{\"text\":".repeat(100_000), "not valid JSON"),
        ("\"\u{0}\"".to_owned(), "control character"),
        ("\u{0}".to_owned(), "expected value"),
    ] {
        for (name, text) in [("a.jsonl", format!("\"one\"\n{record}\n")), ("a.json", format!("[\"one\",\n{record}]"))] {
            let (reason, sentence) = Files::new(&[(name, &text)]).error();
            assert_eq!(reason, FailureReason::InvalidFile, "{sentence}");
            assert!(sentence.contains("line 2") && sentence.contains(words), "{name}: {sentence}");
        }
    }
    // Outside of the records, too.
    let (reason, sentence) = Files::new(&[("a.json", &"{\"chunks\":".repeat(200_000))]).error();
    assert_eq!(reason, FailureReason::InvalidFile, "{sentence}");
}

#[test]
fn links_out_of_the_source_are_left_out_and_named() {
    let files = Files::new(&[("source/a.txt", "a"), ("secret.txt", "secret"), ("beside/b.txt", "beside")]);
    let at = |name: &str| files.0.path().join("source").join(name);
    for (target, link) in [
        ("/proc/self/environ", "leak.txt"),
        ("../secret.txt", "up.txt"),
        ("../beside", "folder"),
        ("/proc/self/root", "root"),
        ("..", "parent"),
        ("nowhere", "broken.txt"),
        ("loop.txt", "loop.txt"),
        ("a.txt/x", "through-a-file.txt"),
    ] {
        symlink(target, at(link)).expect(link);
    }
    symlink(at("a.txt"), at("absolute.txt")).expect("a link");
    symlink(at(""), at("itself")).expect("a link");
    let source = files.open("source", Format::Auto).expect("open");
    let listing = source.list().expect("listed");
    assert_eq!(paths(&listing), ["a.txt", "absolute.txt"]);
    assert_eq!(
        listing.left_out,
        [
            "broken.txt (a link to nothing)",
            "folder (a link out of the source)",
            "leak.txt (a link out of the source)",
            "loop.txt (a link to nothing)",
            "parent (a link out of the source)",
            "root (a link out of the source)",
            "through-a-file.txt (a link to nothing)",
            "up.txt (a link out of the source)",
        ]
    );
    assert_eq!(texts(read(&source, 0).expect("read")), ["a", "a"]);
}

#[test]
fn a_file_that_becomes_a_link_after_it_was_listed_is_refused() {
    let files = Files::new(&[("source/a.txt", "a"), ("source/b/c.txt", "c"), ("secret/c.txt", "secret")]);
    let source = files.open("source", Format::Auto).expect("open");
    let listed = source.list().expect("listed").files;
    let at = |name: &str| files.0.path().join("source").join(name);
    fs::remove_file(at("a.txt")).expect("removed");
    symlink("../secret/c.txt", at("a.txt")).expect("a link");
    fs::remove_dir_all(at("b")).expect("removed");
    symlink("../secret", at("b")).expect("a link");
    for file in &listed {
        let error = source.visit(&file.path, 0, &mut |_| panic!("a record of {file:?}")).expect_err("refused");
        assert_eq!(error.reason, FailureReason::InvalidFile, "{}", error.sentence());
        assert!(error.sentence().contains("a link leads outside"), "{}", error.sentence());
    }
}

#[test]
fn a_file_that_is_gone_since_it_was_listed_is_tried_again() {
    let files = Files::new(&[("a.txt", "a"), ("b.txt", "b")]);
    let source = files.open("", Format::Auto).expect("open");
    fs::remove_file(files.0.path().join("a.txt")).expect("removed");
    let error = source.visit("a.txt", 0, &mut |_| Ok(ControlFlow::Continue(()))).expect_err("gone");
    assert_eq!(error.reason, FailureReason::SourceUnavailable);
    assert!(!source.has("a.txt").expect("looked") && source.has("b.txt").expect("looked"));
}

#[test]
fn special_files_are_left_out_and_named() {
    let files = Files::new(&[("a.txt", "a")]);
    let at = |name: &str| files.0.path().join(name);
    mknodat(CWD, at("fifo.txt"), FileType::Fifo, Mode::RUSR, 0).expect("a FIFO");
    let _socket = UnixListener::bind(at("socket.txt")).expect("a socket");
    symlink("fifo.txt", at("link.txt")).expect("a link");
    let source = files.open("", Format::Auto).expect("open");
    let listing = source.list().expect("listed");
    assert_eq!(paths(&listing), ["a.txt"]);
    assert_eq!(listing.left_out, ["fifo.txt (a FIFO)", "link.txt (a FIFO)", "socket.txt (a socket)"]);
    let error = files.open("fifo.txt", Format::Auto).expect_err("a FIFO is no source");
    assert_eq!(error.reason, FailureReason::InvalidFile);
    assert!(error.sentence().contains("a FIFO, not a regular file"), "{}", error.sentence());
}

#[test]
fn names_are_read_as_they_are_or_named() {
    let files = Files::new(&[]);
    for name in [
        "a b.txt",
        "100%.txt",
        "ü.txt",
        "a%20b.txt",
        "q?#x.txt",
        "x.txt#12.txt",
        "tab\t.txt",
        "line\n.txt",
        "back\\slash.txt",
        "~.txt",
        "Icon\r",
        "end.txt#12",
    ] {
        fs::write(files.0.path().join(name), name).expect(name);
    }
    let latin = |name: &[u8]| files.0.path().join(OsStr::from_bytes(name));
    fs::write(latin(b"caf\xe9.txt"), "Coffee.").expect("a file");
    fs::create_dir(latin(b"d\xe9\x1b")).expect("a folder");
    fs::write(latin(b"d\xe9\x1b/x.txt"), "x").expect("a file");
    let source = files.open("", Format::Auto).expect("open");
    let listing = source.list().expect("listed");
    let mut names = paths(&listing);
    names.sort_unstable();
    assert_eq!(names.len(), 10, "{names:?}");
    assert_eq!(listing.ignored, ["Icon\r", "end.txt#12"]);
    assert_eq!(listing.left_out, ["caf\\xe9.txt (its name is not UTF-8)", "d\\xe9\\u{1b} (its name is not UTF-8)"]);
    assert_eq!(texts(read(&source, 0).expect("read")), paths(&listing));
    fs::write(files.0.path().join("bad\t\u{1b}.jsonl"), "no").expect("a file");
    let (_, sentence) = files.error();
    assert!(sentence.contains("pvc://chunks/x/bad\\t\\u{1b}.jsonl, line 1"), "{sentence}");
}

#[test]
fn records_and_texts_larger_than_their_limits_are_named_with_the_line() {
    let padding = |bytes: usize| "x".repeat(bytes - "{\"text\":\"\"}".len());
    for (name, fits, too_large, words) in [
        (
            "a.jsonl",
            format!("\"one\"\n{{\"text\":\"{}\"}}\n", padding(63)),
            format!("\"one\"\n{{\"text\":\"{}\"}}", padding(65)),
            "a.jsonl, line 2: larger than 64 bytes; split it, or raise the toggle max_record (EMBEDRUN_MAX_RECORD)",
        ),
        (
            "a.json",
            format!("[\"one\",\n{{\"text\":\"{}\"}}]", padding(64)),
            format!("[\"one\",\n{{\"text\":\"{}\"}}]", padding(65)),
            "a.json, record 2 (line 2): larger than 64 bytes",
        ),
        (
            "a.txt",
            format!("a\n{}", "b".repeat(62)),
            format!("a\n{}", "b".repeat(63)),
            "a.txt, line 2: larger than 64 bytes; split it, or raise the toggle max_text",
        ),
        ("a.md", "# ".repeat(32), "# ".repeat(33), "a.md, line 1: larger than 64 bytes"),
    ] {
        limited(&Files::new(&[(name, &fits)])).expect(name);
        let error = limited(&Files::new(&[(name, &too_large)])).expect_err(name);
        assert_eq!(error.reason, FailureReason::InvalidFile);
        assert!(error.sentence().contains(words), "{}", error.sentence());
    }
}

/// Reading takes no more than a little more than the limit from a file of 6 GiB, whatever it holds.
#[test]
fn endless_files_are_not_read_whole() {
    for name in ["a.jsonl", "a.json", "a.txt", "a.md"] {
        for start in ["", "[\"", "[", "{\"chunks\": \"", "{\"other\": \"", "\""] {
            let files = Files::new(&[(name, start)]);
            let file = fs::File::options().append(true).open(files.0.path().join(name)).expect(name);
            file.set_len(6 << 30).expect("a sparse file");
            let error = limited(&files).expect_err(name);
            assert_eq!(error.reason, FailureReason::InvalidFile, "{name} {start}: {}", error.sentence());
        }
    }
    // White space and names of fields are bounded too.
    for (start, filler) in [("[", ' '), ("{\"", 'k'), ("[\"", 'x'), ("[{\"", 'k'), ("[[", '[')] {
        let files = Files::new(&[("a.json", start)]);
        let mut file = fs::File::options().append(true).open(files.0.path().join("a.json")).expect("a file");
        file.write_all(filler.to_string().repeat(1 << 20).as_bytes()).expect("written");
        let error = limited(&files).expect_err("too large");
        assert!(error.sentence().contains("larger than 64 bytes"), "{start}{filler}: {}", error.sentence());
    }
}

#[test]
fn an_interrupt_ends_the_reading_within_a_file() {
    for name in ["a.jsonl", "a.json", "a.txt", "a.md"] {
        let files = Files::new(&[(name, "\n")]);
        let interrupt = Interrupt::default();
        let source = files.open_with("", Format::Auto, SourceLimits::default(), &interrupt).expect("open");
        interrupt.flag().store(true, Ordering::Relaxed);
        let error = source.visit(name, 0, &mut |_| Ok(ControlFlow::Continue(()))).expect_err("interrupted");
        assert_eq!(error.reason, FailureReason::Interrupted, "{name}: {}", error.sentence());
    }
}

#[test]
fn a_key_of_a_mounted_config_map_is_read_through_its_links() {
    let files = Files::new(&[("..2024_01/q.jsonl", "\"one\""), ("..2024_01/sub/r.jsonl", "\"two\"")]);
    let at = |name: &str| files.0.path().join(name);
    symlink("..2024_01", at("..data")).expect("a link");
    symlink("..data/q.jsonl", at("q.jsonl")).expect("a link");
    symlink("..data/sub", at("sub")).expect("a link");
    let source = files.open("", Format::Auto).expect("open");
    assert_eq!(paths(&source.list().expect("listed")), ["q.jsonl", "sub/r.jsonl"]);
    assert_eq!(texts(read(&source, 0).expect("read")), ["one", "two"]);
    let single = files.open("q.jsonl", Format::Auto).expect("open");
    assert_eq!(paths(&single.list().expect("listed")), ["q.jsonl"]);
    assert_eq!(ids(read(&single, 0).expect("read")).len(), 1);
}

#[test]
fn a_folder_is_read_by_its_own_path_before_links_to_it() {
    let files = Files::new(&[("m/x.txt", "x"), ("z/m/y.txt", "y")]);
    let at = |name: &str| files.0.path().join(name);
    symlink("z/m", at("a")).expect("a link");
    symlink("m", at("b")).expect("a link");
    symlink("../a", at("z/a")).expect("a link");
    let listing = files.open("", Format::Auto).expect("open").list().expect("listed");
    assert_eq!(paths(&listing), ["m/x.txt", "z/m/y.txt"]);
    assert_eq!(listing.left_out, Vec::<String>::new());
}

#[test]
fn very_many_and_very_deep_empty_files_are_listed() {
    let files = Files::new(&[]);
    for number in 0..5000 {
        fs::write(files.0.path().join(format!("{number}.txt")), "").expect("a file");
    }
    // Deeper than a path may be long: made by steps.
    let mut folder = rustix::fs::open(files.0.path(), rustix::fs::OFlags::PATH, Mode::empty()).expect("a folder");
    let name = "d".repeat(200);
    for _ in 0..25 {
        rustix::fs::mkdirat(&folder, &name, Mode::RWXU).expect("a folder");
        folder = rustix::fs::openat(&folder, &name, rustix::fs::OFlags::PATH, Mode::empty()).expect("a folder");
    }
    let source = files.open("", Format::Auto).expect("open");
    let listing = source.list().expect("listed");
    assert_eq!(listing.files.len(), 5000);
    assert!(
        listing.left_out.len() == 1 && listing.left_out[0].ends_with("(its path is too long)"),
        "{:?}",
        listing.left_out
    );
    assert!(read(&source, 0).expect("read").iter().all(Option::is_none));
}
