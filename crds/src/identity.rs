//! The identity of a run: the fields of the spec that determine the output, and the revision that is their hash.
//!
//! Two specs with the same revision give the same output, so a complete revision is never computed again. Every field
//! of the spec is either in [`Identity`] or belongs to the execution or lifecycle class; a test ensures that a new
//! field has exactly one class.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::v1alpha1::{
    CollectionSpec, EmbeddingRunSpec, FusionSpec, ModelsSpec, OutputSpec, Processing, RerankSpec, TogglesSpec,
};

/// The fields of the spec that determine the output.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Identity<'a> {
    collections: &'a [CollectionSpec],
    models: &'a ModelsSpec,
    #[serde(skip_serializing_if = "Option::is_none")]
    toggles: Option<&'a TogglesSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fusion: Option<&'a FusionSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rerank: Option<&'a RerankSpec>,
    output: OutputSpec,
    processing: Processing,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_revision: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rerun_token: Option<&'a str>,
}

/// The fields of the spec by class, for the API reference and the tests.
pub const FIELD_CLASSES: [(&str, &[&str]); 3] = [
    (
        "identity",
        &[
            "collections",
            "models",
            "toggles",
            "fusion",
            "rerank",
            "output",
            "processing",
            "sourceRevision",
            "rerunToken",
        ],
    ),
    ("execution", &["gpu", "execution", "hub", "modelCache", "queue", "updatePolicy", "template"]),
    ("lifecycle", &["suspend", "ttlSecondsAfterFinished", "historyLimit", "deletionPolicy"]),
];

/// The digits of a revision: 128 bits, so that nobody finds two identities with the same revision.
const DIGITS: usize = 32;
/// The digits of its short form; earlier releases had revisions of this length.
const SHORT_DIGITS: usize = 10;

/// The first 32 hexadecimal digits of the sha256 of a run's canonical identity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(String);

impl Revision {
    /// The revision of a spec.
    pub fn of(spec: &EmbeddingRunSpec) -> Self {
        let mut digits = identity_sha256(spec);
        digits.truncate(DIGITS);
        Self(digits)
    }

