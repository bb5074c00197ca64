//! The part of the CRD's schema that types alone do not hold: patterns, ranges and lengths.
//!
//! The API server checks a structural schema (OpenAPI v3 as Kubernetes restricts it); here the same schema is
//! checked without one. Types, required fields and enums have been checked by deserialization.

use crds::{generated, v1alpha1::EmbeddingRun};
use regex::Regex;
use serde_json::Value;

/// What a resource breaks, each with the path of the field.
pub fn violations(run: &EmbeddingRun) -> Vec<String> {
    let crd: Value = serde_yaml_ng::from_str(&generated::crd_yaml()).expect("the generated CRD is YAML");
    let schema = crd.pointer("/spec/versions/0/schema/openAPIV3Schema").expect("the CRD has a schema");
    let run = serde_json::to_value(run).expect("a resource has string keys and finite numbers");
    let mut found = Vec::new();
    check(schema, &run, "", &mut found);
    found
}

fn check(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let mut broken = |rule: String| found.push(format!("{path}: {rule}"));
    match value {
        Value::String(text) => {
            length(schema, "Length", "characters", text.chars().count(), &mut broken);
            if let Some(pattern) = schema["pattern"].as_str()
                && !Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text))
            {
                broken(format!("{text:?} must match {pattern}"));
            }
        }
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            if let Some(minimum) = schema["minimum"].as_f64().filter(|minimum| number < *minimum) {
                broken(format!("{number} must be at least {minimum}"));
            }
            if let Some(maximum) = schema["maximum"].as_f64().filter(|maximum| number > *maximum) {
                broken(format!("{number} must be at most {maximum}"));
            }
        }
        Value::Array(items) => {
            length(schema, "Items", "items", items.len(), &mut broken);
            for (index, item) in items.iter().enumerate() {
                check(&schema["items"], item, &format!("{path}[{index}]"), found);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                let below = schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                check(below, field, &path, found);
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn length(schema: &Value, what: &str, unit: &str, found: usize, broken: &mut impl FnMut(String)) {
    let limit = |bound: &str| schema[format!("{bound}{what}")].as_u64().map(|limit| limit as usize);
    if let Some(least) = limit("min").filter(|least| found < *least) {
        broken(format!("has {found} {unit}, needs at least {least}"));
    }
    if let Some(most) = limit("max").filter(|most| found > *most) {
        broken(format!("has {found} {unit}, takes at most {most}"));
    }
}
