//! The configuration of a pooling: `1_Pooling/config.json` of a dense encoder, and that of a SPLADE model.

use std::path::Path;

use serde::Deserialize;

use super::{files::Files, modules::Module};
use crate::{
    model::{ModelError, files::CONFIG},
    ops::Pooling,
};

/// Pooling modes, as `pooling_mode` names them.
const POOLING_MODES: [(&str, Pooling); 6] = [
    ("cls", Pooling::Cls),
    ("max", Pooling::Max),
    ("mean", Pooling::Mean),
    ("mean_sqrt_len_tokens", Pooling::MeanSqrtLength),
    ("weightedmean", Pooling::WeightedMean),
    ("lasttoken", Pooling::LastToken),
];

/// The pooling that a folder prescribes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderPooling {
    /// The modes; the vectors of several modes stand side by side.
    pub modes: Vec<Pooling>,
    /// Whether the tokens of a prompt are pooled with those of the text.
    pub includes_prompt: bool,
}

/// `1_Pooling/config.json`: `pooling_mode`, or before version 5.4 of `sentence-transformers` a flag per mode.
#[derive(Deserialize)]
struct PoolingConfig {
    pooling_mode: Option<Modes>,
    #[serde(default = "default_include_prompt")]
    include_prompt: bool,
    // In the order in which the vectors of several modes stand.
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_max_tokens: bool,
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_mean_sqrt_len_tokens: bool,
    #[serde(default)]
    pooling_mode_weightedmean_tokens: bool,
    #[serde(default)]
    pooling_mode_lasttoken: bool,
}

/// One mode or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Modes {
    One(String),
    Several(Vec<String>),
}

fn default_include_prompt() -> bool {
    true
}

impl PoolingConfig {
    /// The names of the modes. `pooling_mode` precedes the flags; without any mode, it is the mean.
    fn modes(&self) -> Vec<&str> {
        match &self.pooling_mode {
            Some(Modes::One(mode)) => vec![mode],
            Some(Modes::Several(modes)) => modes.iter().map(String::as_str).collect(),
            None => {
                let flags = [
                    self.pooling_mode_cls_token,
                    self.pooling_mode_max_tokens,
                    self.pooling_mode_mean_tokens,
                    self.pooling_mode_mean_sqrt_len_tokens,
                    self.pooling_mode_weightedmean_tokens,
                    self.pooling_mode_lasttoken,
                ];
                let set: Vec<&str> =
                    POOLING_MODES.iter().zip(flags).filter(|(_, set)| *set).map(|((name, _), _)| *name).collect();
                if set.is_empty() { vec!["mean"] } else { set }
            }
        }
    }
}

/// The pooling of the `Pooling` module in `dir`.
///
/// # Errors
/// If its configuration is invalid, has an unknown field, or names an unsupported mode or none.
pub fn pooling(files: &Files, dir: &Path) -> Result<FolderPooling, ModelError> {
    let file = dir.join(CONFIG);
    // The width is that of the encoder, which its own configuration says.
    let config: PoolingConfig = files.strict_json(&file, &["embedding_dimension", "word_embedding_dimension"])?;
    let unsupported = |mode: &str| {
        ModelError::unsupported(files.model(), &file, "pooling_mode", mode, &POOLING_MODES.map(|(name, _)| name))
    };
    let mode = |mode: &str| {
        let known = POOLING_MODES.iter().find(|(name, _)| *name == mode);
        known.map(|(_, pooling)| *pooling).ok_or_else(|| unsupported(mode))
    };
    let modes = config.modes().into_iter().map(mode).collect::<Result<Vec<_>, _>>()?;
    if modes.is_empty() {
        return Err(unsupported("[]"));
    }
    Ok(FolderPooling { modes, includes_prompt: config.include_prompt })
}

