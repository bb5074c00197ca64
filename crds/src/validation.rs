//! What the schema cannot say: fields that are part of the API but not acted on yet.
//!
//! A field listed here never looks as if it worked: the operator reports it in `Accepted=False` with reason
//! `NotImplemented`, the command line refuses the manifest, both with the path of the field.

use crate::v1alpha1::{DeletionPolicy, EmbeddingRunSpec, Format, FusionMethod, OutputFormat, Processing, UpdatePolicy};

/// The paths of the fields of a spec that ask for something that is not implemented yet.
pub fn not_implemented(spec: &EmbeddingRunSpec) -> Vec<String> {
    let mut paths = Paths(Vec::new());
    collections(spec, &mut paths);
    models(spec, &mut paths);
    pipeline(spec, &mut paths);
    output(spec, &mut paths);
    paths.check("spec.gpu.memoryCeiling", spec.gpu.memory_ceiling.is_some());
    paths.check("spec.gpu.claimTemplate", spec.gpu.claim_template.is_some());
    paths.check("spec.modelCache", spec.model_cache.is_some());
    paths.check("spec.queue", spec.queue.is_some());
    paths.check("spec.processing", spec.processing == Processing::Incremental);
    paths.check("spec.updatePolicy", spec.update_policy == UpdatePolicy::Finish);
    paths.check("spec.deletionPolicy", spec.deletion_policy == DeletionPolicy::DeleteOutputs);
    paths.0
}

struct Paths(Vec<String>);

impl Paths {
    fn check(&mut self, path: impl Into<String>, asked: bool) {
        if asked {
            self.0.push(path.into());
        }
    }
}

fn collections(spec: &EmbeddingRunSpec, paths: &mut Paths) {
    for (index, collection) in spec.collections.iter().enumerate() {
        let at = |field: &str| format!("spec.collections[{index}].{field}");
        paths.check(at("source.objectStore"), collection.source.object_store.is_some());
        paths.check(at("format"), matches!(collection.format, Format::Parquet | Format::Csv));
    }
}

fn models(spec: &EmbeddingRunSpec, paths: &mut Paths) {
    for (index, model) in spec.models.dense.iter().enumerate() {
        let at = |field: &str| format!("spec.models.dense[{index}].{field}");
        paths.check(at("optional"), model.optional);
    }
    paths.check("spec.models.sparse", !spec.models.sparse.is_empty());
    paths.check("spec.models.reranker", spec.models.reranker.is_some());
}

fn pipeline(spec: &EmbeddingRunSpec, paths: &mut Paths) {
    if let Some(toggles) = &spec.toggles {
        paths.check("spec.toggles.exclusive", toggles.exclusive == Some(false));
        paths.check("spec.toggles.sparse", toggles.sparse == Some(true));
        paths.check("spec.toggles.rerank", toggles.rerank == Some(true));
        paths.check("spec.toggles.metrics", toggles.metrics == Some(false));
    }
    if let Some(fusion) = &spec.fusion {
        paths.check("spec.fusion.method", fusion.method.is_some_and(|method| method != FusionMethod::None));
        paths.check("spec.fusion.candidates", fusion.candidates.is_some());
    }
    paths.check("spec.rerank", spec.rerank.is_some());
}

fn output(spec: &EmbeddingRunSpec, paths: &mut Paths) {
    paths.check("spec.output.objectStore", spec.output.object_store.is_some());
    paths.check("spec.output.formats", spec.output.formats.iter().any(|format| *format != OutputFormat::Parquet));
    paths.check("spec.output.qdrant", spec.output.qdrant.is_some());
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn minimal() -> Value {
        json!({
            "collections": [{"name": "docs", "source": {"pvc": {"claimName": "docs"}}}],
            "models": {"dense": [{"name": "minilm", "source": "pvc://models/minilm"}]},
            "output": {"pvc": {"claimName": "vectors"}}
        })
    }

    fn paths_of(pointer: &str, value: Value) -> Vec<String> {
        let mut spec = minimal();
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        spec.pointer_mut(parent).expect(pointer)[key] = value;
        not_implemented(&serde_json::from_value(spec).expect(pointer))
    }

    #[test]
    fn a_minimal_spec_asks_for_nothing_that_is_missing() {
        assert_eq!(not_implemented(&serde_json::from_value(minimal()).expect("a spec")), Vec::<String>::new());
    }

    #[test]
    fn every_field_that_is_not_acted_on_is_named_by_its_path() {
        let cases = [
            (
                "/collections/0/source",
                json!({"objectStore": {"url": "s3://b"}}),
                "spec.collections[0].source.objectStore",
            ),
            ("/collections/0/format", json!("Csv"), "spec.collections[0].format"),
            ("/models/dense/0/optional", json!(true), "spec.models.dense[0].optional"),
            ("/models/sparse", json!([{"name": "s", "source": "file:///s"}]), "spec.models.sparse"),
            ("/models/reranker", json!({"name": "r", "source": "file:///r"}), "spec.models.reranker"),
            ("/toggles", json!({"exclusive": false}), "spec.toggles.exclusive"),
            ("/fusion", json!({"method": "WeightedMean"}), "spec.fusion.method"),
            ("/fusion", json!({"candidates": "Weighted"}), "spec.fusion.candidates"),
            ("/rerank", json!({"topK": 3}), "spec.rerank"),
            ("/gpu", json!({"memoryCeiling": "12Gi"}), "spec.gpu.memoryCeiling"),
            ("/gpu", json!({"claimTemplate": "one"}), "spec.gpu.claimTemplate"),
            ("/output/formats", json!(["QdrantJsonLines"]), "spec.output.formats"),
            ("/output/qdrant", json!({"url": "http://q", "collection": "c"}), "spec.output.qdrant"),
            ("/modelCache", json!({"pvc": {"claimName": "m"}}), "spec.modelCache"),
            ("/queue", json!({"name": "batch"}), "spec.queue"),
            ("/processing", json!("Incremental"), "spec.processing"),
            ("/updatePolicy", json!("Finish"), "spec.updatePolicy"),
            ("/deletionPolicy", json!("DeleteOutputs"), "spec.deletionPolicy"),
        ];
        for (pointer, value, path) in cases {
            assert_eq!(paths_of(pointer, value), [path], "{pointer}");
        }
    }
}
