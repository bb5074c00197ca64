//! Checks the part of the CRD's schema that Rust types do not express: patterns, ranges and lengths.
//!
//! The API server validates a structural schema (OpenAPI v3 as Kubernetes restricts it). This module validates the same schema
//! without a server. Types, required fields and enums have been checked by deserialization.

use crds::{generated, v1alpha1::EmbeddingRun};
use regex::Regex;
use serde_json::Value;

/// The rules of the schema that a resource violates, each with the path of the field.
pub fn violations(run: &EmbeddingRun) -> Vec<String> {
    let crd: Value = serde_yaml_ng::from_str(&generated::crd_yaml()).expect("the generated CRD is YAML");
    let schema = crd.pointer("/spec/versions/0/schema/openAPIV3Schema").expect("the CRD has a schema");
    let run = serde_json::to_value(run).expect("a resource has string keys and finite numbers");
    let mut violations = Vec::new();
    check(schema, &run, "", &mut violations);
    violations
}

fn check(schema: &Value, value: &Value, path: &str, violations: &mut Vec<String>) {
    let mut violated = |rule: String| violations.push(format!("{path}: {rule}"));
    match value {
        Value::String(text) => {
            length(schema, "Length", "characters", text.chars().count(), &mut violated);
            if let Some(pattern) = schema["pattern"].as_str()
                && !Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text))
            {
                violated(format!("{text:?} must match {pattern}"));
            }
        }
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            if let Some(minimum) = schema["minimum"].as_f64().filter(|minimum| number < *minimum) {
                violated(format!("{number} must be at least {minimum}"));
            }
            if let Some(maximum) = schema["maximum"].as_f64().filter(|maximum| number > *maximum) {
                violated(format!("{number} must be at most {maximum}"));
            }
        }
        Value::Array(items) => {
            length(schema, "Items", "items", items.len(), &mut violated);
            for (index, item) in items.iter().enumerate() {
                check(&schema["items"], item, &format!("{path}[{index}]"), violations);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                let below = schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                check(below, field, &path, violations);
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn length(schema: &Value, bound: &str, unit: &str, count: usize, violated: &mut impl FnMut(String)) {
    let limit = |prefix: &str| schema[format!("{prefix}{bound}")].as_u64().map(|limit| limit as usize);
    if let Some(least) = limit("min").filter(|least| count < *least) {
        violated(format!("has {count} {unit}, must have at least {least}"));
    }
    if let Some(most) = limit("max").filter(|most| count > *most) {
        violated(format!("has {count} {unit}, must have at most {most}"));
    }
}
