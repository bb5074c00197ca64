//! The stages after the dense passes: sparse vectors, fusion, rerank, quality and its gate, and missing models.

use std::fs;

use anyhow::{Context, Result, ensure};
use crds::{
    summary::ProcessingSummary,
    v1alpha1::{ConditionType, EmbeddingRunStatus, FallbackReason, FallbackSource, Phase, StageStatus},
};
use harness::Cluster;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::{Value, json};

use crate::setup::{LIMIT, MODEL, SYSTEM, Workspace, condition, merge, restart_operator};

/// Chunks about twelve different subjects.
const FACTS: [(&str, &str); 12] = [
    ("berlin", "Berlin has a population of 3.5 million registered inhabitants."),
    ("cake", "The recipe needs two eggs, a cup of flour and a hot oven."),
    ("rain", "Heavy rain is expected in the north tomorrow afternoon."),
    ("python", "A Python dictionary maps keys to values."),
    ("whale", "The blue whale is the largest animal that has ever lived."),
    ("train", "The night train to Vienna leaves at ten from platform three."),
    ("moon", "The first people walked on the moon in July 1969."),
    ("piano", "A piano has eighty-eight keys, fifty-two of them white."),
    ("vaccine", "A vaccine trains the immune system to recognise a virus."),
    ("bees", "Bees dance to tell each other where the flowers are."),
    ("rent", "The rent is due on the third working day of each month."),
    ("marathon", "A marathon is a little more than forty-two kilometres long."),
];

/// Queries with judgements: those of `queries.jsonl` are correct, that of `wrong.jsonl` is not.
fn queries(name: &str) -> Value {
    let lines = |queries: &[Value]| queries.iter().map(|query| query.to_string() + "\n").collect::<String>();
    let right = [
        json!({"id": "q1", "text": "How many people live in Berlin?", "relevant": ["berlin"]}),
        json!({"id": "q2", "text": "What do I need to bake a cake?", "relevant": {"cake": 2}}),
    ];
    let wrong = [json!({"id": "q1", "text": "How many people live in Berlin?", "relevant": ["piano"]})];
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
        "data": {"queries.jsonl": lines(&right), "wrong.jsonl": lines(&wrong)}
    })
}

/// A workspace with the facts and the ConfigMap `queries`.
async fn workspace<'a>(cluster: &'a Cluster, prefix: &str) -> Result<Workspace<'a>> {
    let workspace = Workspace::make(cluster, prefix).await?;
    let lines: String = FACTS.iter().map(|(id, text)| json!({"id": id, "text": text}).to_string() + "\n").collect();
    workspace.write("facts.jsonl", &lines)?;
    apply(&workspace, &queries("queries")).await?;
    Ok(workspace)
}

/// Applies an object in the namespace of the workspace.
async fn apply(workspace: &Workspace<'_>, object: &Value) -> Result<()> {
    let arguments = ["-n", &*workspace.namespace, "apply", "-f", "-"];
    workspace.cluster.kubectl_with_input(&arguments, &object.to_string()).await.map(drop)
}

/// A change of the spec: compute on the CPU, as requested, and judge by a key of the ConfigMap `queries`.
fn judged_by(key: &str, mut change: Value) -> Value {
    let queries = json!({"queries": {"configMap": {"name": "queries", "key": key}}, "candidates": 10});
    merge(&mut change, json!({"gpu": {"count": 0}, "rerank": queries}));
    change
}

fn dense() -> Value {
    json!({"name": "minilm", "source": format!("pvc://models/{MODEL}")})
}

