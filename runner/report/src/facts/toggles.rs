//! Feature toggles with the layer that set each of them.

use std::collections::BTreeSet;

use crds::summary::FeatureToggles;

/// A toggle and the layer that set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toggle {
    /// The key.
    pub key: String,
    /// The resolved value.
    pub value: String,
    /// The layer that set it: `default`, `file`, `env`, `cli` or `spec`.
    pub layer: String,
    /// The variable, file or field that has the value.
    pub source: String,
    /// The default value, if another layer overrides it.
    pub default: Option<String>,
}

impl Toggle {
    /// `sparse: false (override via env; default true)`.
    pub fn sentence(&self) -> String {
        let Self { key, value, layer, .. } = self;
        match &self.default {
            Some(default) => format!("{key}: {value} (override via {layer}; default {default})"),
            None if self.is_default() => format!("{key}: {value} (default)"),
            None => format!("{key}: {value} (via {layer})"),
        }
    }

    /// Whether no layer overrides the default.
    pub fn is_default(&self) -> bool {
        self.layer == "default"
    }
}

/// Every toggle: the four stages, then all others that were resolved.
pub fn toggles(toggles: &FeatureToggles) -> Vec<Toggle> {
    let stages = [
        ("exclusive", toggles.exclusive),
        ("sparse", toggles.sparse),
        ("rerank", toggles.rerank),
        ("metrics", toggles.metrics),
    ];
    let mut listed: BTreeSet<&str> = stages.iter().map(|(key, _)| *key).collect();
    let others = toggles.provenance.iter().map(|entry| entry.key.as_str()).filter(|key| listed.insert(*key));
    let others: Vec<&str> = others.collect();
    let toggle = |key: &str, value: Option<bool>| {
        let set_by = |layer: &str| toggles.provenance.iter().rfind(|entry| entry.key == key && entry.layer == layer);
        let last = toggles.provenance.iter().rfind(|entry| entry.key == key);
        let layer = toggles.sources.get(key).cloned().or_else(|| last.map(|entry| entry.layer.clone()));
        let layer = layer.unwrap_or_else(|| "default".into());
        let default = set_by("default").filter(|_| layer != "default");
        Toggle {
            key: key.to_owned(),
            value: value.map(|value| value.to_string()).or(last.map(|entry| entry.value.clone())).unwrap_or_default(),
            source: set_by(&layer).map(|entry| entry.source.clone()).unwrap_or_default(),
            default: default.map(|entry| entry.value.clone()),
            layer,
        }
    };
    let stages = stages.into_iter().map(|(key, value)| toggle(key, Some(value)));
    stages.chain(others.into_iter().map(|key| toggle(key, None))).collect()
}

#[cfg(test)]
mod tests {
    use crds::summary::ToggleResolution;

    use super::*;
    use crate::sample;

    #[test]
    fn a_toggle_names_the_layer_that_set_it_and_its_default() {
        let sentences: Vec<String> = toggles(&sample::run().feature_toggles).iter().map(Toggle::sentence).collect();
        assert_eq!(
            sentences,
            [
                "exclusive: true (default)",
                "sparse: true (override via spec; default false)",
                "rerank: true (override via env; default false)",
                "metrics: true (default)",
            ]
        );
    }

    #[test]
    fn a_toggle_that_is_not_a_stage_is_listed_too() {
        let mut resolved = sample::run().feature_toggles;
        resolved.provenance.push(ToggleResolution {
            key: "sparse_models".into(),
            value: "splade".into(),
            source: "EMBEDDER_SPARSE_MODELS".into(),
            layer: "env".into(),
        });
        let listed = toggles(&resolved);
        assert_eq!(listed[4].sentence(), "sparse_models: splade (via env)");
        assert_eq!(listed[4].source, "EMBEDDER_SPARSE_MODELS");
    }
}
