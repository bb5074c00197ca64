//! The cache: shared with the hub's own libraries, enough without a hub, and never trusted where it can be checked.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use crds::contract::{FailureReason, Stage};

use crate::{
    server::{self, REPO},
    site::{Site, downloads},
    world::BINARY,
};

const OFFLINE: (&str, &str) = ("HF_HUB_OFFLINE", "1");
const RUN: [&str; 3] = ["run", "-f", "run.yaml"];

/// Fills the cache as the libraries of the hub do, without the files that `left_out` says.
fn fill(site: &Site, left_out: impl Fn(&str) -> bool) {
    let (cache, model) = (site.cache(), site.world.path("model"));
    let snapshot = cache.join("snapshots").join(&site.commit);
    for folder in [cache.join("blobs"), cache.join("refs"), snapshot.join("1_Pooling")] {
        fs::create_dir_all(folder).expect("a folder");
    }
    fs::write(cache.join("refs/main"), &site.commit).expect("a ref");
    let names = ["config.json", "modules.json", "tokenizer.json", "1_Pooling/config.json", "model.safetensors"];
    for name in names.into_iter().filter(|name| !left_out(name)) {
        let content = fs::read(model.join(name)).expect(name);
        let etag = server::etag(name, &content);
        fs::write(cache.join("blobs").join(&etag), content).expect("a blob");
        let up = if name.contains('/') { "../../.." } else { "../.." };
        // The plan has fetched the settings.
        let _ = fs::remove_file(snapshot.join(name));
        symlink(format!("{up}/blobs/{etag}"), snapshot.join(name)).expect("a link");
    }
}

fn weights_blob(site: &Site) -> std::path::PathBuf {
    let content = fs::read(site.world.path("model/model.safetensors")).expect("weights");
    site.cache().join("blobs").join(server::etag("model.safetensors", &content))
}

#[test]
fn offline_with_an_empty_cache_fails_with_a_remedy_and_sends_no_request() {
    let site = Site::new();
    let failure = site.embedrun(&RUN, &[OFFLINE]).failed(2, FailureReason::ModelNotFound);
    assert_eq!(failure.stage, Stage::Plan);
    let home = site.world.path("home/hub").display().to_string();
    for part in ["model tiny", &format!("hf://{REPO}@main"), "HF_HUB_OFFLINE", "HF_HOME", &home] {
        assert!(failure.message.contains(part), "{part}: {}", failure.message);
    }
    assert!(site.hub.seen().is_empty());
    site.nothing_is_exported();
}

#[test]
fn offline_the_cache_is_enough() {
    let site = Site::new();
    site.run().succeeded();
    let rows = site.world.rows("docs");
    site.hub.seen();
    site.forget_output().embedrun(&RUN, &[OFFLINE]).succeeded();
    assert_eq!(site.world.rows("docs"), rows);
    site.forget_output().revision(&site.commit).embedrun(&RUN, &[OFFLINE]).succeeded();
    assert!(site.hub.seen().is_empty());
}

#[test]
fn a_cache_filled_by_the_hub_libraries_is_used_offline() {
    let site = Site::new();
    fill(&site, |_| false);
    site.embedrun(&RUN, &[OFFLINE]).succeeded();
    assert!(site.hub.seen().is_empty());
    fs::remove_file(weights_blob(&site)).expect("removed");
    site.forget_output().embedrun(&RUN, &[OFFLINE]).failed(2, FailureReason::ModelNotFound);
}

#[test]
fn a_cache_filled_by_the_hub_libraries_is_not_fetched_again() {
    let site = Site::new();
    // They fetch a file when they need it; this program has never needed a pooling.
    fill(&site, |name| name.starts_with("1_Pooling"));
    site.run().succeeded();
    let seen = site.hub.seen();
    let mut fetched = downloads(&seen);
    // The list of the modules is read before anything is looked for in the cache.
    fetched.retain(|path| !path.ends_with("modules.json"));
    assert_eq!(fetched, [format!("{}/1_Pooling/config.json", site.commit)]);
}

#[test]
fn a_cached_file_that_differs_from_the_hub_is_fetched_again() {
    let damages: [fn(&Path); 2] = [
        |blob| {
            let mut content = fs::read(blob).expect("weights");
            *content.last_mut().expect("a byte") ^= 1;
            fs::write(blob, content).expect("a blob");
        },
        |blob| fs::write(blob, "cut short").expect("a blob"),
    ];
    for damage in damages {
        let site = Site::new();
        fill(&site, |_| false);
        damage(&weights_blob(&site));
        site.run().succeeded();
        let seen = site.hub.seen();
        assert!(downloads(&seen).iter().any(|path| path.ends_with("model.safetensors")));
        let weights = fs::read(weights_blob(&site)).expect("a blob");
        assert_eq!(weights, fs::read(site.world.path("model/model.safetensors")).expect("weights"));
    }
}

#[test]
fn a_cache_that_cannot_be_written_is_an_error_that_names_the_variable() {
    let site = Site::new();
    site.plan().succeeded();
    let home = site.world.path("home");
    fs::create_dir_all(&home).expect("a folder");
    let home = home.to_str().expect("UTF-8");
    let embed = ["embed", "--config", "run.json", "--shard", "0", "--gpu-count", "0"];
    let read_only = || {
        let mut command = Command::new("bwrap");
        command.args(["--dev-bind", "/", "/", "--ro-bind", home, home, BINARY]).args(embed);
        site.prepare(&mut command);
        site.world.ended(command)
    };
    let message = read_only().failed(2, FailureReason::InvalidConfiguration).message;
    for part in ["model tiny", "HF_HOME", home, "Read-only file system"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    site.nothing_is_exported();
    // Nothing has to be written to what others have filled.
    fill(&site, |_| false);
    read_only().succeeded();
}
