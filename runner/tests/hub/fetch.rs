//! What is fetched: the files that a model needs, once, at the commit that was planned.

use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use reqwest::Method;
use runner::{
    hub::{HubModel, Settings},
    process::interrupt::Interrupt,
};

use crate::{
    common::write_tiny_bert,
    server::{RENAMED, REPO, SIGNATURE, Wrong},
    site::{Site, downloads},
    world::{BINARY, World, json},
};

#[test]
fn a_model_of_a_hub_gives_the_vectors_of_its_folder() {
    let site = Site::new();
    site.run().succeeded();
    let world = World::new();
    world.ten_chunks();
    world.run(&[]).succeeded();
    assert_eq!(site.world.rows("docs"), world.rows("docs"));
    let pass = |world: &World| {
        let summary = json(&world.revision().join("docs/processing_summary.json"));
        summary["dense_run"]["passes"][0].clone()
    };
    assert_eq!(pass(&site.world)["weights_sha256"], pass(&world)["weights_sha256"]);
    assert_eq!(pass(&site.world)["source"], format!("hf://{REPO}@{}", site.commit));
}

#[test]
fn only_the_files_that_a_model_needs_are_fetched() {
    let site = Site::new();
    for extra in ["README.md", "modeling_tiny.py", "pytorch_model.bin", "onnx/model.bin", "onnx/config.json"] {
        let path = site.world.path("model").join(extra);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, "not for us").expect(extra);
    }
    let commit = site.hub.commit("main", &site.world.path("model"));
    site.run().succeeded();
    let seen = site.hub.seen();
    let mut fetched = downloads(&seen);
    fetched.sort_unstable();
    fetched.dedup();
    let large = format!("/{commit}/model.safetensors");
    let small = ["1_Pooling/config.json", "config.json", "modules.json", "tokenizer.json"];
    let small = small.map(|name| format!("{commit}/{name}"));
    assert_eq!(fetched, [vec![large.as_str()], small.iter().map(String::as_str).collect()].concat());
}

#[test]
fn a_fetched_commit_is_not_requested_again() {
    let site = Site::new();
    site.revision(&site.commit).run().succeeded();
    assert!(!site.hub.seen().is_empty());
    site.forget_output().run().succeeded();
    assert!(site.hub.seen().is_empty());
}

#[test]
fn a_branch_that_has_not_moved_is_not_fetched_again() {
    let site = Site::new();
    site.run().succeeded();
    site.hub.seen();
    site.forget_output().run().succeeded();
    assert_eq!(downloads(&site.hub.seen()), Vec::<&str>::new());
}

#[test]
fn shards_use_the_commit_that_was_planned_wherever_the_branch_moves() {
    let site = Site::new();
    site.plan().succeeded();
    site.embed(0).succeeded();
    write_tiny_bert(&site.world.path("other"), 2);
    let moved = site.hub.commit("main", &site.world.path("other"));
    assert_ne!(moved, site.commit);
    site.embed(1).succeeded();
    site.embedrun(&["finalize", "--config", "run.json"], &[]).succeeded();
    let summary = json(&site.world.revision().join("docs/processing_summary.json"));
    assert_eq!(summary["dense_run"]["passes"][0]["source"], format!("hf://{REPO}@{}", site.commit));
    // A question too is embedded with the weights of the vectors.
    let ended = site.embedrun(&["search", "-f", "run.yaml", "--json", "third text of the file"], &[]).succeeded();
    assert!(ended.stdout.contains("third text of the file"), "{}", ended.stdout);
}

#[test]
fn a_revision_may_be_a_branch_with_a_slash() {
    let site = Site::new();
    let commit = site.hub.commit("refs/pr/1", &site.world.path("model"));
    site.revision("refs/pr/1").run().succeeded();
    assert!(site.cache().join("snapshots").join(commit).is_dir());
}

#[test]
fn a_repository_that_was_renamed_is_found_by_its_old_name() {
    let site = Site::new();
    site.source(&format!("hf://{RENAMED}@main")).run().succeeded();
    assert!(!downloads(&site.hub.seen()).is_empty());
}

#[test]
fn weights_in_several_files_are_fetched_by_their_index() {
    let site = Site::new();
    let model = site.world.path("model");
    let weights = fs::read(model.join("model.safetensors")).expect("weights");
    fs::remove_file(model.join("model.safetensors")).expect("removed");
    let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    for (shard, content) in shards.iter().zip(weights.chunks(weights.len().div_ceil(2))) {
        fs::write(model.join(shard), content).expect("a shard");
    }
    let index = serde_json::json!({"metadata": {}, "weight_map": {"a": shards[0], "b": shards[1], "c": shards[1]}});
    fs::write(model.join("model.safetensors.index.json"), index.to_string()).expect("an index");
    let commit = site.hub.commit("main", &model);

    let settings = Settings {
        endpoint: site.hub.url.parse().expect("a URL"),
        token: None,
        cache: site.world.path("cache"),
        offline: false,
    };
    let wanted = HubModel { model: "tiny".into(), repo: REPO.into(), revision: "main".into() };
    assert_eq!(wanted.check(&settings, &Interrupt::default()).expect("a commit"), commit);
    assert_eq!(site.hub.seen().iter().filter(|request| request.storage).count(), 0, "a check fetches no weights");
    let folder = wanted.fetch(&settings, &Interrupt::default()).expect("a folder");
    for name in shards.iter().chain(&["model.safetensors.index.json", "config.json", "1_Pooling/config.json"]) {
        assert_eq!(fs::read(folder.join(name)).expect(name), fs::read(model.join(name)).expect(name));
    }
}

