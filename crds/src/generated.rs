//! The files that are generated from the types and committed.

use kube::CustomResourceExt;
use serde_json::{Value, json};

use crate::{reference, summary::ProcessingSummary, v1alpha1::EmbeddingRun};

/// The generated files: the path below the root of the repository, and the text.
pub fn files() -> [(&'static str, String); 4] {
    [
        ("crds/generated/embeddingruns.embedrun.dev.yaml", crd_yaml()),
        // Helm reads no file outside the chart.
        ("charts/embedrun/files/embeddingruns.embedrun.dev.yaml", crd_yaml()),
        // Not in docs/: a folder of documents is a collection, and JSON in it would be read as chunks.
        ("crds/generated/processing_summary.schema.json", summary_schema()),
        ("docs/reference/api.md", reference::markdown()),
    ]
}

/// The CustomResourceDefinition as YAML.
pub fn crd_yaml() -> String {
    let mut crd = serde_json::to_value(EmbeddingRun::crd()).expect("a CRD has string keys");
    // Until the operator has seen an object, observedGeneration is lower than its generation: kstatus reads that as
    // "in progress", never as "ready".
    if let Some(status) = crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/status") {
        status["default"] = json!({"observedGeneration": -1});
    }
    for list in ["collections", "models/properties/dense", "models/properties/sparse"] {
        let pointer = format!("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/{list}");
        if let Some(list) = crd.pointer_mut(&pointer) {
            merge_by_name(list);
        }
    }
    replace_unsigned_formats(&mut crd);
    serde_yaml_ng::to_string(&crd).expect("JSON is YAML")
}

/// Replaces the unsigned integer formats, which the API server warns about; the minimum of a field says the same.
fn replace_unsigned_formats(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::String(format)) = map.get_mut("format")
                && format.starts_with("uint")
            {
                *format = "int64".into();
            }
            map.values_mut().for_each(replace_unsigned_formats);
        }
        Value::Array(items) => items.iter_mut().for_each(replace_unsigned_formats),
        _ => {}
    }
}

/// Lets server-side apply merge a list by the name of its elements instead of replacing it.
fn merge_by_name(list: &mut Value) {
    list["x-kubernetes-list-type"] = json!("map");
    list["x-kubernetes-list-map-keys"] = json!(["name"]);
}

/// The JSON Schema of `processing_summary.json`.
fn summary_schema() -> String {
    let schema = schemars::schema_for!(ProcessingSummary);
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is JSON");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn the_committed_files_match_the_types() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for (path, text) in files() {
            let committed = fs::read_to_string(root.join(path)).unwrap_or_default();
            assert!(committed == text, "{path} differs from the types: run `make generate`");
        }
    }

    #[test]
    fn the_crd_stays_small_enough_to_be_applied() {
        // `kubectl apply` keeps a copy in the annotations, which hold 256 KiB.
        let size = crd_yaml().len();
        assert!(size < 96 * 1024, "{size} bytes");
    }
}
