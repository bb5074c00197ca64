//! The rotary positions that configurations ask for.

use std::sync::Arc;

use crate::{
    model::{ModelError, config::Config},
    ops::Rotary,
};

/// The fields of `rope_parameters` and `rope_scaling`. A factor and the former number of positions have an effect with
/// scaled rotations only, which are rejected.
const KNOWN: [&str; 8] = [
    "factor",
    "full_attention",
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "rope_theta",
    "rope_type",
    "sliding_attention",
    "type",
];

/// The base θ of the rotations, for one kind of layer where the kinds differ: `rope_parameters.KIND.rope_theta`,
/// `rope_parameters.rope_theta`, or the `old` field of configurations before `transformers` 5.
///
/// # Errors
/// If the configuration requests scaled rotations, or has no base.
pub fn theta(config: &Config, kind: &str, old: &'static str, default: Option<f64>) -> Result<f64, ModelError> {
    for field in ["rope_parameters", "rope_scaling"] {
        config.expect_fields(field, &KNOWN);
    }
    let parameters = config.get("rope_parameters");
    let parameters = parameters.get(kind).unwrap_or(parameters);
    for scaling in [parameters, config.get("rope_scaling")] {
        let kind = scaling.get("rope_type").or_else(|| scaling.get("type")).and_then(|kind| kind.as_str());
        config.expect("rope_scaling", kind.unwrap_or("default"), &["default"])?;
        if let Some(part) = scaling.get("partial_rotary_factor").and_then(serde_json::Value::as_f64) {
            config.expect("partial_rotary_factor", &part.to_string(), &["1"])?;
        }
    }
    let theta = parameters.get("rope_theta").unwrap_or(config.get(old)).as_f64().or(default);
    theta.ok_or_else(|| config.missing(old))
}

/// The rotations of heads of `width` for `positions` positions.
pub fn rotary(theta: f64, width: usize, positions: usize) -> Arc<Rotary> {
    Arc::new(Rotary::new(&Rotary::frequencies(theta, width), positions))
}
