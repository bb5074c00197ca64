//! The top level of an `EmbeddingRun`.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    collection::CollectionSpec,
    execution::{ExecutionSpec, GpuSpec, ModelCacheSpec, QueueSpec},
    model::ModelsSpec,
    output::OutputSpec,
    pipeline::{FusionSpec, RerankSpec, TogglesSpec},
    status::EmbeddingRunStatus,
};

/// Turns collections of text into search-ready vectors.
///
/// Every field belongs to one class. *Identity* fields determine the output: a change is a new revision, and
/// the work is done again. *Execution* fields apply to Jobs not yet started. *Lifecycle* fields apply in place.
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
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.revision"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Summary", type_ = "string", json_path = ".status.summary.uri", priority = "1"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = "1"
    ),
    validation = Rule::new("size(self.metadata.name) <= 40").message("metadata.name must have at most 40 characters: the names of the Jobs are made from it"),
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message("metadata.name must be a DNS label: lower-case letters, digits and '-'")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.toggles) && has(self.toggles.rerank) && self.toggles.rerank) || has(self.models.reranker)").message("toggles.rerank is true but models.reranker is not given").field_path(".toggles.rerank"))]
#[x_kube(validation = Rule::new("!(has(self.toggles) && has(self.toggles.sparse) && self.toggles.sparse) || (has(self.models.sparse) && size(self.models.sparse) > 0)").message("toggles.sparse is true but models.sparse is empty").field_path(".toggles.sparse"))]
pub struct EmbeddingRunSpec {
    /// Identity. What to embed: at least one collection.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("self.all(a, self.exists_one(b, b.name == a.name))").message("collection names must be unique"))]
    pub collections: Vec<CollectionSpec>,
    /// Identity. The encoders and the reranker.
    pub models: ModelsSpec,
    /// Identity. Switches for the stages; a stage without a toggle runs when its model is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toggles: Option<TogglesSpec>,
    /// Identity. How the vectors of the ensemble and the candidates of the retrievers become one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fusion: Option<FusionSpec>,
    /// Identity. Queries, candidates and the quality gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerank: Option<RerankSpec>,
    /// Execution. The accelerator of the embed pods.
    #[serde(default)]
    pub gpu: GpuSpec,
    /// Execution. Parallelism, retries and deadlines.
    #[serde(default)]
    pub execution: ExecutionSpec,
    /// Identity. Where the results go, and in which formats. The place itself cannot change.
    pub output: OutputSpec,
    /// Execution. A volume that keeps models fetched from a hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_cache: Option<ModelCacheSpec>,
    /// Execution. The Kueue queue that admits the Jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueSpec>,
    /// Identity. `Full` embeds every chunk; `Incremental` reuses vectors of unchanged chunks from the last revision.
    #[serde(default)]
    pub processing: Processing,
    /// Execution. What a new revision does to one that still runs: `Replace` stops it, `Finish` waits for it.
    #[serde(default)]
    pub update_policy: UpdatePolicy,
    /// Identity. Names the state of the sources; change it when their content has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub source_revision: Option<String>,
    /// Identity. Change it to do the same work again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub rerun_token: Option<String>,
    /// Lifecycle. Stops the Jobs, keeps what is committed; set it back to go on.
    #[serde(default)]
    pub suspend: bool,
    /// Lifecycle. Seconds after which the Jobs of a finished run are deleted, counted from its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub ttl_seconds_after_finished: Option<i32>,
    /// Lifecycle. How many finished revisions the status remembers.
    #[serde(default = "default_history_limit")]
    #[schemars(range(min = 0, max = 50))]
    pub history_limit: u32,
    /// Lifecycle. What happens to the output when the run is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// Execution. A `PodTemplateSpec` merged strategically over the generated one, containers by name
    /// (the runner's container is `runner`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schemaless")]
    pub template: Option<serde_json::Value>,
}

/// Whether vectors of unchanged chunks are taken over from the previous revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Processing {
    /// Every chunk is embedded.
    #[default]
    Full,
    /// Vectors of unchanged chunks are taken over.
    Incremental,
}

/// What a new revision does to one that still runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum UpdatePolicy {
    /// The running revision is stopped.
    #[default]
    Replace,
    /// The running revision ends first.
    Finish,
}

/// What happens to the output when the run is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The output stays.
    #[default]
    Retain,
    /// The output is deleted with the run.
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

    /// What the rules of the schema say about a run that has `value` at `pointer` of its spec.
    fn broken(pointer: &str, value: Value) -> Vec<String> {
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
    fn what_contradicts_itself_is_refused_with_what_to_do() {
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
            let broken = broken(pointer, value.clone());
            assert!(broken.iter().any(|message| message.contains(expected)), "{value}: {broken:?}");
        }
    }

    #[test]
    fn what_fits_together_breaks_no_rule() {
        let cases = [
            ("/toggles", json!({"rerank": false, "sparse": false})),
            ("/models", models("m", &["s", "t"])),
            ("/rerank", json!({"candidates": 10})),
            ("/rerank", json!({"topK": 100})),
            ("/rerank", json!({"queries": queries(), "gate": {"metric": "ndcg@10", "maximumDrop": 0.02}})),
        ];
        for (pointer, value) in cases {
            assert_eq!(broken(pointer, value.clone()), Vec::<String>::new(), "{value}");
        }
    }
}
