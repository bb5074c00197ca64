//! The rotary positions that configurations ask for.

use std::sync::Arc;

use crate::{
    model::{ModelError, config::Config},
    ops::Rotary,
};

/// The base θ of the rotations, for one kind of layer where the kinds differ: `rope_parameters.KIND.rope_theta`,
/// `rope_parameters.rope_theta`, or the `old` field of configurations before `transformers` 5.
///
/// # Errors
/// If the configuration requests scaled rotations, or has no base.
pub fn theta(config: &Config, kind: &str, old: &'static str, default: Option<f64>) -> Result<f64, ModelError> {
    let parameters = config.get("rope_parameters");
    let parameters = parameters.get(kind).unwrap_or(parameters);
    for scaling in [parameters, config.get("rope_scaling")] {
        let kind = scaling.get("rope_type").or_else(|| scaling.get("type")).and_then(|kind| kind.as_str());
        config.expect("rope_scaling", kind.unwrap_or("default"), &["default"])?;
    }
    let theta = parameters.get("rope_theta").unwrap_or(config.get(old)).as_f64().or(default);
    theta.ok_or_else(|| config.missing(old))
}

/// The rotations of heads of `width` for `positions` positions.
pub fn rotary(theta: f64, width: usize, positions: usize) -> Arc<Rotary> {
    Arc::new(Rotary::new(&Rotary::frequencies(theta, width), positions))
}
