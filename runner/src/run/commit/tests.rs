//! Commits over a store whose replies cannot be trusted.

use std::{io::Write, sync::Arc, thread};

use crds::{identity::Revision, layout};

use super::{
    faulty::{Fault, Faulty},
    *,
};
use crate::{
    plan::Plan,
    process::{error::Result, runtime::runtime},
    store::{JsonFile, Store, over},
};

const MARKER: &[u8] = include_bytes!("../../../tests/older/0.1.0/out/runs/b91591b7d6/docs/shard-00000/_COMMITTED.json");
const PLAN: &[u8] = include_bytes!("../../../tests/older/0.1.0/out/runs/b91591b7d6/plan.json");

fn revision() -> Revision {
    Revision::from_recorded("b91591b7d6")
}

fn store() -> (Arc<Faulty>, Store) {
    let faulty = Arc::new(Faulty::default());
    (Arc::clone(&faulty), over(faulty))
}

/// An attempt at shard 0 that has written its file and is about to commit it. Attempts with the same `content` write
/// the same file.
fn attempt(store: &Store, content: &str) -> Commit {
    let part = layout::shard_part(&revision(), "docs", 0, content);
    let mut upload = store.upload(&part).expect("an upload");
    upload.write_all(content.as_bytes()).expect("written");
    let written = upload.finish().expect("finished");
    let file = layout::shard_data(&revision(), "docs", 0, &written.sha256);
    store.rename(&part, &file, written.bytes).expect("moved");
    Commit {
        version: Commit::VERSION,
        file,
        bytes: written.bytes,
        sha256: written.sha256,
        candidates: None,
        dense_fallbacks: Vec::new(),
        ..older_marker()
    }
}

fn older_marker() -> Commit {
    Commit::parse(MARKER, "x").expect("a marker")
}

fn generation(store: &Store) -> Generation {
    Generation::of(store, &revision(), "docs", 0).expect("a look")
}

fn supersede_first(store: &Store, cause: Cause) {
    supersede(store, &revision(), ("docs", 0, 1), cause, "a test").expect("superseded");
}

/// A plan of the first shard only.
fn plan() -> Plan {
    let mut plan = Plan::parse(PLAN, "x", &revision()).expect("a plan");
    plan.shards.truncate(1);
    plan
}

fn surveyed(store: &Store, depth: Depth) -> Result<Vec<Commit>> {
    survey(store, &revision(), &plan(), depth)
}

#[test]
fn a_marker_whose_reply_is_lost_or_heard_twice_is_ours() {
    for fault in [Fault::ReplyLost, Fault::Resent] {
        let (faulty, store) = store();
        let mut commit = attempt(&store, "rows");
        faulty.next(&[fault]);
        assert_eq!(commit.write(&store, &revision()).expect("committed"), Outcome::Ours, "{fault:?}");
        assert_eq!(store.size(&commit.file).expect("a look"), Some(4), "{fault:?}");
        assert_eq!(surveyed(&store, Depth::Digest).expect("usable").len(), 1, "{fault:?}");
    }
}

#[test]
fn a_marker_that_names_the_same_files_is_ours_whoever_wrote_it() {
    let (_, store) = store();
    assert_eq!(attempt(&store, "rows").write(&store, &revision()).expect("committed"), Outcome::Ours);
    assert_eq!(attempt(&store, "rows").write(&store, &revision()).expect("committed"), Outcome::Ours);
    assert_eq!(surveyed(&store, Depth::Digest).expect("usable").len(), 1);
}

#[test]
fn an_attempt_that_lost_deletes_nothing() {
    let (_, store) = store();
    let mut winner = attempt(&store, "rows");
    let mut loser = attempt(&store, "other rows");
    winner.write(&store, &revision()).expect("committed");
    assert_eq!(loser.write(&store, &revision()).expect("an answer"), Outcome::Another);
    assert_eq!(store.size(&loser.file).expect("a look"), Some(10));
    assert_eq!(surveyed(&store, Depth::Digest).expect("usable")[0].file, winner.file);
}

#[test]
fn a_marker_that_was_not_written_is_an_error_and_the_next_attempt_commits() {
    let (faulty, store) = store();
    let mut commit = attempt(&store, "rows");
    faulty.next(&[Fault::NotDone]);
    let error = commit.write(&store, &revision()).expect_err("no marker");
    assert_eq!(error.reason, crds::contract::FailureReason::StoreUnavailable);
    assert_eq!(store.size(&commit.file).expect("a look"), Some(4), "the marker might still appear");
    assert_eq!(commit.write(&store, &revision()).expect("committed"), Outcome::Ours);
}

