//! The pod override of a run, `spec.template`.

use crds::v1alpha1::EmbeddingRunSpec;
use k8s_openapi::api::core::v1::PodTemplateSpec;

/// Parses the pod override of a run; `None` if it has none.
///
/// # Errors
///
/// The error of the deserializer if the override is not a `PodTemplateSpec`.
pub fn parse_template(spec: &EmbeddingRunSpec) -> Result<Option<PodTemplateSpec>, serde_json::Error> {
    spec.template.clone().map(serde_json::from_value).transpose()
}
