//! What the plan holds of its sources, plans of earlier releases, and sources that changed after a revision was complete.

use std::{fs, time::Duration};

use crds::contract::{FailureReason, StageOutcome};

use crate::world::{Ended, World, json};

/// A plan that release 0.1 wrote, of the ten chunks in shards of four.
const VERSION_1: &str = include_str!("fixtures/plan-version-1.json");
/// Its revision.
const REVISION_1: &str = "d0544c45bd";

fn source_changed(ended: Ended) -> Option<String> {
    match ended.succeeded().result.expect("a result").outcome {
        StageOutcome::Finalized(result) => result.source_changed,
        StageOutcome::Planned(plan) => plan.complete.expect("complete").source_changed,
        other => panic!("{other:?}"),
    }
}

#[test]
fn metadata_that_changes_after_the_plan_is_noticed() {
    let world = World::new();
    world.ten_chunks();
    world.plan(4).succeeded();
    let text = fs::read_to_string(world.path("source/b.jsonl")).expect("a file");
    // Access rights are metadata.
    world.source("b.jsonl", &text.replace("{\"n\": 1}", "{\"n\": 1, \"acl\": [\"all\"]}"));
    let message = world.embed(1).failed(3, FailureReason::SourceChanged).message;
    assert!(message.contains("ids, texts or metadata differ"), "{message}");
    world.embed(0).succeeded();
}

#[test]
fn a_plan_holds_the_identity_the_toggles_and_the_state_of_the_files() {
    let world = World::new();
    world.ten_chunks();
    world.plan(4).succeeded();
    let plan = json(&world.revision().join("plan.json"));
    assert_eq!(plan["version"], 2);
    assert!(plan["identity_sha256"].as_str().is_some_and(|identity| {
        identity.len() == 64 && identity.starts_with(plan["revision"].as_str().expect("a revision"))
    }));
    let toggles = plan["toggles"].as_array().expect("toggles");
    let toggles: Vec<&str> = toggles.iter().filter_map(|toggle| toggle["key"].as_str()).collect();
    assert_eq!(toggles, ["sparse", "sparse_models", "rerank"]);
    let file = &plan["collections"][0]["files"][0];
    let metadata = fs::metadata(world.path("source/a.json")).expect("a file");
    assert_eq!(file["size"], metadata.len());
    let modified: jiff::Timestamp = file["modified"].as_str().expect("a time").parse().expect("a time");
    assert_eq!(modified, metadata.modified().expect("a time").try_into().expect("a time"));
}

#[test]
fn a_plan_of_the_release_before_is_continued() {
    let world = World::new();
    world.ten_chunks();
    world.config();
    let mut config = json(&world.path("run.json"));
    config["revision"] = REVISION_1.into();
    // As that release wrote it.
    config.as_object_mut().expect("fields").remove("identitySha256");
    fs::write(world.path("run.json"), config.to_string()).expect("written");
    let revision = world.path("out/runs").join(REVISION_1);
    fs::create_dir_all(&revision).expect("a folder");
    fs::write(revision.join("plan.json"), VERSION_1).expect("written");
    // Its digests do not cover metadata.
    let text = fs::read_to_string(world.path("source/b.jsonl")).expect("a file");
    world.source("b.jsonl", &text.replace("{\"n\": 1}", "{\"n\": 8}"));
    let plan = world.embedrun(&["plan", "--config", "run.json", "--shard-size", "9"]).succeeded();
    assert!(plan.stdout.contains("\"shards\":3"), "{}", plan.stdout);
    for shard in 0..3 {
        world.embed(shard).succeeded();
    }
    world.finalize().succeeded();
    assert_eq!(fs::read_to_string(revision.join("plan.json")).expect("a plan"), VERSION_1);
    assert_eq!((world.pointer("docs").revision.as_str(), world.rows("docs").len()), (REVISION_1, 10));
    // It knows its files by name only.
    let again = || world.embedrun(&["plan", "--config", "run.json"]);
    assert_eq!(source_changed(again()), None);
    world.source("c.md", "# New\n\nText.");
    assert!(source_changed(again()).is_some_and(|changed| changed.contains("1 added: c.md")));
}