#[test]
fn a_marker_that_appears_late_names_files_that_are_there() {
    // The late marker is first: the attempt after it has lost.
    let (faulty, store) = store();
    let mut slow = attempt(&store, "rows");
    faulty.next(&[Fault::Late]);
    slow.write(&store, &revision()).expect_err("no reply");
    let mut next = attempt(&store, "other rows");
    assert_eq!(runtime().block_on(faulty.land()), 1);
    assert_eq!(next.write(&store, &revision()).expect("an answer"), Outcome::Another);
    assert_eq!(surveyed(&store, Depth::Digest).expect("usable")[0].file, slow.file);
    // The late marker is second: it finds that of the other attempt.
    let (faulty, store) = self::store();
    let mut slow = attempt(&store, "rows");
    faulty.next(&[Fault::Late]);
    slow.write(&store, &revision()).expect_err("no reply");
    let mut next = attempt(&store, "other rows");
    assert_eq!(next.write(&store, &revision()).expect("an answer"), Outcome::Ours);
    assert_eq!(runtime().block_on(faulty.land()), 0);
    assert_eq!(surveyed(&store, Depth::Digest).expect("usable")[0].file, next.file);
}

#[test]
fn of_many_attempts_at_once_one_commits_and_all_agree_on_it() {
    let (_, store) = store();
    let outcomes: Vec<(String, Outcome)> = thread::scope(|scope| {
        let one = |number: usize| {
            let store = &store;
            scope.spawn(move || {
                let mut commit = attempt(store, &format!("rows of attempt {number}"));
                let outcome = commit.write(store, &revision()).expect("an answer");
                (commit.file, outcome)
            })
        };
        let threads: Vec<_> = (0..8).map(one).collect();
        threads.into_iter().map(|thread| thread.join().expect("an attempt")).collect()
    });
    let winners: Vec<&String> =
        outcomes.iter().filter(|(_, outcome)| *outcome == Outcome::Ours).map(|(file, _)| file).collect();
    assert_eq!(winners.len(), 1, "{outcomes:?}");
    assert_eq!(surveyed(&store, Depth::Digest).expect("usable")[0].file, *winners[0]);
}

#[test]
fn a_move_whose_reply_is_lost_is_done() {
    let (faulty, store) = store();
    store.put("s/x.part", b"rows".to_vec()).expect("written");
    faulty.next(&[Fault::ReplyLost]);
    store.rename("s/x.part", "s/x", 4).expect("moved");
    // Another attempt wrote the same bytes, and deleted this part.
    store.rename("s/gone.part", "s/x", 4).expect("there");
    store.put("s/y.part", b"rows".to_vec()).expect("written");
    faulty.next(&[Fault::NotDone]);
    store.rename("s/y.part", "s/x", 4).expect_err("not moved");
    store.rename("s/gone.part", "s/x", 5).expect_err("another file");
}

#[test]
fn a_torn_marker_is_superseded_by_the_next_attempt() {
    let (faulty, store) = store();
    let mut commit = attempt(&store, "rows");
    faulty.next(&[Fault::Torn]);
    assert_eq!(commit.write(&store, &revision()).expect("committed"), Outcome::Ours);
    let found = generation(&store);
    assert_eq!((found.number, found.superseded_for(Cause::Torn)), (2, 1));
    assert_eq!(found.commit.expect("a marker").file, commit.file);
}

#[test]
fn a_torn_marker_is_found_before_finalize() {
    let (_, store) = store();
    store.put(&layout::shard_commit(&revision(), "docs", 0, 1), b"{\"version\": 3, \"sha".to_vec()).expect("written");
    let error = surveyed(&store, Depth::Size).expect_err("torn");
    assert_eq!(error.reason, crds::contract::FailureReason::ShardsSuperseded, "{}", error.sentence());
    assert_eq!(generation(&store).number, 2);
}