pub(crate) async fn the_status_reports_every_stage_and_an_operator_restart_changes_nothing(
    cluster: &Cluster,
) -> Result<()> {
    let workspace = workspace(cluster, "retrieval").await?;
    let change = judged_by(
        "queries.jsonl",
        json!({
            "models": {
                "dense": [dense(), {"name": "bge", "source": "pvc://models/bge-small-en-v1.5-dq", "weight": 0.5}],
                "sparse": [{"name": "splade", "source": "pvc://models/splade-tiny", "topK": 64}],
                "reranker": {"name": "ce", "source": "pvc://models/ms-marco-MiniLM-L12-v2-dq"}
            },
            "fusion": {"method": "WeightedConcat", "candidates": "ReciprocalRankFusion"}
        }),
    );
    workspace.apply(&workspace.manifest("retrieval", change)).await?;
    let status = workspace.succeeded("retrieval").await?;
    stages_are_reported(&status)?;
    let degraded = condition(&status, ConditionType::Degraded)?;
    ensure!(degraded.status == "False", "{degraded:?}");
    let table = workspace.kubectl(&["get", "erun", "retrieval"]).await?;
    ensure!(table.matches("Executed").count() == 2, "rerank and sparse are executed in\n{table}");

    let revision = status.revision.clone().context("a revision")?;
    let path = workspace.vectors.join(format!("runs/{revision}/chunks/processing_summary.json"));
    let summary: ProcessingSummary = serde_json::from_slice(&fs::read(&path)?)?;
    let fusion = summary.fusion_run.context("a fused vector")?;
    ensure!((fusion.column.as_str(), fusion.dimensions) == ("fused", 768), "{fusion:?}");
    ensure!(summary.sparse_run.executed && summary.rerank_run.executed, "{:?}", summary.rerank_run);

    let old = restart_operator(cluster).await?;
    let operators: Api<Pod> = Api::namespaced(cluster.client(), SYSTEM);
    cluster
        .wait_for(SYSTEM, "the old operator to be gone", LIMIT, async || {
            Ok(operators.get_opt(&old).await?.is_none().then_some(()))
        })
        .await?;
    // A new generation, so that the new operator writes the status.
    workspace.patch("retrieval", json!({"historyLimit": 3})).await?;
    let after = workspace.succeeded("retrieval").await?;
    ensure!(
        (&after.rerank, &after.sparse, &after.dense, &after.device, &after.collections)
            == (&status.rerank, &status.sparse, &status.dense, &status.device, &status.collections),
        "before: {status:#?}\nafter: {after:#?}"
    );
    ensure!(condition(&after, ConditionType::Degraded)?.status == "False");
    Ok(())
}

fn stages_are_reported(status: &EmbeddingRunStatus) -> Result<()> {
    let executed = |stage: &Option<StageStatus>| -> Result<StageStatus> {
        let stage = stage.clone().context("a stage")?;
        ensure!(stage.enabled && stage.executed && stage.state == "Executed", "{stage:?}");
        ensure!(stage.fallback_reason.is_none() && stage.fallback_count == 0, "{stage:?}");
        let seconds: f64 = stage.latency_seconds.as_deref().context("a latency")?.parse()?;
        ensure!(seconds > 0.0, "{stage:?}");
        Ok(stage)
    };
    let collection = status.collections.first().context("a collection")?;
    for stage in [&status.sparse, &collection.sparse] {
        let sparse = executed(stage)?;
        ensure!(sparse.coverage.as_deref() == Some("1.000"), "{sparse:?}");
    }
    for stage in [&status.rerank, &collection.rerank] {
        let rerank = executed(stage)?;
        // Two queries with at most ten candidates each.
        ensure!(rerank.candidates.is_some_and(|candidates| (1..=20).contains(&candidates)), "{rerank:?}");
    }
    let ndcg: f64 = collection.quality.get("ndcg@10").context("ndcg@10")?.parse()?;
    ensure!((0.5..=1.0).contains(&ndcg), "{:?}", collection.quality);
    let models: Vec<&str> = collection.dense.iter().map(|pass| pass.model.as_str()).collect();
    ensure!(models == ["minilm", "bge"], "{models:?}");
    ensure!(status.dense.is_none(), "{:?}", status.dense);
    Ok(())
}

pub(crate) async fn a_missing_optional_reranker_degrades_the_run(cluster: &Cluster) -> Result<()> {
    let workspace = workspace(cluster, "optional").await?;
    let reranker = json!({"name": "ce", "source": "pvc://models/nowhere", "optional": true});
    let change = judged_by("queries.jsonl", json!({"models": {"dense": [dense()], "reranker": reranker}}));
    workspace.apply(&workspace.manifest("optional", change)).await?;
    let status = workspace.succeeded("optional").await?;
    let rerank = status.rerank.clone().context("the rerank stage")?;
    ensure!(
        (rerank.enabled, rerank.executed, rerank.fallback_reason, rerank.fallback_source)
            == (true, false, Some(FallbackReason::ModelUnavailable), Some(FallbackSource::Load)),
        "{rerank:?}"
    );
    ensure!(rerank.fallback_count > 0, "{rerank:?}");
    let degraded = condition(&status, ConditionType::Degraded)?;
    ensure!((degraded.status.as_str(), degraded.reason.as_str()) == ("True", "ModelUnavailable"), "{degraded:?}");
    ensure!(degraded.message.contains("rerank degraded: ModelUnavailable at load"), "{degraded:?}");
    let table = workspace.kubectl(&["get", "erun", "optional"]).await?;
    ensure!(table.contains("Succeeded") && table.contains("ModelUnavailable"), "{table}");
    // The candidates are judged anyway.
    ensure!(status.collections[0].quality.contains_key("ndcg@10"), "{:?}", status.collections);
    Ok(())
}

