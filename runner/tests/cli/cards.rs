//! The CUDA program on cards that are made up: the driver below it is that of `tests/cuda/emulated-driver`, over the
//! emulated kernels. `tests/cuda/emulated.sh` builds both and runs these.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use arrow_array::{Array, ListArray, UInt32Array, cast::AsArray};
use crds::contract::{ExitCode, FailureReason};
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    stages::{Spec, batches, config, finalized, manifest, rankings, summary, vectors, world},
    world::{Ended, World},
};

/// Bytes that a context takes of an emulated card, and the workspace of the products.
const OPENED: u64 = 256 << 20;
const WORKSPACE: u64 = 32 << 20;
const GIB: u64 = 1 << 30;

/// What one card of a process has done.
#[derive(Debug)]
struct Card {
    launches: u64,
    /// The largest that its pool was, in bytes.
    peak: u64,
    /// Allocations that were never given back.
    held: u64,
}

fn named(variable: &str) -> PathBuf {
    env::var_os(variable).unwrap_or_else(|| panic!("{variable} is not set: run tests/cuda/emulated.sh")).into()
}

/// The arguments for a run of the manifest.
const RUN: [&str; 5] = ["run", "-f", "run.yaml", "--volume", "configmap/q=queries"];

/// The CUDA program with arguments, and with variables for it and the driver.
fn command(world: &World, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(named("EMBEDRUN_TEST_CUDA_RUNNER"));
    command.args(arguments);
    command.env("LD_LIBRARY_PATH", named("EMBEDRUN_TEST_DRIVER"));
    command.env("EMULATED_REPORT", world.path("cards")).env("EMBEDRUN_LOCK_DIR", world.path("locks"));
    // The emulation is slow: what is measured before the first text has to be small.
    command.env("EMBEDRUN_BATCH_TOKENS", "512");
    command.envs(variables.iter().copied());
    command
}

fn run(world: &World, variables: &[(&str, &str)]) -> Ended {
    world.ended(command(world, &RUN, variables))
}

/// The cards of the last process, none of which was used in a wrong way.
fn cards(world: &World) -> Vec<Card> {
    let text = fs::read_to_string(world.path("cards")).expect("the driver's report");
    let cards: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    let number = |card: &Value, name: &str| card[name].as_u64().expect("a number");
    let card = |card: &Value| {
        assert_eq!(card["wrong"], Value::Array(Vec::new()));
        Card { launches: number(card, "launches"), peak: number(card, "peak"), held: number(card, "held") }
    };
    cards.as_array().expect("cards").iter().map(card).collect()
}

/// A world with a model for every stage that asks for these cards.
fn with(gpu: &str) -> World {
    let (world, spec) = world();
    asks_for(&world, &spec, gpu);
    world
}

/// Writes the manifest, with what it says of `gpu`.
fn asks_for(world: &World, spec: &Spec, gpu: &str) {
    manifest(world, spec);
    let text = fs::read_to_string(world.path("run.yaml")).expect("a manifest");
    fs::write(world.path("run.yaml"), text.replacen("gpu: {count: 0}", &format!("gpu: {gpu}"), 1)).expect("written");
}