#[test]
fn an_attempt_whose_generation_is_superseded_commits_the_next_one() {
    let (faulty, store) = store();
    let mut first = attempt(&store, "rows");
    let mut late = attempt(&store, "other rows");
    first.write(&store, &revision()).expect("committed");
    // That it is superseded counts, whatever the reply was.
    faulty.next(&[Fault::ReplyLost]);
    supersede_first(&store, Cause::FileDamaged);
    assert!(generation(&store).commit.is_none());
    assert_eq!(late.write(&store, &revision()).expect("committed"), Outcome::Ours);
    let found = generation(&store);
    assert_eq!((found.number, found.commit.expect("a marker").file), (2, late.file));
}

#[test]
fn a_missing_short_or_other_file_is_superseded_a_few_times_and_then_named() {
    let damages: [fn(&Store, &Commit); 3] = [
        |store, commit| store.delete(&commit.file).expect("deleted"),
        |store, commit| store.put(&commit.file, b"ro".to_vec()).expect("cut"),
        |store, commit| store.put(&commit.file, b"ROWS".to_vec()).expect("changed"),
    ];
    for (damage, words) in damages.iter().zip(["is missing", "has 2 bytes", "with other bytes"]) {
        let (_, store) = store();
        for number in 1..=3 {
            let mut commit = Commit { generation: number, ..attempt(&store, "rows") };
            commit.write(&store, &revision()).expect("committed");
            assert_eq!(surveyed(&store, Depth::Digest).expect("usable").len(), 1);
            damage(&store, &commit);
            let error = surveyed(&store, Depth::Digest).expect_err("damaged");
            assert!(error.sentence().contains(words) && error.sentence().contains("shard 0"), "{}", error.sentence());
            let expected = if number < 3 { "ShardsSuperseded" } else { "StoreUnavailable" };
            assert_eq!(error.reason.to_string(), expected, "{}", error.sentence());
        }
    }
}

#[test]
fn only_a_digest_finds_other_bytes_of_the_same_size() {
    let (_, store) = store();
    let mut commit = attempt(&store, "rows");
    commit.write(&store, &revision()).expect("committed");
    store.put(&commit.file, b"ROWS".to_vec()).expect("changed");
    assert_eq!(surveyed(&store, Depth::Size).expect("the same size").len(), 1);
    surveyed(&store, Depth::Digest).expect_err("other bytes");
}

#[test]
fn the_marker_and_the_plan_of_release_0_1_0_are_read() {
    let commit = older_marker();
    assert_eq!((commit.version, commit.generation, commit.rows), (2, 1, 3));
    assert_eq!(commit.files().map(|file| file.bytes).collect::<Vec<_>>(), [Some(7812), None]);
    assert_eq!(commit.missing_models().map(|fallback| fallback.model.as_str()).collect::<Vec<_>>(), ["gone"]);
    assert!(commit.has_model("tiny") && commit.has_model("splade") && !commit.has_model("gone"));
    let plan = Plan::parse(PLAN, "x", &revision()).expect("a plan");
    assert_eq!((plan.shards.len(), plan.chunks()), (2, 5));
    // What this release writes is read as it was.
    let written = Commit { version: Commit::VERSION, generation: 3, ..commit };
    assert_eq!(Commit::parse(&written.to_json(), "x").expect("a marker"), written);
}

#[test]
fn a_marker_of_a_later_release_is_named_with_what_to_do() {
    let later = br#"{"version": 9, "runner_version": "7.1.0", "color": "blue"}"#;
    let error = Commit::parse(later, "pvc://vectors/x").expect_err("unknown").sentence();
    for words in ["pvc://vectors/x", "version 9", "runner 7.1.0", "use the image of that release"] {
        assert!(error.contains(words), "{error}");
    }
    for strange in ["[]", r#"{"version": 1}"#, r#"{"version": 3}"#] {
        let error = Commit::parse(strange.as_bytes(), "x").expect_err(strange).sentence();
        assert!(error.contains("delete it to embed this shard again"), "{error}");
    }
}

#[test]
fn a_file_is_torn_if_it_is_no_json() {
    let (_, store) = store();
    let read = |text: &str| {
        store.put("x", text.into()).expect("written");
        store.get_json("x").expect("a look")
    };
    assert_eq!(store.get_json("x").expect("a look"), JsonFile::Missing);
    for torn in ["", "{\"version\": 3, \"sh", "\0\0\0\0"] {
        assert_eq!(read(torn), JsonFile::Torn, "{torn:?}");
    }
    assert_eq!(read("{}\n"), JsonFile::Whole(b"{}\n".to_vec()));
}
