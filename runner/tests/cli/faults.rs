//! Faults of the machine: an output that cannot be written, a full disk, the order to stop. `bwrap` makes them.

use std::{fs, process::Command};

use crds::contract::{FailureReason, StageOutcome};

use crate::world::{BINARY, World};

/// The whole file system, with `more` over it.
fn bwrap(more: &[&str]) -> Command {
    let mut command = Command::new("bwrap");
    command.args(["--dev-bind", "/", "/"]).args(more);
    command
}

#[test]
fn an_output_on_a_read_only_volume_fails_before_anything_is_read() {
    let world = World::new();
    world.source("a.json", "no JSON: whoever reads it fails otherwise");
    fs::create_dir(world.path("out")).expect("a folder");
    let out = world.path("out");
    let out = out.to_str().expect("UTF-8");
    let mut command = bwrap(&["--ro-bind", out, out]);
    command.args([BINARY, "run", "-f", "run.yaml"]);
    let message = world.ended(command).failed(2, FailureReason::OutputNotWritable).message;
    assert!(message.contains(&format!("cannot write file://{out}/runs/")), "{message}");
    assert!(message.contains("Read-only file system"), "{message}");
}

#[test]
fn an_output_whose_parent_is_a_file_is_named() {
    let world = World::new();
    world.ten_chunks();
    fs::write(world.path("out"), "a file").expect("a file");
    let message = world.run(&[]).failed(2, FailureReason::OutputNotWritable).message;
    assert!(message.contains("cannot create the folder file://"), "{message}");
}

#[test]
fn a_full_disk_loses_nothing_and_the_retry_succeeds() {
    let world = World::new();
    world.ten_chunks();
    // Metadata that no compression makes small, so that shard 1 is written in several parts.
    let mut state = 1_u64;
    let noise: String = (0..14 << 20)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[(state >> 58) as usize])
        })
        .collect();
    world.source("c.jsonl", &format!("{{\"text\": \"large\", \"metadata\": \"{noise}\"}}\n"));
    fs::create_dir(world.path("out")).expect("a folder");
    world.config();
    let script = format!(
        "embedrun() {{ '{BINARY}' \"$@\" --config run.json; }}
         embedrun plan --shard-size 10 && embedrun embed --shard 0 --device cpu || exit 1
         dd if=/dev/zero of=out/filler bs=1M count=8 status=none
         find out/runs -type f | sort > before
         embedrun embed --shard 1 --device cpu; echo $? > code; cp result.json failed.json
         find out/runs -type f | sort > after
         rm out/filler
         embedrun embed --shard 1 --device cpu && embedrun finalize || exit 1
         cp -r out kept"
    );
    let out = world.path("out");
    // Room for the shard or the filler, and with the filler for the first part of the shard.
    let mut command = bwrap(&["--size", &(17 << 20).to_string(), "--tmpfs", out.to_str().expect("UTF-8")]);
    command.args(["sh", "-c", &script]);
    world.ended(command).succeeded();
    assert_eq!(fs::read_to_string(world.path("code")).expect("a code"), "75\n");
    let text = fs::read_to_string(world.path("failed.json")).expect("a result");
    let result = crds::contract::RunResult::from_message(&text).expect("a result");
    let StageOutcome::Failed(failure) = result.outcome else { panic!("not failed: {text}") };
    assert_eq!((failure.reason, failure.shard), (FailureReason::StorageFull, Some(1)));
    assert!(
        failure.message.contains("shard-00001") && failure.message.contains("No space left"),
        "{}",
        failure.message
    );
    let files = |name: &str| fs::read_to_string(world.path(name)).expect(name);
    assert_eq!(files("before"), files("after"), "a partial file is left");
    fs::remove_dir_all(&out).expect("removed");
    fs::rename(world.path("kept"), out).expect("moved");
    assert_eq!(world.rows("docs").len(), 11);
}

#[test]
fn the_order_to_stop_ends_the_stage_without_a_marker_and_the_retry_succeeds() {
    let world = World::new();
    let lines: Vec<String> =
        (0..40_000).map(|n| format!("{{\"text\": \"chunk number {n} of very many words\"}}")).collect();
    world.source("a.jsonl", &lines.join("\n"));
    world.plan(100_000).succeeded();
    let script = format!(
        "'{BINARY}' embed --config run.json --shard 0 --device cpu 2>log & child=$!
         until grep -q embedding log; do sleep 0.05; done
         kill -TERM $child; wait $child; code=$?
         cat log >&2; exit $code"
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]);
    let shards = || -> Vec<_> { world.files().into_keys().filter(|file| file.contains("shard-")).collect() };
    let failure = world.ended(command).failed(75, FailureReason::Interrupted);
    assert_eq!(failure.shard, Some(0));
    assert_eq!(shards(), Vec::<String>::new());
}

#[test]
fn a_result_is_there_also_when_the_configuration_cannot_be_read() {
    let world = World::new();
    let message =
        world.embedrun(&["plan", "--config", "missing.json"]).failed(2, FailureReason::InvalidConfiguration).message;
    assert!(message.contains("missing.json"), "{message}");
    fs::write(world.path("run.json"), r#"{"version": 9, "revision": "7f3a91c04d"}"#).expect("a file");
    let ended = world.embedrun(&["finalize", "--config", "run.json"]);
    assert_eq!(ended.result.as_ref().map(|result| result.revision.to_string()), Some("7f3a91c04d".into()));
    let message = ended.failed(2, FailureReason::InvalidConfiguration).message;
    assert!(message.contains("contract version 9"), "{message}");
}
