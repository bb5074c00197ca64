//! What the schema cannot say: fields that are part of the API but not acted on yet, and values that mean nothing.
//!
//! A field that is not acted on never looks as if it worked: the operator reports it in `Accepted=False` with reason
//! `NotImplemented`, the command line refuses the manifest, both with the path of the field.

use crate::{
    memory::MemoryCeiling,
    v1alpha1::{DeletionPolicy, EmbeddingRunSpec, Format, OutputFormat, Processing, UpdatePolicy},
};

/// What is wrong with the memory ceiling of a spec, by the path of the field; it says more than the pattern of the
/// schema, which does not see that a number is too large.
pub fn memory_ceiling(spec: &EmbeddingRunSpec) -> Option<String> {
    let said = spec.gpu.memory_ceiling.as_ref()?;
    let error = said.parse::<MemoryCeiling>().err()?;
    Some(format!("spec.gpu.memoryCeiling is {said:?}: {error}"))
}

/// The paths of the fields of a spec that ask for something that is not implemented yet.
pub fn not_implemented(spec: &EmbeddingRunSpec) -> Vec<String> {
    let mut paths = Paths(Vec::new());
    collections(spec, &mut paths);
    output(spec, &mut paths);
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

fn output(spec: &EmbeddingRunSpec, paths: &mut Paths) {
    paths.check("spec.output.objectStore", spec.output.object_store.is_some());
    paths.check("spec.output.formats", spec.output.formats.iter().any(|format| *format != OutputFormat::Parquet));
    paths.check("spec.output.qdrant", spec.output.qdrant.is_some());
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use serde_json::{Value, json};

    use super::*;
    use crate::v1alpha1::EmbeddingRun;

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
    fn a_memory_ceiling_that_is_none_is_named_by_its_path() {
        let said = |value: Option<&str>| {
            let mut spec = minimal();
            spec["gpu"] = json!({"memoryCeiling": value});
            memory_ceiling(&serde_json::from_value(spec).expect("a spec"))
        };
        assert_eq!([None, Some("12Gi"), Some("max")].map(said), [None, None, None]);
        assert_eq!(
            said(Some("99999999999Ti")).expect("too large"),
            "spec.gpu.memoryCeiling is \"99999999999Ti\": write a number of bytes such as 12Gi or 800M, or max"
        );
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

    #[test]
    fn the_examples_break_no_rule_and_ask_for_nothing_that_is_missing() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples");
        let mut runs = 0;
        for entry in fs::read_dir(folder).expect("the examples") {
            let path = entry.expect("an example").path();
            let name = path.display().to_string();
            let text = fs::read_to_string(&path).expect(&name);
            let object: Value = serde_yaml_ng::from_str(&text).expect(&name);
            if object["kind"] != "EmbeddingRun" {
                continue;
            }
            let run: EmbeddingRun = serde_json::from_value(object).expect(&name);
            assert!(run.validate_cel().is_ok(), "{name}: {:?}", run.validate_cel());
            assert_eq!(not_implemented(&run.spec), Vec::<String>::new(), "{name}");
            runs += 1;
        }
        assert!(runs >= 11, "only {runs} examples");
    }
}
