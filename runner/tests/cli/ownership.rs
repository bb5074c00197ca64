//! Who may move the readers of a collection, and the gate that compares only with one's own revisions.

use std::{collections::BTreeMap, fs, process::Command};

use crds::{
    contract::{FailureReason, Place, RunRef},
    layout,
    pointer::Claim,
    summary::Quality,
    v1alpha1::GateSpec,
};
use runner::{
    retrieval::gate,
    store::{self, Access},
};
use serde_json::{Value, json};

use crate::{
    stages,
    world::{BINARY, World, json as read_json},
};

/// Gives the manifest another name or `rerunToken`.
fn change(world: &World, from: &str, to: &str) {
    let text = fs::read_to_string(world.path("run.yaml")).expect("a manifest");
    assert!(text.contains(from), "{text}");
    world.manifest_text(&text.replacen(from, to, 1));
}

fn published(world: &World) -> String {
    world.pointer("docs").revision.to_string()
}

/// Changes fields of the configuration of a pod.
fn config(world: &World, changes: &[(&str, Value)]) {
    world.config();
    let mut config = read_json(&world.path("run.json"));
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        config.pointer_mut(parent).expect(pointer)[key] = value.clone();
    }
    fs::write(world.path("run.json"), config.to_string()).expect("written");
}

