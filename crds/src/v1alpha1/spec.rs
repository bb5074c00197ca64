//! The top level of an `EmbeddingRun`.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    collection::CollectionSpec,
    execution::{ExecutionSpec, GpuSpec, HubSpec, ModelCacheSpec, QueueSpec},
    model::ModelsSpec,
    output::OutputSpec,
    pipeline::{FusionSpec, RerankSpec, TogglesSpec},
    status::EmbeddingRunStatus,
};

/// Turns collections of text into search-ready vectors.
///
/// Every field belongs to one class. *Identity* fields determine the output: a change starts a new revision.
/// *Execution* fields apply to Jobs not yet started. *Lifecycle* fields apply in place.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "embedrun.dev",
    version = "v1alpha1",
    kind = "EmbeddingRun",
    namespaced,
    cel,
    shortname = "erun",
    category = "embedrun",
    status = "EmbeddingRunStatus",
    derive = "PartialEq",
    doc = "An EmbeddingRun turns collections of text into search-ready vectors.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Progress", type_ = "string", json_path = ".status.progress.display"),
    printcolumn(name = "Rerank", type_ = "string", json_path = ".status.rerank.state"),
    printcolumn(name = "Sparse", type_ = "string", json_path = ".status.sparse.state"),
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.shortRevision"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Summary", type_ = "string", json_path = ".status.summary.uri", priority = "1"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = "1"
    ),
    validation = Rule::new("size(self.metadata.name) <= 40").message("metadata.name must have at most 40 characters: the names of the Jobs are derived from it"),
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message("metadata.name must be a DNS label: lower-case letters, digits and '-'")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.toggles) && has(self.toggles.rerank) && self.toggles.rerank) || has(self.models.reranker)").message("toggles.rerank is true but models.reranker is not given").field_path(".toggles.rerank"))]
#[x_kube(validation = Rule::new("!(has(self.toggles) && has(self.toggles.sparse) && self.toggles.sparse) || (has(self.models.sparse) && size(self.models.sparse) > 0)").message("toggles.sparse is true but models.sparse is empty").field_path(".toggles.sparse"))]
pub struct EmbeddingRunSpec {
    /// Identity. The collections of text to embed; at least one.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("self.all(a, self.exists_one(b, b.name == a.name))").message("collection names must be unique"))]
    pub collections: Vec<CollectionSpec>,
    /// Identity. The dense encoders, the sparse encoders and the reranker.
    pub models: ModelsSpec,
    /// Identity. Switches for stages. A stage without a switch runs if its model is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toggles: Option<TogglesSpec>,
    /// Identity. The fusion of the dense vectors, and of the candidates of dense and sparse retrieval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fusion: Option<FusionSpec>,
    /// Identity. The queries, the number of candidates and the quality gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerank: Option<RerankSpec>,
    /// Execution. The accelerators of the pods that run a model.
    #[serde(default)]
    pub gpu: GpuSpec,
    /// Execution. Parallelism, retries and deadlines.
    #[serde(default)]
    pub execution: ExecutionSpec,
    /// Identity. The location and the formats of the results. The location is immutable.
    pub output: OutputSpec,
    /// Execution. The hub that models with a source `hf://…` come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<HubSpec>,
    /// Execution. A volume that keeps models fetched from a hub. Not implemented yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_cache: Option<ModelCacheSpec>,
    /// Execution. The Kueue queue that admits the Jobs. Not implemented yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueSpec>,
    /// Identity. `Full` (the default) embeds every chunk. `Incremental` (not implemented yet) reuses the vectors of
    /// unchanged chunks.
    #[serde(default)]
    pub processing: Processing,
    /// Execution. A new revision stops one that is still running (`Replace`, the default) or waits for it (`Finish`,
    /// not implemented yet).
    #[serde(default)]
    pub update_policy: UpdatePolicy,
    /// Identity. A name for the state of the sources. Change it when their content changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub source_revision: Option<String>,
    /// Identity. Any text. Change it to compute everything again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub rerun_token: Option<String>,
    /// Lifecycle. True stops the pods and keeps committed shards; false resumes. Default false.
    #[serde(default)]
    pub suspend: bool,
    /// Lifecycle. The time in seconds after which finished Jobs are deleted, once their result is in the status.
    /// Default: they are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub ttl_seconds_after_finished: Option<i32>,
    /// Lifecycle. The number of finished revisions in `status.history`. Default 5.
    #[serde(default = "default_history_limit")]
    #[schemars(range(min = 0, max = 50))]
    pub history_limit: u32,
    /// Lifecycle. When the run is deleted, the output is kept (`Retain`, the default) or deleted (`DeleteOutputs`, not
    /// implemented yet).
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// Execution. A `PodTemplateSpec` merged over the generated one, lists of named elements by name. The container of
    /// the runner is `runner`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schemaless")]
    pub template: Option<serde_json::Value>,
}

