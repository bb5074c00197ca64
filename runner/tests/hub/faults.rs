//! What a hub can do wrong: the exit code, a message that says what to do, and nothing exported.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use crds::contract::{FailureReason, Stage, StageOutcome};

use crate::{
    common::write_tiny_bert,
    server::{REPO, Wrong},
    site::Site,
    world::BINARY,
};

const ALWAYS: usize = usize::MAX;

/// Asserts that a message names model, repository and revision, and these parts.
fn says(message: &str, parts: &[&str]) {
    for part in [&["model tiny", "hf://acme/tiny@"], parts].concat() {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn an_unavailable_model_fails_the_plan_with_a_remedy() {
    let gated: &[(&str, &str)] = &[("x-error-code", "GatedRepo")];
    let cases: [(&str, Wrong, i32, FailureReason, &[&str]); 8] = [
        ("/api/", Wrong::Status(401, &[]), 2, FailureReason::ModelAccessDenied, &["the revision", "401", "HF_TOKEN"]),
        ("/api/", Wrong::Status(403, &[]), 2, FailureReason::ModelAccessDenied, &["the revision", "403", "HF_TOKEN"]),
        (
            "model.safetensors",
            Wrong::Status(401, gated),
            2,
            FailureReason::ModelAccessDenied,
            &["model.safetensors", "401", "gated", "accept its terms", "HF_TOKEN"],
        ),
        (
            "/api/",
            Wrong::Status(404, &[("x-error-code", "RepoNotFound")]),
            2,
            FailureReason::ModelNotFound,
            &["no such repository"],
        ),
        ("/api/", Wrong::Status(418, &[]), 2, FailureReason::InvalidConfiguration, &["418", "HF_ENDPOINT"]),
        ("/api/", Wrong::Status(500, &[]), 75, FailureReason::HubUnavailable, &["500", "later"]),
        (
            "/api/",
            Wrong::Status(429, &[("retry-after", "3600")]),
            75,
            FailureReason::HubUnavailable,
            &["429", "3600 s"],
        ),
        (
            "model.safetensors",
            Wrong::Status(503, &[]),
            75,
            FailureReason::HubUnavailable,
            &["model.safetensors", "503"],
        ),
    ];
    for (at, wrong, code, reason, parts) in cases {
        let site = Site::new();
        site.hub.fail(at, wrong, ALWAYS);
        let failure = site.run().failed(code, reason);
        assert_eq!(failure.stage, Stage::Plan, "{}", failure.message);
        says(&failure.message, parts);
        assert!(site.world.files().is_empty(), "nothing is planned");
    }
}

#[test]
fn a_fault_that_may_pass_is_no_reason_to_leave_an_optional_model_out() {
    let site = Site::new();
    write_tiny_bert(&site.world.path("local"), 2);
    let manifest = fs::read_to_string(site.world.path("run.yaml")).expect("a manifest");
    let local = format!(
        "@main\", optional: true}}, {{name: local, source: \"file://{}\"}}",
        site.world.path("local").display()
    );
    site.world.manifest_text(&manifest.replace("@main\"}", &local));
    for (at, wrong) in [
        ("/api/", Wrong::Status(503, &[])),
        ("/api/", Wrong::Status(429, &[("retry-after", "3600")])),
        ("model.safetensors", Wrong::Status(500, &[])),
    ] {
        site.hub.fail(at, wrong, ALWAYS);
        let failure = site.plan().failed(75, FailureReason::HubUnavailable);
        assert_eq!(failure.stage, Stage::Plan, "{}", failure.message);
        site.hub.heal();
    }
    site.plan().succeeded();
    for (at, wrong) in [
        ("model.safetensors", Wrong::Status(503, &[])),
        ("model.safetensors", Wrong::Cut(1000)),
        ("tokenizer.json", Wrong::Status(429, &[("retry-after", "3600")])),
    ] {
        site.hub.fail(at, wrong, ALWAYS);
        let failure = site.embed(0).failed(75, FailureReason::HubUnavailable);
        assert_eq!(failure.shard, Some(0), "{}", failure.message);
        site.nothing_is_exported();
        site.hub.heal();
    }
    let ended = site.run().succeeded();
    let Some(StageOutcome::Finalized(result)) = ended.result.map(|result| result.outcome) else {
        panic!("not finalized")
    };
    assert_eq!(result.dense_fallback, None);
}

#[test]
fn a_response_that_is_not_of_a_hub_is_rejected() {
    let site = Site::new();
    site.hub.fail("/api/", Wrong::Status(200, &[]), ALWAYS);
    let message = site.run().failed(75, FailureReason::HubUnavailable).message;
    says(&message, &["not that of a hub", "HF_ENDPOINT"]);
}

#[test]
fn a_missing_repository_and_a_missing_revision_are_distinguished() {
    let site = Site::new();
    let message = site.revision("v9").run().failed(2, FailureReason::ModelNotFound).message;
    says(&message, &["hf://acme/tiny@v9", "no such revision"]);
    let message = site.source("hf://acme/other@main").run().failed(2, FailureReason::ModelNotFound).message;
    assert!(message.contains("hf://acme/other@main") && message.contains("no such repository"), "{message}");
    let message = site.source("hf://acme/../tiny@main").run().failed(2, FailureReason::InvalidConfiguration).message;
    assert!(message.contains("hf://acme/../tiny@main"), "{message}");
    site.nothing_is_exported();
}

#[test]
fn a_repository_without_a_required_file_is_rejected_before_a_download() {
    let lacks = |name: &str, parts: &[&str]| {
        let site = Site::new();
        fs::remove_file(site.world.path("model").join(name)).expect(name);
        fs::write(site.world.path("model/training_args.bin"), "pickle").expect("a file");
        site.hub.commit("main", &site.world.path("model"));
        let failure = site.run().failed(2, FailureReason::InvalidModel);
        assert_eq!(failure.stage, Stage::Plan);
        says(&failure.message, parts);
        assert!(!site.hub.seen().iter().any(|request| request.storage));
    };
    lacks("config.json", &["no config.json"]);
    lacks("tokenizer.json", &["no tokenizer.json"]);
    lacks("model.safetensors", &["training_args.bin is a pickle"]);
}

#[test]
fn faults_that_pass_are_waited_for() {
    for (at, wrong) in [
        ("/api/", Wrong::Status(500, &[])),
        ("tokenizer.json", Wrong::Status(502, &[])),
        ("model.safetensors", Wrong::Status(429, &[])),
        ("modules.json", Wrong::Cut(5)),
        ("config.json", Wrong::Cut(0)),
    ] {
        let site = Site::new();
        site.hub.fail(at, wrong, 2);
        let ended = site.run().succeeded();
        assert!(ended.stderr.contains("retrying"), "{}", ended.stderr);
    }
}

#[test]
fn the_pause_that_the_hub_asks_for_is_kept() {
    let site = Site::new();
    site.hub.fail("/api/", Wrong::Status(429, &[("retry-after", "3")]), 1);
    let started = Instant::now();
    site.run().succeeded();
    assert!(started.elapsed() >= Duration::from_secs(3));
}

#[test]
fn a_file_that_is_cut_once_goes_on_where_it_was_cut() {
    let site = Site::new();
    site.hub.fail("model.safetensors", Wrong::Cut(1000), 1);
    site.run().succeeded();
    assert_eq!(ranges(&site), [None, Some("bytes=1000-".to_owned())]);
}

/// The ranges of the requests for the weights' content.
fn ranges(site: &Site) -> Vec<Option<String>> {
    site.hub.seen().into_iter().filter(|request| request.storage).map(|request| request.range).collect()
}

#[test]
fn a_storage_without_ranges_sends_the_file_again() {
    let site = Site::new();
    site.hub.fail("model.safetensors", Wrong::Cut(1000), 1);
    site.hub.fail("model.safetensors", Wrong::NoRanges, 1);
    site.run().succeeded();
    assert_eq!(ranges(&site), [None, Some("bytes=1000-".to_owned())]);
}

#[test]
fn a_file_that_is_always_cut_fails_the_shard_and_the_next_attempt_goes_on() {
    let site = Site::new();
    site.plan().succeeded();
    site.hub.seen();
    site.hub.fail("model.safetensors", Wrong::Cut(1000), ALWAYS);
    let failure = site.embed(0).failed(75, FailureReason::HubUnavailable);
    assert_eq!((failure.stage, failure.shard), (Stage::Embed, Some(0)));
    let all = fs::metadata(site.world.path("model/model.safetensors")).expect("weights").len();
    says(&failure.message, &[&site.commit, "model.safetensors", &format!("cut after 1000 of {all} bytes")]);
    site.nothing_is_exported();
    let rest = Some("bytes=1000-".to_owned());
    let tried = ranges(&site);
    assert!(tried.len() > 2 && tried[0].is_none() && tried[1..].iter().all(|range| *range == rest), "{tried:?}");

    site.hub.heal();
    site.embed(0).succeeded();
    assert_eq!(ranges(&site), [rest]);
}

#[test]
fn corrupt_bytes_are_fetched_again_and_never_used() {
    let site = Site::new();
    site.hub.fail("model.safetensors", Wrong::Corrupt, 1);
    site.run().succeeded();
    assert_eq!(ranges(&site), [None, None]);

    let site = Site::new();
    site.hub.fail("model.safetensors", Wrong::Corrupt, ALWAYS);
    let message = site.run().failed(75, FailureReason::HubUnavailable).message;
    says(&message, &["model.safetensors", "sha256"]);
    site.nothing_is_exported();
    let weights = site.cache().join("snapshots").join(&site.commit).join("model.safetensors");
    assert!(!weights.exists());
    let mut blobs = fs::read_dir(site.cache().join("blobs")).expect("blobs").flatten();
    assert!(blobs.all(|blob| blob.file_name().len() < 64), "bytes that are wrong are kept");
}

#[test]
fn an_unreachable_hub_is_named() {
    let site = Site::new();
    let Site { world, hub, .. } = site;
    let address = hub.address.to_string();
    hub.stop();
    let mut command = Command::new(BINARY);
    command.args(["run", "-f", "run.yaml"]).env_remove("HF_HUB_OFFLINE").env_remove("HF_HUB_CACHE");
    command
        .env("HF_ENDPOINT", format!("http://{address}"))
        .env("HF_HOME", world.path("home"))
        .env("NO_PROXY", "127.0.0.1");
    let message = world.ended(command).failed(75, FailureReason::HubUnavailable).message;
    says(&message, &[REPO, "cannot be reached", "HF_ENDPOINT", "Connection refused"]);
    assert!(world.files().is_empty());
}

#[test]
fn an_interrupt_ends_a_download_and_keeps_the_fetched_bytes() {
    let site = Site::new();
    site.plan().succeeded();
    site.hub.fail("model.safetensors", Wrong::Silence(1000), ALWAYS);
    let script = format!(
        "'{BINARY}' embed --config run.json --shard 0 --gpu-count 0 2>log & child=$!
         for _ in $(seq 600); do
             [ \"$(cat home/hub/models--acme--tiny/blobs/*.incomplete | wc -c)\" = 1000 ] && break
             sleep 0.05
         done
         kill -TERM $child; wait $child; code=$?
         cat log >&2; exit $code"
    );
    let mut command = Command::new("sh");
    site.prepare(command.args(["-c", &script]));
    let failure = site.world.ended(command).failed(75, FailureReason::Interrupted);
    says(&failure.message, &["interrupted"]);
    site.nothing_is_exported();
    site.hub.heal();
    site.hub.seen();
    site.embed(0).succeeded();
    assert_eq!(ranges(&site), [Some("bytes=1000-".to_owned())]);
}