/// Checks that a `SpladePooling` module is the maximum over the tokens of log(1 + relu(logit)).
///
/// # Errors
/// If its configuration is invalid, has an unknown field, or requests another pooling.
pub fn expect_splade_max(files: &Files, module: &Module) -> Result<(), ModelError> {
    #[derive(Default, Deserialize)]
    struct SpladeConfig {
        pooling_strategy: Option<String>,
        activation_function: Option<String>,
    }
    let file = module.dir.join(CONFIG);
    // The width is that of the vocabulary, and slices of a sequence have the same maximum.
    let without_effect = ["embedding_dimension", "word_embedding_dimension", "chunk_size"];
    let config: SpladeConfig = files.optional_strict_json(&file, &without_effect)?;
    for (field, value, supported) in [
        ("pooling_strategy", config.pooling_strategy, "max"),
        ("activation_function", config.activation_function, "relu"),
    ] {
        if let Some(value) = value.filter(|value| value != supported) {
            return Err(ModelError::unsupported(files.model(), &file, field, &value, &[supported]));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;
    use crate::model::folder::ModuleKind;

    fn read(config: &Value) -> Result<FolderPooling, ModelError> {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join(CONFIG), config.to_string()).expect("a file");
        pooling(&Files::new("m", dir.path()), dir.path())
    }

    #[test]
    fn the_pooling_mode_is_read_in_all_its_spellings() {
        let all = POOLING_MODES.map(|(_, pooling)| pooling);
        let [cls, max, mean, sqrt, weighted, last] = all;
        for (config, modes) in [
            (json!({"pooling_mode": "cls"}), vec![cls]),
            (json!({"pooling_mode": ["mean"], "embedding_dimension": 64}), vec![mean]),
            (json!({"pooling_mode": ["mean", "cls"]}), vec![mean, cls]),
            (json!({"pooling_mode": "mean_sqrt_len_tokens"}), vec![sqrt]),
            (json!({"pooling_mode": "lasttoken", "pooling_mode_cls_token": true}), vec![last]),
            (json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}), vec![cls]),
            (json!({"word_embedding_dimension": 384, "pooling_mode_mean_tokens": true}), vec![mean]),
            (json!({"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true}), vec![cls, mean]),
            (json!({"pooling_mode_max_tokens": true}), vec![max]),
            (json!({"pooling_mode_weightedmean_tokens": true}), vec![weighted]),
            (json!({"pooling_mode_mean_sqrt_len_tokens": true}), vec![sqrt]),
            (json!({"pooling_mode_lasttoken": true}), vec![last]),
            (json!({"pooling_mode_mean_tokens": false, "pooling_mode_cls_token": false}), vec![mean]),
            (json!({"embedding_dimension": 64}), vec![mean]),
        ] {
            let found = read(&config).expect("a pooling");
            assert_eq!((found.modes, found.includes_prompt), (modes, true), "{config}");
        }
        assert!(!read(&json!({"pooling_mode": "cls", "include_prompt": false})).expect("a pooling").includes_prompt);
    }

    #[test]
    fn another_mode_no_mode_and_an_unknown_flag_are_rejected() {
        for (config, named) in [
            (json!({"pooling_mode": "median"}), "median"),
            (json!({"pooling_mode": ["mean", "median"]}), "median"),
            (json!({"pooling_mode": []}), "[]"),
            (json!({"pooling_mode_median_tokens": true}), "pooling_mode_median_tokens"),
            (json!({"pooling_mode": "mean", "include_prompts": false}), "include_prompts"),
        ] {
            let error = read(&config).expect_err("unsupported").to_string();
            assert!(error.contains(named) && error.contains("config.json"), "{error}");
        }
    }

    #[test]
    fn another_splade_pooling_is_rejected() {
        let dir = tempfile::tempdir().expect("a folder");
        let files = Files::new("m", dir.path());
        let module = Module { kind: ModuleKind::SpladePooling, dir: dir.path().join("SpladePooling") };
        expect_splade_max(&files, &module).expect("the default");
        fs::create_dir(&module.dir).expect("a folder");
        let write = |config: Value| {
            fs::write(module.dir.join(CONFIG), config.to_string()).expect("a file");
        };
        write(json!({"pooling_strategy": "max", "activation_function": "relu", "embedding_dimension": null}));
        expect_splade_max(&files, &module).expect("the maximum");
        for (field, value) in [("pooling_strategy", "sum"), ("activation_function", "log1p_relu"), ("top", "k")] {
            write(json!({field: value}));
            let message = expect_splade_max(&files, &module).expect_err("another pooling").to_string();
            assert!(message.contains(field) && message.contains(value), "{message}");
        }
    }
}
