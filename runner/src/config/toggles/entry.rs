//! The toggles, and a value of one as a layer or a flag sets it.

/// A toggle: its key in files, on the command line and in the summary, and its environment variable.
pub(super) struct Toggle {
    pub(super) key: &'static str,
    pub(super) variable: &'static str,
}

/// Every toggle. The variables of the Python pipeline keep their names.
pub(super) const TOGGLES: [Toggle; 10] = [
    Toggle { key: "exclusive", variable: "EMBEDRUN_EXCLUSIVE" },
    Toggle { key: "sparse", variable: "EMBEDDER_ENABLE_SPARSE" },
    Toggle { key: "rerank", variable: "EMBEDDER_ENABLE_RERANK" },
    Toggle { key: "metrics", variable: "EMBEDDER_METRICS_ENABLED" },
    Toggle { key: "sparse_models", variable: "EMBEDDER_SPARSE_MODELS" },
    Toggle { key: "memory_ceiling", variable: "EMBEDRUN_MEMORY_CEILING" },
    Toggle { key: "batch_tokens", variable: "EMBEDRUN_BATCH_TOKENS" },
    Toggle { key: "workers", variable: "EMBEDRUN_WORKERS" },
    Toggle { key: "max_record", variable: "EMBEDRUN_MAX_RECORD" },
    Toggle { key: "max_text", variable: "EMBEDRUN_MAX_TEXT" },
];

/// The value of a toggle in one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToggleEntry {
    pub(super) key: &'static str,
    pub(super) value: String,
    /// The file, variable, field or flag that sets the value.
    pub(super) source: String,
    /// `default`, `file`, `dotenv`, `env`, `spec` or `cli`.
    pub(super) layer: &'static str,
}

/// A `KEY=VALUE` of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    pub(super) key: &'static str,
    pub(super) value: String,
}

impl std::str::FromStr for Flag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
        let key = known_key(key).ok_or_else(|| format!("unknown toggle {key:?}; known: {}", known_keys()))?;
        Ok(Self { key, value: value.to_owned() })
    }
}

/// The key as a constant; `None` if no toggle has it.
pub(super) fn known_key(key: &str) -> Option<&'static str> {
    TOGGLES.iter().map(|toggle| toggle.key).find(|known| *known == key)
}

pub(super) fn known_keys() -> String {
    TOGGLES.map(|toggle| toggle.key).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_known_toggles() {
        assert_eq!("rerank=false".parse(), Ok(Flag { key: "rerank", value: "false".into() }));
        assert!("reranking=false".parse::<Flag>().expect_err("unknown").contains("sparse_models"));
        assert!("rerank".parse::<Flag>().is_err());
    }
}