/// Whether vectors of unchanged chunks are reused from the previous revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Processing {
    /// Every chunk is embedded.
    #[default]
    Full,
    /// Vectors of unchanged chunks are reused. Not implemented yet.
    Incremental,
}

/// What a new revision does to one that is still running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum UpdatePolicy {
    /// The running revision is stopped.
    #[default]
    Replace,
    /// The running revision ends first. Not implemented yet.
    Finish,
}

/// The output when the run is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The output is kept.
    #[default]
    Retain,
    /// The output is deleted with the run. Not implemented yet.
    DeleteOutputs,
}

fn default_history_limit() -> u32 {
    5
}

fn schemaless(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The messages of the CEL rules that a run with `value` at `pointer` of its spec violates.
    fn violations(pointer: &str, value: Value) -> Vec<String> {
        let mut spec = json!({
            "collections": [{"name": "docs", "source": {"pvc": {"claimName": "docs"}}}],
            "models": {"dense": [{"name": "minilm", "source": "pvc://models/minilm"}]},
            "output": {"pvc": {"claimName": "vectors"}}
        });
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        spec.pointer_mut(parent).expect(pointer)[key] = value;
        let run = EmbeddingRun::new("docs", serde_json::from_value(spec).expect(pointer));
        match run.validate_cel() {
            Ok(()) => Vec::new(),
            Err(errors) => errors.as_slice().iter().map(|error| error.message.clone()).collect(),
        }
    }

    fn sparse(name: &str) -> Value {
        json!({"name": name, "source": "pvc://models/splade"})
    }

    fn models(dense: &str, sparse_names: &[&str]) -> Value {
        let sparse: Vec<Value> = sparse_names.iter().map(|name| sparse(name)).collect();
        json!({"dense": [{"name": dense, "source": "pvc://models/minilm"}], "sparse": sparse})
    }

    fn queries() -> Value {
        json!({"configMap": {"name": "queries", "key": "q.jsonl"}})
    }

    #[test]
    fn a_contradiction_is_rejected_with_what_to_do() {
        let cases = [
            ("/toggles", json!({"rerank": true}), "models.reranker is not given"),
            ("/toggles", json!({"sparse": true}), "models.sparse is empty"),
            ("/models", models("m", &["s", "s"]), "sparse model names must be unique"),
            ("/models", models("s", &["s"]), "the name of a sparse model"),
            ("/models", models("s_values", &["s"]), "or of one of its columns"),
            ("/models", models("fused", &[]), "a column of the output"),
            ("/rerank", json!({"topK": 101}), "topK (default 10) must not exceed candidates (default 100)"),
            ("/rerank", json!({"candidates": 9}), "topK (default 10) must not exceed candidates (default 100)"),
            ("/rerank", json!({"gate": {"metric": "mrr", "minimum": 0.5}}), "a gate needs queries"),
            ("/rerank", json!({"queries": queries(), "gate": {"metric": "mrr"}}), "give minimum or maximumDrop"),
        ];
        for (pointer, value, expected) in cases {
            let violations = violations(pointer, value.clone());
            assert!(violations.iter().any(|message| message.contains(expected)), "{value}: {violations:?}");
        }
    }

    #[test]
    fn a_consistent_spec_violates_no_rule() {
        let cases = [
            ("/toggles", json!({"rerank": false, "sparse": false})),
            ("/models", models("m", &["s", "t"])),
            ("/rerank", json!({"candidates": 10})),
            ("/rerank", json!({"topK": 100})),
            ("/rerank", json!({"queries": queries(), "gate": {"metric": "ndcg@10", "maximumDrop": 0.02}})),
        ];
        for (pointer, value) in cases {
            assert_eq!(violations(pointer, value.clone()), Vec::<String>::new(), "{value}");
        }
    }
}