    /// A revision that was read from a label, a status or a file.
    pub fn from_recorded(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// All digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first ten digits, for people and for the names of child objects.
    pub fn short(&self) -> &str {
        self.0.get(..SHORT_DIGITS).unwrap_or(&self.0)
    }

    /// Whether `recorded` is this revision, in full or in the short form that earlier releases recorded.
    pub fn is_recorded_as(&self, recorded: &str) -> bool {
        recorded == self.0 || (recorded.len() == SHORT_DIGITS && recorded == self.short())
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The sha256 of the canonical identity of a spec, in hexadecimal.
pub fn identity_sha256(spec: &EmbeddingRunSpec) -> String {
    hex::encode(Sha256::digest(canonical_identity(spec).as_bytes()))
}

/// The identity of a spec as canonical JSON: sorted keys, no white space, unset fields left out.
pub fn canonical_identity(spec: &EmbeddingRunSpec) -> String {
    let mut output = spec.output.clone();
    // Credentials do not change the output.
    if let Some(bucket) = &mut output.object_store {
        bucket.credentials_secret = None;
    }
    if let Some(qdrant) = &mut output.qdrant {
        qdrant.api_key_secret_ref = None;
    }
    let identity = Identity {
        collections: &spec.collections,
        models: &spec.models,
        toggles: spec.toggles.as_ref(),
        fusion: spec.fusion.as_ref(),
        rerank: spec.rerank.as_ref(),
        output,
        processing: spec.processing,
        source_revision: spec.source_revision.as_deref(),
        rerun_token: spec.rerun_token.as_deref(),
    };
    let value = serde_json::to_value(identity).expect("a spec has string keys and finite numbers");
    canonical_json(&value)
}

/// JSON with sorted keys and no white space, for any map type that `serde_json` was built with.
pub fn canonical_json(value: &Value) -> String {
    let mut out = String::new();
    write_canonical(value, &mut out);
    out
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                write_canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use kube::CustomResourceExt;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::v1alpha1::EmbeddingRun;

    fn spec(value: Value) -> EmbeddingRunSpec {
        serde_json::from_value(value).expect("a spec")
    }

    /// Two values of `rerunToken` with which [`handbook`] has the same short revision.
    const COLLIDING_TOKENS: [&str; 2] = ["790264", "1091308"];

    fn handbook() -> Value {
        json!({
            "collections": [{"name": "handbook", "source": {"pvc": {"claimName": "chunks", "path": "handbook/"}}}],
            "models": {"dense": [{"name": "minilm", "source": "pvc://models/all-MiniLM-L6-v2"}]},
            "output": {"pvc": {"claimName": "vectors"}}
        })
    }

    #[test]
    fn the_bytes_of_the_identity_are_pinned() {
        assert_eq!(
            canonical_identity(&spec(handbook())),
            concat!(
                r#"{"collections":[{"fields":{"id":"id","metadata":"metadata","text":"text"},"format":"Auto","#,
                r#""name":"handbook","source":{"pvc":{"claimName":"chunks","path":"handbook/"}}}],"#,
                r#""models":{"dense":[{"name":"minilm","optional":false,"source":"pvc://models/all-MiniLM-L6-v2","weight":1.0}]},"#,
                r#""output":{"formats":["Parquet"],"pvc":{"claimName":"vectors","path":""}},"processing":"Full"}"#
            )
        );
        let revision = Revision::of(&spec(handbook()));
        assert_eq!(revision.short(), "d0544c45bd");
        assert_eq!(revision.as_str(), &identity_sha256(&spec(handbook()))[..32]);
    }

    #[test]
    fn a_revision_is_recognized_in_the_short_form_of_earlier_releases() {
        let revision = Revision::of(&spec(handbook()));
        assert!(revision.is_recorded_as(revision.as_str()) && revision.is_recorded_as("d0544c45bd"));
        assert_eq!(Revision::from_recorded("d0544c45bd").short(), "d0544c45bd");
        for other in ["", "d0544", "d0544c45bc", "d0544c45bd0"] {
            assert!(!revision.is_recorded_as(other), "{other}");
        }
    }

    #[test]
    fn identities_whose_short_revisions_collide_have_different_revisions() {
        // Found by search: the sha256 of both identities begin with the same 40 bits.
        let with_token = |token: &str| {
            let mut value = handbook();
            value["rerunToken"] = json!(token);
            Revision::of(&spec(value))
        };
        let [one, two] = COLLIDING_TOKENS.map(with_token);
        assert_eq!(one.short(), two.short());
        assert_ne!(one, two);
    }

    #[test]
    fn a_number_is_read_exactly_as_it_is_written() {
        // Without its feature float_roundtrip, serde_json reads this number as the next smaller or larger one.
        let mut other = handbook();
        other["models"]["dense"][0]["weight"] = json!(0.907_303_832_202_868_9);
        let read = serde_json::from_str(&other.to_string()).expect("a spec");
        assert!(canonical_identity(&read).contains("0.9073038322028689"), "{}", canonical_identity(&read));
    }

    #[test]
    fn an_execution_or_lifecycle_field_does_not_change_the_revision() {
        let mut other = handbook();
        other["execution"] = json!({"parallelism": 8, "shardSize": 5});
        other["gpu"] = json!({"count": 2, "memoryCeiling": "max"});
        other["suspend"] = json!(true);
        other["historyLimit"] = json!(1);
        other["template"] = json!({"metadata": {"labels": {"team": "search"}}});
        assert_eq!(Revision::of(&spec(handbook())), Revision::of(&spec(other)));
    }

    #[test]
    fn every_identity_field_changes_the_revision() {
        let changes = [
            ("/collections/0/name", json!("other")),
            ("/models/dense/0/source", json!("pvc://models/other")),
            ("/models/dense/0/weight", json!(0.5)),
            ("/models/dense/0/optional", json!(true)),
            ("/models/sparse", json!([{"name": "splade", "source": "pvc://models/splade"}])),
            ("/models/reranker", json!({"name": "ce", "source": "pvc://models/ce"})),
            ("/toggles", json!({"metrics": false})),
            ("/fusion", json!({"method": "WeightedMean"})),
            ("/rerank", json!({"topK": 3})),
            ("/rerank", json!({"queries": {"configMap": {"name": "queries", "key": "q.jsonl"}}})),
            ("/output/formats", json!(["Parquet", "QdrantJsonLines"])),
            ("/processing", json!("Incremental")),
            ("/sourceRevision", json!("2026-11-23")),
            ("/rerunToken", json!("again")),
        ];
        let mut revisions = BTreeSet::from([Revision::of(&spec(handbook()))]);
        for (pointer, value) in changes {
            let mut other = handbook();
            let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
            other.pointer_mut(parent).expect(pointer)[key] = value;
            assert!(revisions.insert(Revision::of(&spec(other))), "{pointer}");
        }
    }

    #[test]
    fn every_field_of_the_schema_has_exactly_one_class() {
        let crd = serde_json::to_value(EmbeddingRun::crd()).expect("a CRD");
        let schema = crd
            .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties")
            .and_then(Value::as_object)
            .expect("the properties of the spec");
        let fields: Vec<&str> = schema.keys().map(String::as_str).collect();
        let mut classified: Vec<&str> = FIELD_CLASSES.iter().flat_map(|(_, fields)| fields.iter().copied()).collect();
        classified.sort_unstable();
        let mut fields = fields;
        fields.sort_unstable();
        assert_eq!(classified, fields);
    }

    #[test]
    fn the_order_of_keys_and_the_form_of_a_number_do_not_matter() {
        let one: Value = serde_json::from_str(r#"{"name":"m","source":"file:///m","weight":1}"#).expect("JSON");
        let two: Value = serde_json::from_str(r#"{"weight":1.0,"source":"file:///m","name":"m"}"#).expect("JSON");
        let with = |model: Value| {
            let mut value = handbook();
            value["models"]["dense"][0] = model;
            Revision::of(&spec(value))
        };
        assert_eq!(with(one), with(two));
    }

    proptest! {
        #[test]
        fn canonical_json_is_json_and_keeps_the_value(keys in proptest::collection::vec(".{0,8}", 0..8), number in any::<i64>()) {
            let value = Value::Object(keys.into_iter().map(|key| (key, json!([number, "\u{1}\"", null]))).collect());
            let back: Value = serde_json::from_str(&canonical_json(&value)).expect("JSON");
            prop_assert_eq!(back, value);
        }
    }
}
