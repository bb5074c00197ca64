//! The configuration of a pooling: `1_Pooling/config.json` of a dense encoder, and that of a SPLADE model.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

use super::{
    json::{read_json, read_optional_json},
    modules::Module,
};
use crate::{
    model::{ModelError, files::CONFIG},
    ops::Pooling,
};

/// Pooling modes, as `1_Pooling/config.json` names them.
const POOLING_MODES: [(&str, Pooling); 6] = [
    ("cls", Pooling::Cls),
    ("mean", Pooling::Mean),
    ("lasttoken", Pooling::LastToken),
    ("max", Pooling::Max),
    ("weightedmean", Pooling::WeightedMean),
    ("mean_sqrt_len", Pooling::MeanSqrtLength),
];

/// `1_Pooling/config.json`: either one `pooling_mode`, or a flag per mode.
#[derive(Deserialize)]
struct PoolingConfig {
    pooling_mode: Option<String>,
    #[serde(default = "default_include_prompt")]
    include_prompt: bool,
    #[serde(flatten)]
    fields: BTreeMap<String, serde_json::Value>,
}

fn default_include_prompt() -> bool {
    true
}

impl PoolingConfig {
    fn read(model: &str, module: &Module) -> Result<(Self, PathBuf), ModelError> {
        let file = module.dir.join(CONFIG);
        Ok((read_json(model, &file)?, file))
    }

    /// The name of the mode; the names of several modes joined by `+`.
    fn mode(self) -> String {
        self.pooling_mode.unwrap_or_else(|| {
            let enabled = self.fields.iter().filter(|(_, value)| **value == serde_json::Value::Bool(true));
            let names: Vec<&str> = enabled
                .filter_map(|(key, _)| key.strip_prefix("pooling_mode_"))
                .map(|mode| mode.trim_end_matches("_tokens").trim_end_matches("_token"))
                .map(|mode| if mode == "max" || mode == "max_over" { "max" } else { mode })
                .collect();
            names.join("+")
        })
    }
}

/// The pooling of a `Pooling` module.
///
/// # Errors
/// If its configuration is invalid, or names an unsupported mode or several.
pub fn pooling(model: &str, module: &Module) -> Result<Pooling, ModelError> {
    let (config, file) = PoolingConfig::read(model, module)?;
    let mode = config.mode();
    let known = POOLING_MODES.iter().find(|(name, _)| *name == mode);
    known.map(|(_, pooling)| *pooling).ok_or_else(|| {
        ModelError::unsupported(model, &file, "pooling mode", &mode, &POOLING_MODES.map(|(name, _)| name))
    })
}

/// Whether a `Pooling` module pools the tokens of a prompt with those of the text.
///
/// # Errors
/// If its configuration is invalid.
pub fn includes_prompt(model: &str, module: &Module) -> Result<bool, ModelError> {
    Ok(PoolingConfig::read(model, module)?.0.include_prompt)
}

/// Checks that a `SpladePooling` module is the maximum over the tokens of log(1 + relu(logit)).
///
/// # Errors
/// If its configuration is invalid, or requests another pooling.
pub fn expect_splade_max(model: &str, module: &Module) -> Result<(), ModelError> {
    #[derive(Default, Deserialize)]
    struct SpladeConfig {
        pooling_strategy: Option<String>,
        activation_function: Option<String>,
    }
    let file = module.dir.join(CONFIG);
    let config: SpladeConfig = read_optional_json(model, &file)?;
    for (field, value, supported) in [
        ("pooling_strategy", config.pooling_strategy, "max"),
        ("activation_function", config.activation_function, "relu"),
    ] {
        if let Some(value) = value.filter(|value| value != supported) {
            return Err(ModelError::unsupported(model, &file, field, &value, &[supported]));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::model::folder::ModuleKind;

    #[test]
    fn the_pooling_mode_is_read_in_the_old_and_the_new_form() {
        let cases = [
            (json!({"pooling_mode": "cls"}), "cls"),
            (json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}), "cls"),
            (
                json!({"word_embedding_dimension": 384, "pooling_mode_mean_tokens": true, "include_prompt": true}),
                "mean",
            ),
            (json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}), "cls+mean"),
            (json!({"pooling_mode_weightedmean_tokens": true}), "weightedmean"),
            (json!({"pooling_mode_max_tokens": true}), "max"),
            (json!({"pooling_mode_mean_sqrt_len_tokens": true}), "mean_sqrt_len"),
            (json!({"pooling_mode_lasttoken": true}), "lasttoken"),
            (json!({"pooling_mode_mean_tokens": false}), ""),
        ];
        for (config, mode) in cases {
            let parsed: PoolingConfig = serde_json::from_value(config.clone()).expect("a pooling configuration");
            assert_eq!(parsed.mode(), mode, "{config}");
        }
    }
    #[test]
    fn another_splade_pooling_is_rejected() {
        let dir = tempfile::tempdir().expect("a folder");
        let module = Module { kind: ModuleKind::SpladePooling, dir: dir.path().join("SpladePooling") };
        expect_splade_max("m", &module).expect("the default");
        fs::create_dir(&module.dir).expect("a folder");
        let write = |config: serde_json::Value| {
            fs::write(module.dir.join(CONFIG), config.to_string()).expect("a file");
        };
        write(json!({"pooling_strategy": "max", "activation_function": "relu"}));
        expect_splade_max("m", &module).expect("the maximum");
        for (field, value) in [("pooling_strategy", "sum"), ("activation_function", "log1p_relu")] {
            write(json!({field: value}));
            let message = expect_splade_max("m", &module).expect_err("another pooling").to_string();
            assert!(message.contains(field) && message.contains(value), "{message}");
        }
    }
}