fn cosine(one: &[f32], other: &[f32]) -> f64 {
    let dot =
        |one: &[f32], other: &[f32]| -> f64 { one.iter().zip(other).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
    dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
}

/// All vectors of a model, row by row.
fn all(world: &World, model: &str) -> Vec<Vec<f32>> {
    batches(world).iter().flat_map(|batch| vectors(batch, model)).collect()
}

fn assert_alike(one: &World, other: &World) {
    for model in ["tiny", "other", "fused"] {
        let (one, other) = (all(one, model), all(other, model));
        assert_eq!(one.len(), other.len());
        for (row, (one, other)) in one.iter().zip(&other).enumerate() {
            let cosine = cosine(one, other);
            assert!(cosine >= 0.9995, "{model}, row {row}: {cosine}");
        }
    }
    let entries = |world: &World| -> Vec<usize> {
        let lengths = |batch: &arrow_array::RecordBatch| {
            let indices: &ListArray = batch.column_by_name("splade_indices").expect("indices").as_list();
            let row = |row: usize| indices.value(row).as_any().downcast_ref::<UInt32Array>().expect("ids").len();
            (0..indices.len()).map(row).collect::<Vec<_>>()
        };
        batches(world).iter().flat_map(lengths).collect()
    };
    assert_eq!(entries(one), entries(other));
    let before = |world: &World| -> Vec<Vec<String>> {
        let ids = |ranking: &Value| {
            let mut ids: Vec<String> = ranking["results"]
                .as_array()
                .expect("results")
                .iter()
                .map(|result| result["id"].as_str().expect("an id").to_owned())
                .collect();
            ids.sort();
            ids
        };
        rankings(world).iter().map(ids).collect()
    };
    assert_eq!(before(one), before(other));
}

/// What the CPU makes of the same world, by the same program.
fn by_cpu() -> World {
    let world = with("{count: 0}");
    finalized(run(&world, &[]));
    assert!(cards(&world).iter().all(|card| card.launches == 0), "the CPU needs no card");
    world
}

fn mitigations(world: &World) -> u64 {
    fn count(value: &Value) -> u64 {
        match value {
            Value::Object(fields) => {
                let own = fields.get("mitigation_events").and_then(Value::as_array).map_or(0, Vec::len) as u64;
                own + fields.values().map(count).sum::<u64>()
            }
            Value::Array(values) => values.iter().map(count).sum(),
            _ => 0,
        }
    }
    count(&summary(world))
}

#[test]
#[ignore = "run by tests/cuda/emulated.sh"]
fn every_stage_gives_the_same_result_on_a_card_as_on_the_cpu() {
    let world = with("{count: 1}");
    finalized(run(&world, &[]));
    let cards = cards(&world);
    assert!(cards[0].launches > 100, "{cards:?}");
    assert!(cards[0].held < 8, "models are gone with their leases: {cards:?}");
    let told = summary(&world).to_string();
    assert!(told.contains(r#""used":["cuda"]"#) && !told.contains("DeviceFallback"), "{told}");
    assert_alike(&world, &by_cpu());
}

#[test]
#[ignore = "run by tests/cuda/emulated.sh"]
fn stages_compute_on_the_cards_that_their_pods_hold() {
    let world = with("{count: 1}");
    fs::write(world.path("run.json"), config(&world).to_json()).expect("a configuration");
    let stage =
        |arguments: &[&str]| world.ended(command(&world, &[arguments, &["--config", "run.json"]].concat(), &[]));
    stage(&["plan", "--shard-size", "4"]).succeeded();
    assert!(!world.path("cards").exists() || cards(&world)[0].launches == 0, "a plan needs no card");
    for shard in ["0", "1", "2"] {
        stage(&["embed", "--shard", shard, "--gpu-count", "1"]).succeeded();
        assert!(cards(&world)[0].launches > 50);
    }
    finalized(stage(&["finalize", "--gpu-count", "1"]));
    let used = cards(&world);
    assert!(used[0].launches > 50 && used[0].held < 8, "{used:?}");
    assert_alike(&world, &by_cpu());
}

#[test]
#[ignore = "run by tests/cuda/emulated.sh"]
fn models_that_stay_on_the_card_compute_the_same() {
    let world = with("{count: 1}");
    finalized(world.ended(command(
        &world,
        &[&RUN[..], &["--shard-size", "4"]].concat(),
        &[("EMBEDRUN_EXCLUSIVE", "false")],
    )));
    let used = cards(&world);
    assert!(used[0].held < 8, "{used:?}");
    assert_alike(&world, &by_cpu());
}

#[test]
#[ignore = "run by tests/cuda/emulated.sh"]
fn a_published_model_gives_the_same_result_on_a_card_as_on_the_cpu() {
    let model = named("EMBEDRUN_TEST_MODELS").join("all-MiniLM-L6-v2");
    let [card, cpu] = ["{count: 1}", "{count: 0}"].map(|gpu| {
        let (world, mut spec) = world();
        spec.dense = format!("[{{name: tiny, source: \"file://{}\"}}]", model.display());
        (spec.sparse, spec.reranker, spec.rest) = (String::new(), String::new(), String::new());
        asks_for(&world, &spec, gpu);
        finalized(run(&world, &[("EMBEDRUN_BATCH_TOKENS", "256")]));
        cards(&world);
        world
    });
    let (card, cpu) = (all(&card, "tiny"), all(&cpu, "tiny"));
    assert_eq!((card.len(), card[0].len()), (10, 384));
    assert!(card.iter().zip(&cpu).all(|(one, other)| cosine(one, other) >= 0.9995));
}

#[test]
#[ignore = "run by tests/cuda/emulated.sh"]
fn two_cards_share_the_work_and_the_rows_stay_in_order() {
    let world = with("{count: 2}");
    let lines: Vec<String> = (0..400).map(|n| format!(r#"{{"id": "n{n}", "text": "text {n} of many"}}"#)).collect();
    world.source("c.jsonl", &lines.join("\n"));
    let two = format!("{},{}", 16 * GIB, 16 * GIB);
    finalized(run(&world, &[("EMULATED_CARDS", &two)]));
    let used = cards(&world);
    assert!(used.iter().all(|card| card.launches > 100 && card.held < 8), "{used:?}");
    let alone = with("{count: 1}");
    alone.source("c.jsonl", &lines.join("\n"));
    finalized(run(&alone, &[("EMULATED_CARDS", &two)]));
    assert_eq!(cards(&alone)[1].launches, 0, "one is asked for");
    assert_alike(&world, &alone);
}

#[test]
#[ignore = "run by tests/cuda/emulated.sh"]
fn a_card_that_is_lost_on_the_way_is_for_another_try() {
    let two = format!("{},{}", 16 * GIB, 16 * GIB);
    for (fault, gpu) in [("0:60:214", "{count: 1}"), ("1:60:719", "{count: 2}"), ("1:3:46", "{count: 2}")] {
        let world = with(gpu);
        let lost = run(&world, &[("EMULATED_CARDS", &two), ("EMULATED_FAULT", fault)]);
        let failure = lost.failed(ExitCode::Transient as i32, FailureReason::DeviceLost);
        assert!(failure.message.contains("CUDA_ERROR"), "{}", failure.message);
        finalized(run(&world, &[("EMULATED_CARDS", &two)]));
        assert_alike(&world, &by_cpu());
    }
}

#[test]
#[ignore = "run by tests/cuda/emulated.sh"]
fn missing_cards_and_failing_cards_are_distinguished() {
    let world = with("{count: 1}");
    let none = run(&world, &[("EMULATED_CARDS", "")]);
    none.failed(ExitCode::BadConfiguration as i32, FailureReason::DeviceUnavailable);
    let fails = run(&world, &[("EMULATED_FAULT", "0:0:46")]);
    fails.failed(ExitCode::Transient as i32, FailureReason::DeviceLost);
    let without_kernels = run(&world, &[("EMULATED_FAULT", "0:0:209")]);
    without_kernels.failed(ExitCode::BadConfiguration as i32, FailureReason::DeviceUnavailable);
    let full = run(&world, &[("EMULATED_CARDS", "1000")]);
    full.failed(ExitCode::Transient as i32, FailureReason::DeviceBusy);
    let few = with("{count: 2}");
    let failure = run(&few, &[]).failed(ExitCode::BadConfiguration as i32, FailureReason::DeviceUnavailable);
    assert!(failure.message.contains("found 1"), "{}", failure.message);
    let less = with("{count: 2, required: false}");
    finalized(run(&less, &[]));
    let told = summary(&less).to_string();
    assert!(told.contains("DeviceFallback") && told.contains(r#""used":["cuda"]"#), "{told}");
    let cpu = with("{count: 1, required: false}");
    finalized(run(&cpu, &[("EMULATED_CARDS", "")]));
    let told = summary(&cpu).to_string();
    assert!(told.contains("DeviceFallback") && told.contains(r#""used":["cpu"]"#), "{told}");
    assert_alike(&less, &cpu);
}

#[test]
#[ignore = "run by tests/cuda/emulated.sh"]
fn a_type_that_a_card_does_not_compute_is_rejected() {
    let (world, mut spec) = world();
    spec.dense = spec.dense.replace("{name: tiny,", "{name: tiny, dtype: Int8,");
    asks_for(&world, &spec, "{count: 1}");
    let failure = run(&world, &[]).failed(ExitCode::BadConfiguration as i32, FailureReason::InvalidConfiguration);
    assert!(failure.message.contains("model tiny: dtype Int8 is supported on a CPU only"), "{}", failure.message);
}

#[test]
#[ignore = "run by tests/cuda/emulated.sh"]
fn a_card_with_little_memory_is_filled_and_no_text_is_lost() {
    let room = OPENED + WORKSPACE + (10 << 20);
    let (little, others) = (room.to_string(), (16 * GIB - room).to_string());
    let little = ("EMULATED_CARDS", little.as_str());
    // A small card, one whose library does not say that it is full, and one that others fill.
    for more in [&[little][..], &[little, ("EMULATED_BLAS_FULL", "1")], &[("EMULATED_OTHERS", others.as_str())]] {
        let world = with("{count: 1}");
        let lines: Vec<String> =
            (0..800).map(|n| format!(r#"{{"id": "n{n}", "text": "text {n} of many words here"}}"#)).collect();
        world.source("c.jsonl", &lines.join("\n"));
        finalized(run(&world, &[&[("EMBEDRUN_BATCH_TOKENS", "16384")], more].concat()));
        let used = cards(&world);
        assert!(mitigations(&world) > 0, "{used:?}");
        assert!(used[0].peak > WORKSPACE + (2 << 20), "{used:?}");
        assert_eq!(all(&world, "tiny").len(), 810);
    }
}

#[test]
#[ignore = "run by tests/cuda/emulated.sh"]
fn a_ceiling_holds_beside_other_processes() {
    // Beside others, room is left for what libraries may still load.
    for (others, opened) in [(0, OPENED), (14 * GIB, 2 * OPENED)] {
        let world = with("{count: 1}");
        let ceiling = opened + WORKSPACE + (12 << 20);
        let (others, asked) = (others.to_string(), ceiling.to_string());
        finalized(run(
            &world,
            &[("EMBEDRUN_MEMORY_CEILING", &asked), ("EMULATED_OTHERS", &others), ("EMBEDRUN_BATCH_TOKENS", "16384")],
        ));
        let used = cards(&world);
        assert!(opened + used[0].peak <= ceiling, "{used:?}");
        assert!(mitigations(&world) > 0, "{used:?}");
    }
}

#[test]
#[ignore = "run by tests/cuda/emulated.sh"]
fn an_instance_of_mig_has_its_own_name() {
    let world = with("{count: 1}");
    finalized(run(&world, &[("EMULATED_MIG", "1")]));
    let locks: Vec<String> = fs::read_dir(world.path("locks"))
        .expect("locks")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert!(locks.len() == 1 && locks[0].starts_with("MIG-"), "{locks:?}");
    let told = summary(&world).to_string();
    assert!(told.contains("nvml"), "{told}");
    cards(&world);
}

#[test]
#[ignore = "run by tests/cuda/emulated.sh"]
fn a_driver_without_pools_of_memory_will_do() {
    let world = with("{count: 2}");
    let two = format!("{},{}", 16 * GIB, 16 * GIB);
    finalized(run(&world, &[("EMULATED_CARDS", &two), ("EMULATED_NO_POOLS", "1")]));
    let used = cards(&world);
    assert!(used.iter().all(|card| card.launches > 0 && card.held < 8), "{used:?}");
    assert_alike(&world, &by_cpu());
}

#[test]
#[ignore = "run by tests/cuda/emulated.sh"]
fn two_runs_take_turns_on_one_card() {
    let worlds = [with("{count: 1}"), with("{count: 1}")];
    let locks = worlds[0].path("locks");
    let start = |world: &World| -> Child {
        let mut command = command(world, &RUN, &[]);
        command.env("EMBEDRUN_LOCK_DIR", &locks).current_dir(world.path("")).env_remove("JOB_COMPLETION_INDEX");
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program runs")
    };
    let running: Vec<Child> = worlds.iter().map(start).collect();
    for mut child in running {
        assert!(child.wait().expect("it ends").success());
    }
    assert_alike(&worlds[0], &worlds[1]);
    let leases = worlds.iter().flat_map(|world| {
        let leases = summary(world)["telemetry"]["lease_events"].as_array().expect("leases").clone();
        leases.into_iter().map(|lease| {
            let at = |name: &str| lease[name].as_str().expect("a time").parse().expect("a time");
            (at("acquired_at"), at("released_at"))
        })
    });
    let mut leases: Vec<(Timestamp, Timestamp)> = leases.collect();
    leases.sort();
    assert!(leases.windows(2).all(|pair| pair[0].1 <= pair[1].0), "one at a time: {leases:?}");
    assert_eq!(fs::read_dir(Path::new(&locks)).expect("locks").count(), 1);
}
