//! Checks that the schema cannot express: fields that are part of the API but not implemented yet, and invalid values.
//!
//! A field that is not implemented never looks as if it worked: the operator sets `Accepted=False` with reason
//! `NotImplemented`, and the command line rejects the manifest. Both name the path of the field.

use crate::{
    memory::MemoryCeiling,
    v1alpha1::{DeletionPolicy, EmbeddingRunSpec, Format, OutputFormat, Processing, UpdatePolicy},
};

/// Why the memory ceiling of a spec is invalid, with the path of the field; `None` if it is valid. Unlike the pattern
/// of the schema, this detects a number that is too large.
pub fn memory_ceiling(spec: &EmbeddingRunSpec) -> Option<String> {
    let ceiling = spec.gpu.memory_ceiling.as_ref()?;
    let error = ceiling.parse::<MemoryCeiling>().err()?;
    Some(format!("spec.gpu.memoryCeiling is {ceiling:?}: {error}"))
}

/// The paths of the fields whose value in `spec` is not implemented yet.
pub fn not_implemented(spec: &EmbeddingRunSpec) -> Vec<String> {
    let mut paths = Paths(Vec::new());
    collections(spec, &mut paths);
    output(spec, &mut paths);
    paths.add_if("spec.gpu.claimTemplate", spec.gpu.claim_template.is_some());
    paths.add_if("spec.modelCache", spec.model_cache.is_some());
    paths.add_if("spec.queue", spec.queue.is_some());
    paths.add_if("spec.processing", spec.processing == Processing::Incremental);
    paths.add_if("spec.updatePolicy", spec.update_policy == UpdatePolicy::Finish);
    paths.add_if("spec.deletionPolicy", spec.deletion_policy == DeletionPolicy::DeleteOutputs);
    paths.0
}

struct Paths(Vec<String>);

impl Paths {
    fn add_if(&mut self, path: impl Into<String>, is_set: bool) {
        if is_set {
            self.0.push(path.into());
        }
    }
}

fn collections(spec: &EmbeddingRunSpec, paths: &mut Paths) {
    for (index, collection) in spec.collections.iter().enumerate() {
        let at = |field: &str| format!("spec.collections[{index}].{field}");
        paths.add_if(at("source.objectStore"), collection.source.object_store.is_some());
        paths.add_if(at("format"), matches!(collection.format, Format::Parquet | Format::Csv));
    }
}

fn output(spec: &EmbeddingRunSpec, paths: &mut Paths) {
    paths.add_if("spec.output.objectStore", spec.output.object_store.is_some());
    paths.add_if("spec.output.formats", spec.output.formats.iter().any(|format| *format != OutputFormat::Parquet));
    paths.add_if("spec.output.qdrant", spec.output.qdrant.is_some());
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use kube::CustomResourceExt;
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
    fn a_minimal_spec_sets_no_field_that_is_not_implemented() {
        assert_eq!(not_implemented(&serde_json::from_value(minimal()).expect("a spec")), Vec::<String>::new());
    }

    #[test]
    fn an_invalid_memory_ceiling_is_reported_with_its_path() {
        let check = |value: Option<&str>| {
            let mut spec = minimal();
            spec["gpu"] = json!({"memoryCeiling": value});
            memory_ceiling(&serde_json::from_value(spec).expect("a spec"))
        };
        assert_eq!([None, Some("12Gi"), Some("max")].map(check), [None, None, None]);
        assert_eq!(
            check(Some("99999999999Ti")).expect("too large"),
            "spec.gpu.memoryCeiling is \"99999999999Ti\": write a number of bytes such as 12Gi or 800M, or max"
        );
    }

    /// Values that are not implemented: the pointer into the spec, the value, the reported path.
    fn unimplemented() -> [(&'static str, Value, &'static str); 10] {
        [
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
        ]
    }

    #[test]
    fn every_field_that_is_not_implemented_is_reported_with_its_path() {
        for (pointer, value, path) in unimplemented() {
            assert_eq!(paths_of(pointer, value), [path], "{pointer}");
        }
    }

    #[test]
    fn the_examples_violate_no_rule_and_set_no_field_that_is_not_implemented() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples");
        let mut runs = 0;
        for entry in fs::read_dir(folder).expect("the examples") {
            let path = entry.expect("an example").path();
            if path.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
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

    #[test]
    fn the_description_of_every_field_that_is_not_implemented_says_so() {
        let crd = serde_json::to_value(EmbeddingRun::crd()).expect("a CRD");
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        for (.., path) in unimplemented() {
            let pointer = path.replace("[0]", "/items").replace('.', "/properties/");
            let field = schema.pointer(&format!("/properties/{pointer}")).expect(path);
            let description = field["description"].as_str().expect(path).replace('\n', " ");
            assert!(description.to_lowercase().contains("not implemented yet"), "{path}: {description}");
        }
    }
}