pub(crate) async fn a_missing_optional_model_of_the_ensemble_is_skipped_and_reported(cluster: &Cluster) -> Result<()> {
    let workspace = workspace(cluster, "ensemble").await?;
    let ghost = json!({"name": "ghost", "source": "pvc://models/nowhere", "optional": true});
    let models = json!({"models": {"dense": [ghost, dense()]}, "gpu": {"count": 0}});
    workspace.apply(&workspace.manifest("ensemble", models)).await?;
    let status = workspace.succeeded("ensemble").await?;
    let dense = status.dense.clone().context("the ensemble")?;
    ensure!(dense.executed && dense.fallback_reason == Some(FallbackReason::ModelUnavailable), "{dense:?}");
    ensure!(condition(&status, ConditionType::Degraded)?.reason == "ModelUnavailable");
    let models: Vec<&str> = status.collections[0].dense.iter().map(|pass| pass.model.as_str()).collect();
    ensure!(models == ["minilm"], "{models:?}");
    Ok(())
}

pub(crate) async fn a_failed_quality_gate_keeps_readers_on_the_old_revision(cluster: &Cluster) -> Result<()> {
    let workspace = workspace(cluster, "gate").await?;
    let gate = |minimum: f64| json!({"rerank": {"gate": {"metric": "ndcg@10", "minimum": minimum}}});
    workspace.apply(&workspace.manifest("gate", judged_by("queries.jsonl", gate(0.5)))).await?;
    let first = workspace.succeeded("gate").await?;
    let current = workspace.vectors.join("current/chunks");
    let before = fs::read_to_string(&current)?;
    ensure!(before.contains(first.revision.as_deref().context("a revision")?), "{before}");

    workspace.apply(&workspace.manifest("gate", judged_by("wrong.jsonl", gate(0.99)))).await?;
    let status = workspace.ended("gate").await?;
    ensure!(status.phase == Some(Phase::Failed) && status.revision != first.revision, "{status:?}");
    let failed = condition(&status, ConditionType::Failed)?;
    ensure!((failed.status.as_str(), failed.reason.as_str()) == ("True", "QualityGate"), "{failed:?}");
    for word in ["ndcg@10", "0.99"] {
        ensure!(failed.message.contains(word), "no {word:?} in {:?}", failed.message);
    }
    let reasons: Vec<&str> = status.history.iter().map(|entry| entry.reason.as_str()).collect();
    ensure!(reasons == ["QualityGate", "Succeeded"], "{reasons:?}");
    ensure!(fs::read_to_string(&current)? == before, "readers were moved to a worse revision");
    Ok(())
}

pub(crate) async fn missing_queries_hold_the_run_until_they_exist(cluster: &Cluster) -> Result<()> {
    let workspace = workspace(cluster, "queries").await?;
    let queries_of = json!({"rerank": {"queries": {"configMap": {"name": "questions", "key": "asked.jsonl"}}}});
    workspace.apply(&workspace.manifest("queries", queries_of)).await?;
    let reports = |words: &'static [&'static str]| {
        move |status: &EmbeddingRunStatus| {
            condition(status, ConditionType::Stalled).is_ok_and(|stalled| {
                stalled.reason == "VolumeNotFound" && words.iter().all(|word| stalled.message.contains(word))
            })
        }
    };
    let missing_map = reports(&["spec.rerank.queries.configMap", "ConfigMap \"questions\""]);
    workspace.status("queries", "the missing ConfigMap to be reported", missing_map).await?;

    let mut questions = queries("questions");
    apply(&workspace, &questions).await?;
    let missing_key = reports(&["spec.rerank.queries.configMap", "key \"asked.jsonl\""]);
    workspace.status("queries", "the missing key to be reported", missing_key).await?;

    questions["data"]["asked.jsonl"] = questions["data"]["queries.jsonl"].clone();
    apply(&workspace, &questions).await?;
    workspace.succeeded("queries").await?;
    Ok(())
}
