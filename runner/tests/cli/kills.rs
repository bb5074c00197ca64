//! Kills at random points: whatever a killed process left, the next one goes on and the end is the same.
//!
//! `EMBEDRUN_TEST_KILLS` sets the number of kills, and `EMBEDRUN_TEST_SEED` their points.

use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    stages::{finalized, manifest, run_with, world},
    world::{BINARY, World, json},
};

const SHARD_SIZE: [&str; 2] = ["--shard-size", "2"];

fn setting(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |value| value.parse().expect(variable))
}

/// The Parquet files of the output, whose names are their digests.
fn parquet(world: &World) -> Vec<String> {
    world.files().into_keys().filter(|file| file.ends_with(".parquet")).collect()
}

/// Asserts that readers are pointed to whole files only.
fn readers_see_whole_files(world: &World) {
    if !world.path("out/current/docs").exists() {
        return;
    }
    let summary = json(&world.revision().join("docs/processing_summary.json"));
    for file in summary["export_run"]["files"].as_array().expect("files") {
        let path = world.path("out").join(file["path"].as_str().expect("a path"));
        assert_eq!(Some(fs::metadata(&path).expect("a file").len()), file["bytes"].as_u64(), "{}", path.display());
    }
}

#[test]
fn a_run_that_is_killed_at_random_points_ends_as_one_that_was_not() {
    let (world, spec) = world();
    manifest(&world, &spec);
    let started = Instant::now();
    finalized(run_with(&world, &[], &SHARD_SIZE));
    let duration = started.elapsed();
    let (expected, rows) = (parquet(&world), world.rows("docs"));
    let forget = || fs::remove_dir_all(world.path("out")).expect("removed");
    forget();

    let mut state = setting("EMBEDRUN_TEST_SEED", 1);
    let (mut kills, mut in_the_middle) = (0, 0);
    while kills < setting("EMBEDRUN_TEST_KILLS", 10) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let share = (state >> 40) as f64 / f64::from(1 << 24);
        let mut command = Command::new(BINARY);
        command.args(["run", "-f", "run.yaml", "--volume", "configmap/q=queries", "--quiet"]).args(SHARD_SIZE);
        command
            .current_dir(world.path(""))
            .env_remove("EMBEDRUN_RESULT_FILE")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("the binary runs");
        thread::sleep(Duration::from_secs_f64(duration.as_secs_f64() * share));
        let ended = child.try_wait().expect("a child");
        child.kill().expect("killed");
        child.wait().expect("a child");
        readers_see_whole_files(&world);
        match ended {
            None => {
                kills += 1;
                in_the_middle += u64::from(world.path("out").exists());
            }
            Some(status) => {
                assert!(status.success(), "{status}");
                assert_eq!(parquet(&world), expected);
                forget();
            }
        }
    }
    finalized(run_with(&world, &[], &SHARD_SIZE));
    assert_eq!(parquet(&world), expected);
    assert_eq!(world.rows("docs"), rows);
    let is_named = |file: &str| file.ends_with(".parquet") || file.ends_with("/_COMMITTED.json");
    let is_leftover = |file: &String| file.contains('#') || (file.contains("/shard-") && !is_named(file));
    let leftovers: Vec<String> =
        world.files().into_keys().filter(|file| file.starts_with("runs/") && is_leftover(file)).collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
    assert!(in_the_middle > 0, "no kill hit a run that had begun to write");
}
