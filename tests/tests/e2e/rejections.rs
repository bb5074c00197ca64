//! Manifests that are rejected: at apply by the schema, or by the operator with the path of the field.

use std::fs;

use anyhow::{Context, Result, ensure};
use crds::v1alpha1::{ConditionType, EmbeddingRun};
use harness::Cluster;
use serde_json::{Value, json};

use crate::setup::{Workspace, condition, operator, root};

pub(crate) async fn rules_reject_at_apply(cluster: &Cluster) -> Result<()> {
    let workspace = Workspace::make(cluster, "rules").await?;
    let both = json!({"pvc": {"claimName": "a"}, "hostPath": {"path": "/b"}});
    let collection = |source: Value| json!({"collections": [{"name": "c", "source": source}]});
    let model = |change: Value| {
        let mut model = json!({"name": "m", "source": "pvc://models/m"});
        crate::setup::merge(&mut model, change);
        json!({"models": {"dense": [model]}})
    };
    let models = |dense: &str, sparse: &[&str]| {
        let model = |name: &str| json!({"name": name, "source": "pvc://models/m"});
        let sparse: Vec<Value> = sparse.iter().map(|name| model(name)).collect();
        json!({"models": {"dense": [model(dense)], "sparse": sparse}})
    };
    let gate = |gate: Value| {
        let queries = json!({"configMap": {"name": "queries", "key": "queries.jsonl"}});
        json!({"rerank": {"queries": queries, "gate": gate}})
    };
    let source = json!({"pvc": {"claimName": "chunks"}});
    let cases = [
        ("two sources", collection(both), "exactly one of pvc, hostPath, objectStore, configMap"),
        ("no source", collection(json!({})), "exactly one of pvc, hostPath, objectStore, configMap"),
        ("a path that climbs", collection(json!({"pvc": {"claimName": "a", "path": "../x"}})), "without '..'"),
        (
            "two collections of one name",
            json!({"collections": [{"name": "c", "source": source}, {"name": "c", "source": source}]}),
            "Duplicate value",
        ),
        ("a weight of zero", model(json!({"weight": 0})), "weight must be greater than 0"),
        ("a negative weight", model(json!({"weight": -1})), "weight must be greater than 0"),
        ("a reserved name", model(json!({"name": "id"})), "a column of the output"),
        ("a hub model without a revision", model(json!({"source": "hf://a/b"})), "spec.models.dense[0].source"),
        ("no models", json!({"models": {"dense": []}}), "spec.models.dense"),
        ("rerank without a reranker", json!({"toggles": {"rerank": true}}), "models.reranker is not given"),
        ("sparse without a model", json!({"toggles": {"sparse": true}}), "models.sparse is empty"),
        ("a shard of nothing", json!({"execution": {"shardSize": 0}}), "spec.execution.shardSize"),
        ("more kept than scored", json!({"rerank": {"candidates": 5, "topK": 9}}), "must not exceed candidates"),
        ("fewer scored than kept by default", json!({"rerank": {"candidates": 5}}), "topK (default 10)"),
        ("two sparse models of one name", models("m", &["s", "s"]), "Duplicate value"),
        ("a dense model with a sparse one's name", models("s", &["s"]), "the name of a sparse model"),
        ("a dense model with the name of a sparse column", models("s_values", &["s"]), "one of its columns"),
        (
            "a gate without queries",
            json!({"rerank": {"gate": {"metric": "mrr", "minimum": 0.5}}}),
            "a gate needs queries",
        ),
        ("a gate that asks for nothing", gate(json!({"metric": "mrr"})), "give minimum or maximumDrop"),
        ("an unknown metric", gate(json!({"metric": "map@10", "minimum": 0.5})), "spec.rerank.gate.metric"),
        ("more than everything", gate(json!({"metric": "mrr", "minimum": 1.5})), "spec.rerank.gate.minimum"),
    ];
    for (what, change, word) in cases {
        let manifest = workspace.manifest("rules", change);
        let error = workspace.apply(&manifest).await.err().with_context(|| format!("{what} was accepted"))?;
        ensure!(format!("{error:#}").contains(word), "{what}: no {word:?} in {error:#}");
    }
    let long = workspace.manifest(&"a".repeat(41), json!({}));
    let error = workspace.create(&long).await.err().context("a name of 41 characters was accepted")?;
    ensure!(error.to_string().contains("at most 40 characters"), "{error}");

    workspace.apply(&workspace.manifest("fixed", json!({}))).await?;
    let moved = workspace.manifest("fixed", json!({"output": {"pvc": {"claimName": "elsewhere"}}}));
    let error = workspace.apply(&moved).await.err().context("the output was moved")?;
    ensure!(format!("{error:#}").contains("immutable"), "{error:#}");
    Ok(())
}

pub(crate) async fn fields_that_are_not_implemented_are_named(cluster: &Cluster) -> Result<()> {
    let workspace = Workspace::make(cluster, "missing").await?;
    let change = json!({"queue": {"name": "batch"}, "processing": "Incremental"});
    workspace.apply(&workspace.manifest("missing", change)).await?;
    let status = workspace
        .status("missing", "the rejection", |status| {
            condition(status, ConditionType::Accepted).is_ok_and(|accepted| accepted.status == "False")
        })
        .await?;
    let accepted = condition(&status, ConditionType::Accepted)?;
    ensure!(accepted.reason == "NotImplemented", "{accepted:?}");
    ensure!(accepted.message.contains("spec.queue") && accepted.message.contains("spec.processing"), "{accepted:?}");
    ensure!(workspace.kubectl(&["get", "jobs", "-o", "name"]).await?.is_empty(), "nothing is started");
    Ok(())
}

pub(crate) async fn every_example_applies(cluster: &Cluster) -> Result<()> {
    operator(cluster).await?;
    for namespace in ["search", "embedrun-quickstart"] {
        cluster.kubectl(&["create", "namespace", namespace]).await?;
    }
    let mut applied = 0;
    for entry in fs::read_dir(root().join("docs/examples"))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let name = path.display().to_string();
        cluster.kubectl(&["apply", "--dry-run=server", "--validate=strict", "-f", &name]).await?;
        applied += 1;
        let object: Value = serde_yaml_ng::from_str(&fs::read_to_string(&path)?).with_context(|| name.clone())?;
        if object["kind"] != "EmbeddingRun" {
            continue;
        }
        let run: EmbeddingRun = serde_json::from_value(object).with_context(|| name.clone())?;
        let missing = crds::validation::not_implemented(&run.spec);
        ensure!(missing.is_empty(), "{name} asks for {missing:?}");
    }
    ensure!(applied >= 12, "only {applied} examples");
    Ok(())
}
