//! A model's folder as `candle-transformers` takes it: a configuration, and tensors by name.

use std::{collections::HashMap, fs, path::Path};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What is read of a folder.
pub struct Folder {
    /// `config.json`.
    pub config: Value,
    /// `modules.json`; null without one.
    pub modules: Value,
    /// The configuration of the pooling; null without one.
    pub pooling: Value,
    tokenizer: Value,
    tensors: HashMap<String, Tensor>,
}

impl Folder {
    /// Reads a folder.
    pub fn read(path: &Path) -> Self {
        let json = |name: &str| {
            fs::read(path.join(name)).map_or(Value::Null, |bytes| serde_json::from_slice(&bytes).expect("JSON"))
        };
        Self {
            config: json("config.json"),
            modules: json("modules.json"),
            pooling: json("1_Pooling/config.json"),
            tokenizer: json("tokenizer.json"),
            tensors: candle_core::safetensors::load(path.join("model.safetensors"), &Device::Cpu).expect("weights"),
        }
    }

    /// The configuration of a model, with the `changes` that it needs.
    pub fn config<T: DeserializeOwned>(&self, changes: &[(&str, Value)]) -> T {
        let mut config = self.config.clone();
        for (key, value) in changes {
            config[key] = value.clone();
        }
        serde_json::from_value(config).expect("a configuration of candle-transformers")
    }

    /// The tensors under their names.
    pub fn tensors(&self) -> VarBuilder<'static> {
        self.tensors_with("", [])
    }

    /// The tensors, and `more` of them, each with `prefix` unless it begins with it.
    pub fn tensors_with(
        &self,
        prefix: &str,
        more: impl IntoIterator<Item = (&'static str, Tensor)>,
    ) -> VarBuilder<'static> {
        let own = self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.clone()));
        let more = more.into_iter().map(|(name, tensor)| (name.to_owned(), tensor));
        let named = |name: String| if name.starts_with(prefix) { name } else { format!("{prefix}{name}") };
        let tensors = own.chain(more).map(|(name, tensor)| (named(name), tensor)).collect();
        VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu)
    }

    /// A tensor.
    pub fn tensor(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("the folder has the tensor {name}"))
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Whether the chain of modules has one of this type.
    pub fn has_module(&self, name: &str) -> bool {
        let modules = self.modules.as_array().map_or(&[][..], Vec::as_slice);
        modules.iter().any(|module| module["type"].as_str().is_some_and(|of| of.rsplit('.').next() == Some(name)))
    }

    /// The mode of the pooling, in its older spelling too.
    pub fn pooling_mode(&self) -> &str {
        let older = [("cls", "pooling_mode_cls_token"), ("mean", "pooling_mode_mean_tokens")];
        let flagged = || older.iter().find(|(_, flag)| self.pooling[flag] == true).map(|(mode, _)| *mode);
        self.pooling["pooling_mode"].as_str().or_else(flagged).expect("a pooling mode")
    }

    /// The token that pads a batch. What it is does not matter where there is a mask.
    pub fn padding_id(&self) -> u32 {
        self.config["pad_token_id"].as_u64().map_or(0, |id| id as u32)
    }

    /// The ids of the two answers of a generative reranker.
    pub fn yes_and_no(&self) -> [usize; 2] {
        ["yes", "no"].map(|token| self.tokenizer["model"]["vocab"][token].as_u64().expect("a token") as usize)
    }
}
