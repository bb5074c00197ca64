//! Sources that others write: links out of them, special files, odd names, endless files, folders without permission.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
    },
    process::Command,
};

use crds::contract::FailureReason;

use crate::world::{BINARY, World, json};

fn fifo(world: &World, name: &str) {
    assert!(Command::new("mkfifo").arg(world.path(name)).status().expect("mkfifo").success());
}

#[test]
fn what_is_not_of_the_source_is_left_out_and_named_in_the_summary() {
    let world = World::new();
    world.ten_chunks();
    let at = |name: &str| world.path("source").join(name);
    symlink("/proc/self/environ", at("leak.txt")).expect("a link");
    symlink("/dev/zero", at("zero.txt")).expect("a link");
    symlink("a.json", at("again.txt")).expect("a link");
    fifo(&world, "source/fifo.txt");
    fs::write(at("Icon\r"), "").expect("a file");
    fs::write(at("tab\tname.txt"), "Tab.").expect("a file");
    fs::write(world.path("source").join(OsStr::from_bytes(b"caf\xe9.txt")), "Coffee.").expect("a file");
    let mut command = Command::new(BINARY);
    command.args(["run", "-f", "run.yaml"]).env("SECRET", "the-value-of-a-secret");
    let ended = world.ended(command).succeeded();
    let rows = world.rows("docs");
    assert_eq!(rows.len(), 12, "the chunks, the tab and the link inside");
    assert!(rows.iter().all(|row| !row.text.contains("the-value-of-a-secret")));
    let tab = rows.iter().find(|row| row.text == "Tab.").expect("the tab");
    assert_eq!(tab.metadata["path"], "tab\tname.txt");
    let summary = json(&world.revision().join("docs/processing_summary.json"));
    let warnings = summary["warnings"].to_string();
    for part in [
        "left out 4 file(s) that cannot be read",
        "leak.txt (a link out of the source)",
        "zero.txt (a link out of the source)",
        "fifo.txt (a FIFO)",
        "caf\\\\xe9.txt (its name is not UTF-8)",
        "Icon\\\\r",
    ] {
        assert!(warnings.contains(part), "{part}: {warnings}");
    }
    assert!(ended.stderr.contains("leak.txt (a link out of the source)"), "{}", ended.stderr);
}

#[test]
fn special_files_as_source_or_model_end_the_run_at_once() {
    let world = World::new();
    world.ten_chunks();
    let manifest = fs::read_to_string(world.path("run.yaml")).expect("a manifest");
    fifo(&world, "fifo");
    for source in [world.path("fifo").display().to_string(), "/dev/zero".into()] {
        world.manifest_text(&manifest.replace(&world.path("source").display().to_string(), &source));
        let failure = world.run(&[]).failed(3, FailureReason::InvalidFile);
        assert!(failure.message.contains("not a regular file"), "{}", failure.message);
    }
    world.manifest_text(&manifest);
    fs::remove_file(world.path("model/config.json")).expect("removed");
    fifo(&world, "model/config.json");
    let failure = world.run(&[]).failed(2, FailureReason::InvalidModel);
    assert!(failure.message.contains("config.json"), "{}", failure.message);
}

#[test]
fn endless_files_are_named_with_their_line_and_the_setting() {
    let world = World::new();
    world.ten_chunks();
    for (name, words) in [
        (
            "z.jsonl",
            "z.jsonl, line 1: larger than 16 MiB; split it, or raise the toggle max_record (EMBEDRUN_MAX_RECORD)",
        ),
        ("z.txt", "z.txt, line 1: larger than 64 MiB; split it, or raise the toggle max_text (EMBEDRUN_MAX_TEXT)"),
    ] {
        let file = fs::File::create(world.path("source").join(name)).expect(name);
        file.set_len(6 << 30).expect("a sparse file");
        let message = world.run(&[]).failed(3, FailureReason::InvalidFile).message;
        assert!(message.contains(words), "{message}");
        fs::remove_file(world.path("source").join(name)).expect("removed");
    }
    world.source(
        "z.txt",
        "a longer text than a hundred bytes, a longer text than a hundred bytes, a longer text than a hundred bytes",
    );
    let mut command = Command::new(BINARY);
    command.args(["run", "-f", "run.yaml"]).env("EMBEDRUN_MAX_TEXT", "100");
    assert!(world.ended(command).failed(3, FailureReason::InvalidFile).message.contains("larger than 100 bytes"));
    world.run(&[]).succeeded();
}

#[test]
fn a_folder_without_permission_is_named() {
    let world = World::new();
    world.ten_chunks().source("closed/x.txt", "x");
    let mode = |name: &str, mode: u32| {
        fs::set_permissions(world.path(name), fs::Permissions::from_mode(mode)).expect("permissions");
    };
    mode("source/closed", 0o000);
    mode("model/model.safetensors", 0o644);
    let mut command = Command::new("id");
    let root = command.arg("-u").output().expect("id").stdout == b"0\n";
    let mut command = Command::new(BINARY);
    if root {
        mode("", 0o777);
        command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", BINARY]);
    }
    command.args(["run", "-f", "run.yaml"]);
    let failure = world.ended(command).failed(2, FailureReason::SourceNotFound);
    mode("source/closed", 0o755);
    assert!(failure.message.contains("/source/closed cannot be read: Permission denied"), "{}", failure.message);
    world.run(&[]).succeeded();
}

#[test]
fn a_model_on_a_claim_reads_nothing_outside_of_it() {
    let world = World::new();
    world.ten_chunks();
    fs::create_dir_all(world.path("claim/blobs")).expect("a folder");
    fs::rename(world.path("model"), world.path("claim/model")).expect("moved");
    let manifest = fs::read_to_string(world.path("run.yaml")).expect("a manifest");
    let file = format!("file://{}/model", world.path("").display()).replace("//model", "/model");
    world.manifest_text(&manifest.replace(&file, "pvc://models/model"));
    let run = ["--volume", "models=claim"];
    // The layout of a hub's cache: links to blobs within the claim.
    let config = world.path("claim/model/config.json");
    fs::rename(&config, world.path("claim/blobs/config")).expect("moved");
    symlink("../blobs/config", &config).expect("a link");
    world.run(&run).succeeded();
    fs::remove_dir_all(world.path("out")).expect("removed");
    fs::rename(world.path("claim/blobs/config"), world.path("outside.json")).expect("moved");
    fs::remove_file(&config).expect("removed");
    symlink("../../outside.json", &config).expect("a link");
    let failure = world.run(&run).failed(2, FailureReason::InvalidModel);
    assert!(
        failure.message.contains("model/config.json") && failure.message.contains("leads outside"),
        "{}",
        failure.message
    );
}
