//! The API reference, generated from the schema of the CRD: one row per field with its type, default and bounds.

use std::fmt::Write as _;

use kube::CustomResourceExt;
use serde_json::Value;

use crate::{identity::FIELD_CLASSES, v1alpha1::EmbeddingRun};

/// The reference as Markdown.
pub fn markdown() -> String {
    let crd = serde_json::to_value(EmbeddingRun::crd()).expect("a CRD has string keys");
    let schema = |part: &str| {
        crd.pointer(&format!("/spec/versions/0/schema/openAPIV3Schema/properties/{part}")).unwrap_or(&Value::Null)
    };
    let mut text = String::from(
        "# API reference\n\n\
         `embedrun.dev/v1alpha1`, kind `EmbeddingRun`, short name `erun`. Generated from the types by `make generate`.\n\n\
         A change of an *identity* field is a new revision; an *execution* field applies to Jobs not yet started; a\n\
         *lifecycle* field applies in place. Required fields are in bold. Fields that are rejected until they are implemented are listed in\n\
         [Write a manifest](../guides/write-a-manifest.md#fields-without-an-implementation).\n",
    );
    for (class, fields) in FIELD_CLASSES {
        for field in fields {
            let node = &schema("spec")["properties"][*field];
            let _ = write!(text, "\n## spec.{field}\n\n*{class}* · {}\n", description(node, Some(class)));
            table(&format!("spec.{field}"), node, &mut text);
        }
    }
    text.push_str("\n## status\n\nWritten by the operator alone.\n");
    table("status", schema("status"), &mut text);
    text
}

/// Appends the table of a field and all fields below it.
fn table(path: &str, node: &Value, text: &mut String) {
    let mut rows = Vec::new();
    collect(path, node, false, &mut rows);
    text.push_str("\n| field | type | default | description |\n|---|---|---|---|\n");
    for row in rows {
        text.push_str(&row);
    }
}

fn collect(path: &str, node: &Value, required: bool, rows: &mut Vec<String>) {
    let default = node.get("default").map_or_else(String::new, |value| format!("`{value}`"));
    let name = if required { format!("**`{path}`**") } else { format!("`{path}`") };
    rows.push(format!("| {name} | {} | {default} | {} |\n", type_of(node), description(node, None)));
    let item = node.get("items").filter(|items| items.get("properties").is_some());
    let (object, path) = match item {
        // Kubernetes documents its own types.
        Some(_) if path.ends_with("tolerations") || path.ends_with("conditions") => return,
        Some(item) => (item, format!("{path}[]")),
        None => (node, path.to_owned()),
    };
    let Some(properties) = object.get("properties").and_then(Value::as_object) else {
        return;
    };
    let required: Vec<&str> = object["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (key, child) in properties {
        collect(&format!("{path}.{key}"), child, required.contains(&key.as_str()), rows);
    }
}

fn type_of(node: &Value) -> String {
    if let Some(values) = node["enum"].as_array() {
        let names: Vec<String> = values.iter().filter_map(Value::as_str).map(|name| format!("`{name}`")).collect();
        return names.join(", ");
    }
    let name = node["type"].as_str().unwrap_or("object");
    let bound = |key: &str| node.get(key).map(|value| value.to_string().trim_end_matches(".0").to_owned());
    let range = match (bound("minimum"), bound("maximum")) {
        (Some(low), Some(high)) => format!(" {low} to {high}"),
        (Some(low), None) => format!(" ≥ {low}"),
        (None, Some(high)) => format!(" ≤ {high}"),
        (None, None) => String::new(),
    };
    format!("{name}{range}")
}

/// The description on one line, without its leading class.
fn description(node: &Value, class: Option<&str>) -> String {
    let text = node["description"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    let text = text.replace('|', "\\|");
    match class {
        Some(class) => {
            let prefix = format!("{}{}. ", class[..1].to_uppercase(), &class[1..]);
            text.strip_prefix(&prefix).map(str::to_owned).unwrap_or(text)
        }
        None => ["Identity. ", "Execution. ", "Lifecycle. "]
            .iter()
            .find_map(|prefix| text.strip_prefix(prefix))
            .unwrap_or(&text)
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_the_spec_has_a_row_with_a_description() {
        let text = markdown();
        for field in ["spec.collections[].source.pvc.claimName", "spec.gpu.required", "spec.output.qdrant.url"] {
            assert!(text.contains(field), "{field}");
        }
        let bare: Vec<&str> = text.lines().filter(|line| line.starts_with("| ") && line.ends_with("|  |")).collect();
        assert_eq!(bare, Vec::<&str>::new());
    }
}