#[test]
fn another_run_with_the_same_output_does_not_move_readers() {
    let world = World::new();
    world.ten_chunks();
    change(&world, "{name: handbook}", "{name: prod, namespace: search}");
    world.run(&[]).succeeded();
    let before = world.files();
    change(&world, "name: prod", "name: dev");
    let dev = fs::read_to_string(world.path("run.yaml")).expect("a manifest");
    // The same revision, and another one, of which nothing is computed.
    for token in ["", "  rerunToken: other\n"] {
        world.manifest_text(&dev.replacen("  gpu:", &format!("{token}  gpu:"), 1));
        let message = world.run(&[]).failed(2, FailureReason::OutputConflict).message;
        for part in ["collection \"docs\"", "current/docs is in use: run search/prod owns it", "search/dev", "delete"] {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert_eq!(world.files(), before);
    }
    // The way to take over.
    fs::remove_file(world.path("out/current/docs")).expect("removed");
    world.run(&[]).succeeded();
    assert_eq!(world.pointer("docs").claim.expect("a claim").run.to_string(), "search/dev");
    change(&world, "name: dev", "name: prod");
    world.run(&[]).failed(2, FailureReason::OutputConflict);
}

#[test]
fn a_pointer_of_an_earlier_release_belongs_to_the_run_that_made_its_revision() {
    let world = World::new();
    world.ten_chunks();
    world.run(&[]).succeeded();
    let revision = published(&world);
    fs::write(world.path("out/current/docs"), format!("{revision}\n")).expect("written");
    change(&world, "name: handbook", "name: other");
    let message = world.run(&[]).failed(2, FailureReason::OutputConflict).message;
    assert!(message.contains("run handbook owns it"), "{message}");
    let found = world.embedrun(&["search", "-f", "run.yaml", "-c", "docs", "second text"]).succeeded();
    assert!(found.stdout.contains("second text"), "{}", found.stdout);
    change(&world, "name: other", "name: handbook");
    world.run(&[]).succeeded();
    assert_eq!((published(&world), world.pointer("docs").claim.is_some()), (revision, true));
}

#[test]
fn a_file_that_is_no_pointer_is_not_replaced() {
    let world = World::new();
    world.ten_chunks();
    fs::create_dir_all(world.path("out/current")).expect("a folder");
    fs::write(world.path("out/current/docs"), "{\"version\": 7}").expect("written");
    let message = world.run(&[]).failed(2, FailureReason::OutputConflict).message;
    assert!(message.contains("current/docs: it has version 7") && message.contains("delete"), "{message}");
}

#[test]
fn a_slow_finalize_does_not_move_readers_back_and_a_rollback_does() {
    let world = World::new();
    world.ten_chunks();
    let first = fs::read_to_string(world.path("run.yaml")).expect("a manifest");
    world.plan(100).succeeded();
    world.embed(0).succeeded();
    let slow = fs::read(world.path("run.json")).expect("a configuration");
    change(&world, "  gpu:", "  rerunToken: second\n  gpu:");
    world.run(&[]).succeeded();
    let second = published(&world);
    fs::write(world.path("run.json"), slow).expect("written");
    let message = world.finalize().failed(2, FailureReason::OutputConflict).message;
    assert!(message.contains(&format!("it names revision {}, which was planned later", &second[..10])), "{message}");
    assert_eq!(published(&world), second);
    // The manifest returns to the first revision: the same shards, planned anew.
    world.manifest_text(&first);
    world.run(&[]).succeeded();
    assert_ne!(published(&world), second);
    let back = published(&world);
    // And forth and back, now that both are complete.
    change(&world, "  gpu:", "  rerunToken: second\n  gpu:");
    world.run(&[]).succeeded();
    assert_eq!(published(&world), second);
    world.manifest_text(&first);
    world.run(&[]).succeeded();
    assert_eq!(published(&world), back);
}

#[test]
fn a_revision_that_was_taken_up_again_is_not_overtaken_by_one_that_was_planned_before() {
    let world = World::new();
    world.ten_chunks();
    let first = fs::read_to_string(world.path("run.yaml")).expect("a manifest");
    world.run(&[]).succeeded();
    let before = published(&world);
    change(&world, "  gpu:", "  rerunToken: second\n  gpu:");
    world.plan(100).succeeded();
    world.embed(0).succeeded();
    let slow = fs::read(world.path("run.json")).expect("a configuration");
    // Back to the first revision, which is complete and published, while the second is on its way.
    world.manifest_text(&first);
    world.run(&[]).succeeded();
    fs::write(world.path("run.json"), slow).expect("written");
    world.finalize().failed(2, FailureReason::OutputConflict);
    assert_eq!(published(&world), before);
}

#[test]
fn a_clock_that_is_ahead_does_not_block_later_plans_of_its_run() {
    let world = World::new();
    world.ten_chunks();
    world.run(&[]).succeeded();
    let run = RunRef { name: "handbook".into(), ..RunRef::default() };
    let ahead = Claim { run, planned_at: "2199-01-01T00:00:00Z".parse().expect("a time") };
    fs::write(world.path("out/current/docs"), ahead.pointer_to(&world.pointer("docs").revision)).expect("written");
    change(&world, "  gpu:", "  rerunToken: later\n  gpu:");
    let before = published(&world);
    world.run(&[]).succeeded();
    assert_ne!(published(&world), before);
}

#[test]
fn a_run_that_was_created_again_takes_its_readers_over() {
    let world = World::new();
    world.ten_chunks();
    let uid = |uid: &str| config(&world, &[("/run/uid", json!(uid)), ("/run/namespace", json!("search"))]);
    uid("first");
    world.embedrun(&["plan", "--config", "run.json"]).succeeded();
    world.embed(0).succeeded();
    world.finalize().succeeded();
    let owner = |world: &World| world.pointer("docs").claim.expect("a claim").run;
    assert_eq!((owner(&world).to_string().as_str(), owner(&world).uid.as_str()), ("search/handbook", "first"));
    uid("second");
    world.embedrun(&["plan", "--config", "run.json"]).succeeded();
    assert_eq!(owner(&world).uid, "second");
    // A leftover pod of the deleted run ends where the readers already are.
    uid("first");
    world.finalize().succeeded();
}

#[test]
fn an_output_that_is_read_only_stays_published() {
    let world = World::new();
    world.ten_chunks();
    world.run(&[]).succeeded();
    let before = world.files();
    let out = world.path("out");
    let out = out.to_str().expect("UTF-8");
    let mut command = Command::new("bwrap");
    command.args(["--dev-bind", "/", "/", "--ro-bind", out, out, BINARY, "run", "-f", "run.yaml"]);
    let ended = world.ended(command).succeeded();
    assert!(ended.stderr.contains("is not renewed"), "{}", ended.stderr);
    assert_eq!(world.files(), before);
}

#[test]
fn a_plan_of_another_identity_at_the_same_path_is_refused() {
    let world = World::new();
    world.ten_chunks();
    config(&world, &[("/revision", json!("7f3a91c04d"))]);
    world.embedrun(&["plan", "--config", "run.json"]).succeeded();
    let of = read_json(&world.path("run.json"))["identitySha256"].as_str().expect("a digest").to_owned();
    let other = "ab".repeat(32);
    config(&world, &[("/revision", json!("7f3a91c04d")), ("/identitySha256", json!(other))]);
    let before = world.files();
    let refused = |world: &World, arguments: &[&str]| {
        let failure = world.embedrun(&[arguments, &["--config", "run.json"]].concat());
        let message = failure.failed(2, FailureReason::OutputConflict).message;
        for part in ["plan.json is the plan of another manifest", of.as_str(), other.as_str(), "spec.output"] {
            assert!(message.contains(part), "{part}: {message}");
        }
    };
    for stage in [&["plan"][..], &["embed", "--shard", "0"], &["finalize"]] {
        refused(&world, stage);
    }
    assert_eq!(world.files(), before);
    // A complete revision of another identity is not "complete already".
    config(&world, &[("/revision", json!("7f3a91c04d"))]);
    world.embed(0).succeeded();
    world.finalize().succeeded();
    config(&world, &[("/revision", json!("7f3a91c04d")), ("/identitySha256", json!(other))]);
    refused(&world, &["plan"]);
    // Without its plan nobody knows whose it is.
    fs::remove_file(world.path("out/runs/7f3a91c04d/plan.json")).expect("removed");
    let message = world.embedrun(&["plan", "--config", "run.json"]).failed(75, FailureReason::StoreUnavailable).message;
    assert!(message.contains("plan.json is missing"), "{message}");
}

#[test]
fn the_maximum_drop_is_not_measured_against_another_run() {
    let (world, spec) = stages::world();
    stages::manifest(&world, &spec);
    stages::finalized(stages::run(&world));
    let output = Place { path: world.path("out").display().to_string(), uri: "file:///out".into() };
    let store = store::open(&output, Access::Read).expect("a store");
    let measured: Quality = serde_json::from_value(stages::summary(&world)["quality"].clone()).expect("a quality");
    let mut worse = measured.clone();
    worse.lists.iter_mut().for_each(|list| list.metrics = BTreeMap::from([("mrr".to_owned(), 0.0)]));
    let gate = GateSpec { metric: "mrr".into(), minimum: None, maximum_drop: Some(0.0) };
    let revision = crds::identity::Revision::from_recorded("other");
    let passes = |name: &str| {
        let run = RunRef { name: name.into(), ..RunRef::default() };
        gate::evaluate(&gate, &worse, &store, (&run, &revision), "docs").expect("evaluated").expect("measured").passed
    };
    assert!(!passes("handbook"), "a drop against the run's own revision");
    assert!(passes("another"));
    // The same with the pointer of an earlier release.
    let line = format!("{}\n", world.pointer("docs").revision);
    fs::write(world.path("out").join(layout::current("docs")), line).expect("written");
    assert!(!passes("handbook"));
    assert!(passes("another"));
}
