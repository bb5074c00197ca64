//! File systems that lack an operation, lose a reply or fail: a library that is loaded before libc makes them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::LazyLock,
    thread,
    time::Duration,
};

use crds::contract::{FailureReason, StageOutcome};

use crate::{
    common::write_tiny_bert,
    stages::{Spec, manifest, run_with, summary},
    world::{BINARY, Ended, World, json},
};

/// The library, built once.
static LIBRARY: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let library = folder.path().join("faults.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/faults.c");
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]).arg("-ldl").status();
    assert!(built.expect("a C compiler").success());
    (folder, library)
});

/// The variables that make a process meet `faults`.
fn faulty(faults: &str) -> [(&str, &str); 2] {
    [("LD_PRELOAD", LIBRARY.1.to_str().expect("UTF-8")), ("FAULTS", faults)]
}

fn run(world: &World, faults: &str) -> Ended {
    let mut command = Command::new(BINARY);
    command.args(["run", "-f", "run.yaml", "--shard-size", "5"]).envs(faulty(faults));
    world.ended(command)
}

fn embed(world: &World, faults: &str) -> Ended {
    let mut command = Command::new(BINARY);
    command.args(["embed", "--config", "run.json", "--shard", "0", "--gpu-count", "0"]).envs(faulty(faults));
    world.ended(command)
}

#[test]
fn a_file_system_without_links_syncs_or_moves_is_enough() {
    let expected = World::new();
    expected.ten_chunks();
    expected.run(&["--shard-size", "5"]).succeeded();
    for faults in [
        // SMB.
        "linkat::EOPNOTSUPP:before;fsyncdir::EINVAL:before",
        // FUSE and exFAT.
        "linkat::EPERM:before;fsyncdir::ENOSYS:before;fsync::ENOSYS:before",
        // Folders that cannot be opened, and no links.
        "linkat::ENOSYS:before;fsyncdir::EACCES:before",
        // A mounted bucket.
        "linkat::EPERM:before;fsyncdir::EOPNOTSUPP:before;rename::ENOSYS:before",
    ] {
        let world = World::new();
        world.ten_chunks();
        run(&world, faults).succeeded();
        assert_eq!(world.rows("docs"), expected.rows("docs"), "{faults}");
        let leftovers: Vec<String> = world.files().into_keys().filter(|file| file.contains(['#', '~'])).collect();
        assert!(leftovers.is_empty(), "{faults}: {leftovers:?}");
        // The marker is written at most once there, too.
        let of_runs =
            || -> Vec<_> { world.files().into_iter().filter(|(file, _)| file.starts_with("runs/")).collect() };
        let before = of_runs();
        run(&world, faults).succeeded();
        assert_eq!(of_runs(), before, "{faults}");
    }
}

#[test]
fn a_commit_whose_reply_is_wrong_is_a_commit() {
    for faults in [
        // NFS sends `link` again and hears that the file exists.
        "linkat:_COMMITTED:EEXIST:after",
        "linkat:_COMMITTED:EIO:after",
        "linkat:_COMMITTED:ESTALE:after",
        // The sync of the folder fails after the link.
        "fsyncdir:shard-00000:EIO:committed",
    ] {
        let world = World::new();
        world.ten_chunks();
        run(&world, faults).succeeded();
        assert_eq!(world.rows("docs").len(), 10, "{faults}");
    }
}

#[test]
fn a_move_whose_reply_is_wrong_is_a_move() {
    for faults in [
        "rename:.parquet:EIO:after",
        // NFS sends `rename` again and hears that there is no such file: of parts, rows, summaries and pointers.
        "rename::ENOENT:after",
    ] {
        let world = World::new();
        world.ten_chunks();
        run(&world, faults).succeeded();
        assert_eq!(world.rows("docs").len(), 10, "{faults}");
        assert!(world.path("out/current/docs").is_file(), "{faults}");
    }
}

#[test]
fn a_marker_that_cannot_be_written_is_transient_and_the_retry_succeeds() {
    let world = World::new();
    world.ten_chunks();
    world.plan(100).succeeded();
    embed(&world, "linkat:_COMMITTED:EIO:before").failed(75, FailureReason::StoreUnavailable);
    world.embed(0).succeeded();
    world.finalize().succeeded();
    assert_eq!(world.rows("docs").len(), 10);
}

#[test]
fn a_torn_marker_is_no_commit() {
    for torn in ["", "{\"version\": 3, \"generation\": 1, \"sh"] {
        let world = World::new();
        world.ten_chunks();
        world.plan(100).succeeded();
        let shard = world.revision().join("docs/shard-00000");
        fs::create_dir_all(&shard).expect("a folder");
        fs::write(shard.join("_COMMITTED.json"), torn).expect("a marker");
        let message = world.finalize().failed(75, FailureReason::ShardsSuperseded).message;
        assert!(message.contains("shard 0 has a marker that is not whole"), "{message}");
        world.embed(0).succeeded();
        assert_eq!(json(&shard.join("_COMMITTED.2.json"))["generation"], 2);
        world.finalize().succeeded();
        assert_eq!(world.rows("docs").len(), 10);
    }
}