#[test]
fn a_revision_of_the_release_before_is_named_when_it_is_computed_again() {
    let world = World::new();
    world.ten_chunks();
    world.plan(4).succeeded();
    let revision = world.revision();
    let name = revision.file_name().expect("a name").to_string_lossy().into_owned();
    let short = world.path("out/runs").join(&name[..10]);
    fs::rename(revision, &short).expect("renamed");
    let ended = world.run(&[]).succeeded();
    let warning = format!("{} is of an earlier release", short.display());
    assert!(ended.stderr.contains(&warning), "{}", ended.stderr);
    assert_eq!(world.pointer("docs").revision.as_str(), name);
}

#[test]
fn a_plan_of_a_later_release_is_named_with_what_to_do() {
    let world = World::new();
    world.ten_chunks();
    world.plan(4).succeeded();
    let path = world.revision().join("plan.json");
    let text = fs::read_to_string(&path).expect("a plan");
    for version in ["3", "0", "\"two\"", "null"] {
        fs::write(&path, text.replace("\"version\": 2", &format!("\"version\": {version}"))).expect("written");
        let message = world.embed(0).failed(2, FailureReason::InvalidConfiguration).message;
        let expected = format!("plan.json has version {version}, this runner reads versions up to 2");
        assert!(message.contains(&expected) && message.contains("spec.rerunToken"), "{message}");
    }
}

#[test]
fn a_complete_revision_says_that_its_sources_have_changed() {
    let world = World::new();
    world.ten_chunks();
    assert_eq!(source_changed(world.run(&[])), None);
    assert_eq!(source_changed(world.run(&[])), None);
    let rows = world.rows("docs");
    let path = world.path("source/b.jsonl");
    let text = fs::read_to_string(&path).expect("a file");
    let modified = fs::metadata(&path).and_then(|metadata| metadata.modified()).expect("a time");
    let set_time = |time| fs::File::open(&path).and_then(|file| file.set_modified(time)).expect("a time");

    // Of the same size, and written a moment later.
    world.source("b.jsonl", &text.replace("two words", "six words"));
    set_time(modified + Duration::from_millis(5));
    let ended = world.run(&[]);
    assert!(ended.stderr.contains("the source has changed since"), "{}", ended.stderr);
    let changed = source_changed(ended).expect("changed");
    for part in ["collection \"docs\" (1 changed: b.jsonl)", "set spec.sourceRevision"] {
        assert!(changed.contains(part), "{part}: {changed}");
    }
    assert_eq!(world.rows("docs"), rows, "what is published stays");

    world.source("b.jsonl", &text);
    set_time(modified);
    assert_eq!(source_changed(world.run(&[])), None);
    world.source("z.txt", "new");
    fs::remove_file(world.path("source/a.json")).expect("removed");
    let changed = source_changed(world.run(&[])).expect("changed");
    assert!(changed.contains("(1 added: z.txt; 1 removed: a.json)"), "{changed}");
    // In a pod, too.
    world.config();
    assert!(source_changed(world.embedrun(&["plan", "--config", "run.json"])).is_some());
    // The revision is complete without its sources.
    fs::remove_dir_all(world.path("source")).expect("removed");
    let ended = world.run(&[]);
    assert!(ended.stderr.contains("cannot compare the source"), "{}", ended.stderr);
    assert_eq!(source_changed(ended), None);
}

#[test]
fn a_config_map_changes_with_its_content_and_not_with_its_time() {
    let world = World::new();
    world.ten_chunks();
    let manifest = fs::read_to_string(world.path("run.yaml")).expect("a manifest");
    let source = format!("{{hostPath: {{path: {}}}}}", world.path("source").display());
    world.manifest_text(&manifest.replacen(&source, "{configMap: {name: notes}}", 1));
    let run = || world.run(&["--volume", "configmap/notes=source"]);
    assert_eq!(source_changed(run()), None);
    // Another pod gets other files with the same content.
    let text = fs::read_to_string(world.path("source/b.jsonl")).expect("a file");
    world.source("b.jsonl", &text);
    assert_eq!(source_changed(run()), None);
    world.source("b.jsonl", &text.replace("two words", "six words"));
    assert!(source_changed(run()).is_some_and(|changed| changed.contains("1 changed: b.jsonl")));
}