#[test]
fn processes_that_share_a_cache_fetch_a_file_once() {
    let site = Site::new();
    site.plan().succeeded();
    site.hub.seen();
    let script = format!(
        "for shard in 0 1; do '{BINARY}' embed --config run.json --shard $shard --gpu-count 0 & children=\"$children $!\"; done
         for child in $children; do wait $child || exit 1; done"
    );
    let mut command = Command::new("sh");
    site.prepare(command.args(["-c", &script]));
    site.world.ended(command).succeeded();
    let seen = site.hub.seen();
    let weights = downloads(&seen).iter().filter(|path| path.ends_with(".safetensors")).count();
    assert_eq!(weights, 1);
    site.embedrun(&["finalize", "--config", "run.json"], &[]).succeeded();
}

#[test]
fn the_token_is_sent_to_the_hub_only_and_never_logged() {
    let site = Site::new();
    let secret = "hf_SecretOfATest";
    let variables = [("HF_TOKEN", secret), ("EMBEDRUN_LOG", "trace")];
    let mut ends = vec![site.embedrun(&["run", "-f", "run.yaml"], &variables).succeeded()];
    let seen = site.hub.seen();
    let (storage, hub): (Vec<_>, Vec<_>) = seen.iter().partition(|request| request.storage);
    assert!(storage.iter().any(|request| request.method == Method::GET));
    assert!(storage.iter().all(|request| request.authorization.is_none()), "{storage:?}");
    let bearer = format!("Bearer {secret}");
    assert!(hub.iter().all(|request| request.authorization.as_deref() == Some(&bearer)), "{hub:?}");

    site.hub.fail("/resolve/", Wrong::Status(403, &[("x-error-code", "GatedRepo")]), usize::MAX);
    site.forget_output();
    fs::remove_dir_all(site.world.path("home")).expect("removed");
    ends.push(site.embedrun(&["run", "-f", "run.yaml"], &variables));
    assert_ne!(ends[1].code, 0);
    for ended in &ends {
        let result = format!("{:?}", ended.result);
        for text in [&ended.stdout, &ended.stderr, &result] {
            assert!(!text.contains(secret) && !text.contains(SIGNATURE), "{text}");
        }
    }

    site.hub.heal();
    site.hub.seen();
    fs::create_dir_all(site.world.path("home")).expect("a folder");
    fs::write(site.world.path("home/token"), secret).expect("a token");
    site.run().succeeded();
    assert!(site.hub.seen().iter().any(|request| request.authorization.as_deref() == Some(&bearer)));
}

#[test]
fn the_token_leaves_the_environment_of_the_process_once_it_is_read() {
    let site = Site::new();
    let secret = "hf_SecretOfATest";
    // The process waits for the rest of the file, so that its environment can be looked at.
    site.hub.fail("model.safetensors", Wrong::Silence(1), usize::MAX);
    let mut command = Command::new(BINARY);
    site.prepare(&mut command).args(["run", "-f", "run.yaml"]).env("HF_TOKEN", secret).env("HF_OTHER", "kept");
    let mut child = command.current_dir(site.world.path("")).stderr(Stdio::null()).spawn().expect("it starts");
    let bearer = format!("Bearer {secret}");
    let mut asked = false;
    while !asked && child.try_wait().expect("a child").is_none() {
        asked = site.hub.seen().iter().any(|request| request.authorization.as_deref() == Some(&bearer));
        thread::sleep(Duration::from_millis(10));
    }
    let environment = fs::read(format!("/proc/{}/environ", child.id())).expect("an environment");
    child.kill().expect("a child");
    child.wait().expect("a child");
    assert!(asked, "the hub was asked with the token");
    let environment = String::from_utf8_lossy(&environment);
    assert!(environment.contains("HF_OTHER=kept") && !environment.contains(secret), "{environment}");
}

#[test]
fn a_file_gives_the_token_and_one_that_is_missing_is_named() {
    let site = Site::new();
    let file = site.world.path("secret");
    let variables = [("EMBEDRUN_HUB_TOKEN_FILE", file.to_str().expect("UTF-8"))];
    let ended = site.embedrun(&["run", "-f", "run.yaml"], &variables);
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("EMBEDRUN_HUB_TOKEN_FILE") && ended.stderr.contains("secret"), "{}", ended.stderr);
    fs::write(&file, "hf_SecretOfATest\n").expect("a token");
    site.embedrun(&["run", "-f", "run.yaml"], &variables).succeeded();
    let seen = site.hub.seen();
    assert!(seen.iter().any(|request| request.authorization.as_deref() == Some("Bearer hf_SecretOfATest")), "{seen:?}");
}
