//! A file system that fails while a file is read: tried again if it may pass, final if it may not. A library that is loaded
//! before the C library makes the faults.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crds::contract::FailureReason;

use crate::{
    stages::{finalized, manifest, world as world_with_queries},
    world::{BINARY, Ended, World},
};

const EIO: i32 = 5;
const EACCES: i32 = 13;
const ETIMEDOUT: i32 = 110;
const ESTALE: i32 = 116;

/// Compiles the library into the folder of the world.
fn library(world: &World) -> PathBuf {
    let library = world.path("read_faults.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/read_faults.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl");
    assert!(compiler.status().expect("a C compiler").success());
    library
}

/// Runs the binary; the reading of `file` fails after so many bytes.
fn with_fault(world: &World, arguments: &[&str], file: &str, after: u64, errno: i32) -> Ended {
    let mut command = Command::new(BINARY);
    command.args(arguments).env("LD_PRELOAD", library(world));
    command.env("FAULT_FILE", file).env("FAULT_AFTER", after.to_string()).env("FAULT_ERRNO", errno.to_string());
    world.ended(command)
}

const RUN: [&str; 3] = ["run", "-f", "run.yaml"];

#[test]
fn a_source_that_fails_in_the_middle_is_tried_again_in_every_stage() {
    let world = World::new();
    world.ten_chunks();
    for errno in [EIO, ESTALE, ETIMEDOUT] {
        for (file, after) in [("/source/b.jsonl", 70), ("/source/a.json", 20), ("/source/b.jsonl", 0)] {
            let message =
                with_fault(&world, &RUN, file, after, errno).failed(75, FailureReason::SourceUnavailable).message;
            assert!(message.contains(file) && message.contains(&format!("os error {errno}")), "{message}");
        }
    }
    world.source("c.md", "# One\n\nText.\n").source("d.txt", "Text of a file.\n");
    for file in ["/source/c.md", "/source/d.txt"] {
        let message = with_fault(&world, &RUN, file, 3, EIO).failed(75, FailureReason::SourceUnavailable).message;
        assert!(message.contains(file), "{message}");
    }
    world.plan(20).succeeded();
    let embed = ["embed", "--config", "run.json", "--shard", "0", "--gpu-count", "0"];
    let failure = with_fault(&world, &embed, "/source/b.jsonl", 70, EIO).failed(75, FailureReason::SourceUnavailable);
    assert_eq!(failure.shard, Some(0));
    world.embed(0).succeeded();
    world.finalize().succeeded();
    assert_eq!(world.rows("docs").len(), 12);
}

#[test]
fn a_source_that_may_not_be_read_is_final() {
    let world = World::new();
    world.ten_chunks();
    let message =
        with_fault(&world, &RUN, "/source/b.jsonl", 0, EACCES).failed(2, FailureReason::SourceNotFound).message;
    assert!(message.contains("/source/b.jsonl") && message.contains("Permission denied"), "{message}");
}

#[test]
fn a_file_of_queries_that_fails_is_tried_again() {
    let (world, spec) = world_with_queries();
    manifest(&world, &spec);
    let run = [&RUN[..], &["--volume", "configmap/q=queries"]].concat();
    let message = with_fault(&world, &run, "/q.jsonl", 10, EIO).failed(75, FailureReason::SourceUnavailable).message;
    assert!(message.contains("configmap://q/q.jsonl"), "{message}");
    finalized(world.embedrun(&run));
}

#[test]
fn a_model_file_that_fails_is_tried_again() {
    let world = World::new();
    world.ten_chunks();
    world.plan(20).succeeded();
    let embed = ["embed", "--config", "run.json", "--shard", "0", "--gpu-count", "0"];
    let weights = std::fs::metadata(world.path("model/model.safetensors")).expect("weights").len();
    for (file, after) in [
        ("/model/config.json", 10),
        ("/model/tokenizer.json", 100),
        ("/model/model.safetensors", 4),
        ("/model/model.safetensors", weights - 100),
    ] {
        for errno in [EIO, ESTALE] {
            let failure = with_fault(&world, &embed, file, after, errno).failed(75, FailureReason::ModelUnavailable);
            assert!(failure.message.contains("model tiny") && failure.message.contains(file), "{}", failure.message);
        }
    }
    let failure =
        with_fault(&world, &embed, "/model/tokenizer.json", 0, EACCES).failed(2, FailureReason::ModelAccessDenied);
    assert!(failure.message.contains("tokenizer.json"), "{}", failure.message);
    world.embed(0).succeeded();
}
