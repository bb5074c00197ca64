//! Runs and Jobs for the tests of the pure stages.

use crds::{
    contract::{FinalizeResult, PlanResult, RunResult, Stage, StageOutcome},
    identity::Revision,
    v1alpha1::EmbeddingRun,
};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    names,
    world::{JobPhase, JobResult, JobState, World},
};

pub(super) const NOW: i64 = 1_800_000_000;

pub(super) fn now() -> Timestamp {
    Timestamp::from_second(NOW).expect("a time")
}

/// A run of two collections; `change` is merged over its spec.
pub(super) fn run(change: Value) -> EmbeddingRun {
    let mut spec = json!({
        "collections": [
            {"name": "handbook", "source": {"pvc": {"claimName": "chunks", "path": "handbook/"}}},
            {"name": "notes", "source": {"configMap": {"name": "notes"}}}
        ],
        "models": {"dense": [
            {"name": "minilm", "source": "pvc://models/minilm"},
            {"name": "bge", "source": "file:///models/bge"}
        ]},
        "execution": {"parallelism": 2, "shardSize": 10},
        "output": {"pvc": {"claimName": "vectors", "path": "out"}}
    });
    merge(&mut spec, change);
    serde_json::from_value(json!({
        "apiVersion": "embedrun.dev/v1alpha1",
        "kind": "EmbeddingRun",
        "metadata": {
            "name": "demo", "namespace": "search", "uid": "run-uid", "generation": 7,
            "labels": {"argocd.argoproj.io/instance": "app"}
        },
        "spec": spec,
        "status": {"observedGeneration": -1}
    }))
    .expect("a run")
}

fn merge(target: &mut Value, change: Value) {
    match (target, change) {
        (Value::Object(target), Value::Object(change)) => {
            for (key, value) in change {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (target, change) => *target = change,
    }
}

pub(super) fn revision(run: &EmbeddingRun) -> Revision {
    super::revision::of(run)
}

/// A Job of the run's revision.
pub(super) fn job(run: &EmbeddingRun, stage: Stage, phase: JobPhase) -> JobState {
    let revision = revision(run);
    JobState {
        name: names::job("demo", &revision, stage),
        uid: format!("{stage}-uid"),
        stage,
        revision,
        phase,
        suspended: false,
        deleting: false,
        waiting_since: Some(now()),
        started: true,
        completions: if stage == Stage::Embed { 3 } else { 1 },
        succeeded: 0,
        failed_indexes: String::new(),
        ttl: None,
        result: JobResult::Missing,
        failures: Vec::new(),
        pending: None,
        rejection: None,
    }
}

/// A complete plan Job of three shards.
pub(super) fn planned(run: &EmbeddingRun) -> JobState {
    let outcome = StageOutcome::Planned(PlanResult { shards: 3, chunks: 25, complete: None });
    JobState {
        result: JobResult::Read(Box::new(RunResult::new(revision(run), outcome))),
        ..job(run, Stage::Plan, JobPhase::Complete)
    }
}

/// A complete finalize Job.
pub(super) fn finalized(run: &EmbeddingRun, result: FinalizeResult) -> JobState {
    JobState {
        result: JobResult::Read(Box::new(RunResult::new(revision(run), StageOutcome::Finalized(result)))),
        ..job(run, Stage::Finalize, JobPhase::Complete)
    }
}

pub(super) fn failed(reason: &str, message: &str) -> JobPhase {
    JobPhase::Failed { reason: reason.into(), message: message.into() }
}

pub(super) fn world(jobs: Vec<JobState>) -> World {
    World { jobs, ..World::default() }
}