#[test]
fn a_plan_or_a_summary_that_is_not_whole_is_written_again() {
    let world = World::new();
    world.ten_chunks();
    world.run(&["--shard-size", "5"]).succeeded();
    let rows = world.rows("docs");
    let revision = world.revision();
    for (torn, file) in [
        ("", "plan.json"),
        ("{\"version\": 1, \"rev", "plan.json"),
        ("{", "processing_summary.json"),
        ("", "docs/processing_summary.json"),
    ] {
        // As if the process had died before the end.
        fs::remove_file(revision.join("processing_summary.json")).expect("removed");
        fs::write(revision.join(file), torn).expect("torn");
        world.run(&["--shard-size", "5"]).succeeded();
        assert_eq!(world.rows("docs"), rows, "{file}");
        json(&revision.join("plan.json"));
        json(&revision.join("processing_summary.json"));
    }
}

#[test]
fn a_plan_whose_reply_is_lost_is_a_plan() {
    let world = World::new();
    world.ten_chunks();
    run(&world, "linkat:plan.json:EIO:after").succeeded();
    assert_eq!(world.rows("docs").len(), 10);
}

/// Starts an attempt at shard 0 that waits with its marker for another one.
fn start_attempt(world: &World) -> Child {
    let mut command = Command::new(BINARY);
    command.args(["embed", "--config", "run.json", "--shard", "0", "--gpu-count", "0", "--quiet"]);
    command.current_dir(world.path("")).envs(faulty("")).env("BARRIER", world.path("barrier"));
    command.env_remove("EMBEDRUN_RESULT_FILE").spawn().expect("the binary runs")
}

fn at_the_commit(world: &World) -> usize {
    fs::read_dir(world.path("barrier")).expect("a folder").count()
}

fn shard_files(world: &World) -> Vec<String> {
    world.files().into_keys().filter(|file| file.ends_with(".parquet")).collect()
}

#[test]
fn of_two_attempts_that_reach_the_commit_together_one_counts() {
    for same in [true, false] {
        let world = World::new();
        world.ten_chunks();
        world.plan(100).succeeded();
        fs::create_dir(world.path("barrier")).expect("a folder");
        let mut first = start_attempt(&world);
        while !same && at_the_commit(&world) == 0 {
            assert!(first.try_wait().expect("a child").is_none(), "it ended before the commit");
            thread::sleep(Duration::from_millis(5));
        }
        if !same {
            // The second attempt computes other vectors; nothing has pinned the weights of the first.
            write_tiny_bert(&world.path("model"), 2);
            fs::remove_dir_all(world.revision().join("models")).expect("the files of the model");
        }
        let mut second = start_attempt(&world);
        for attempt in [&mut first, &mut second] {
            assert!(attempt.wait().expect("a child").success(), "same bytes: {same}");
        }
        assert_eq!(shard_files(&world).len(), if same { 1 } else { 2 }, "{:?}", shard_files(&world));
        world.finalize().succeeded();
        // What no marker names is gone, and what the marker names is there.
        let committed = json(&world.revision().join("docs/shard-00000/_COMMITTED.json"))["file"].clone();
        assert_eq!(shard_files(&world), [committed.as_str().expect("a path")]);
        assert_eq!(world.rows("docs").len(), 10);
    }
}

#[test]
fn a_disk_that_fails_is_no_reason_to_leave_an_optional_model_out() {
    let (world, spec) = crate::stages::world();
    let dense = spec.dense.replace("other\"}", "other\", optional: true}");
    let sparse = spec.sparse.replace("topK", "optional: true, topK");
    manifest(&world, &Spec { dense, sparse, ..spec });
    for faults in [
        "open:/other/config.json:EIO:before",
        "open:/other/model.safetensors:ESTALE:before",
        "open:/sparse/config.json:EIO:before",
        "open:/sparse/model.safetensors:ETIMEDOUT:before",
    ] {
        let ended = run_with(&world, &faulty(faults), &[]);
        assert_eq!(ended.code, 75, "{faults}: {}", ended.stderr);
    }
    let ended = run_with(&world, &[], &[]).succeeded();
    let Some(StageOutcome::Finalized(result)) = ended.result.map(|result| result.outcome) else {
        panic!("not finalized")
    };
    assert_eq!(result.dense_fallback, None);
    assert_eq!(summary(&world)["sparse_run"]["coverage"], 1.0);
}
