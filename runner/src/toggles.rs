//! Which stages run, and who said so: the defaults, then the spec.

use std::collections::BTreeMap;

use crds::{
    summary::{FeatureToggles, ToggleResolution},
    v1alpha1::TogglesSpec,
};

/// Resolves the toggles of a spec.
pub fn resolve(spec: &TogglesSpec) -> FeatureToggles {
    let mut sources = BTreeMap::new();
    let mut provenance = Vec::new();
    let mut toggle = |key: &str, default: bool, spec: Option<bool>| {
        let mut said = |value: bool, source: String, layer: &str| {
            sources.insert(key.to_owned(), layer.to_owned());
            provenance.push(ToggleResolution {
                key: key.into(),
                value: value.to_string(),
                source,
                layer: layer.into(),
            });
        };
        said(default, "default".into(), "default");
        if let Some(value) = spec {
            said(value, format!("spec.toggles.{key}"), "spec");
        }
        spec.unwrap_or(default)
    };
    let exclusive = toggle("exclusive", true, spec.exclusive);
    let sparse = toggle("sparse", false, spec.sparse);
    let rerank = toggle("rerank", false, spec.rerank);
    let metrics = toggle("metrics", true, spec.metrics);
    FeatureToggles { exclusive, sparse, rerank, metrics, sources, provenance }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spec_overrides_the_default_and_both_are_recorded() {
        let resolved = resolve(&TogglesSpec { sparse: Some(false), ..TogglesSpec::default() });
        assert_eq!((resolved.exclusive, resolved.sparse, resolved.metrics), (true, false, true));
        assert_eq!((resolved.sources["sparse"].as_str(), resolved.sources["metrics"].as_str()), ("spec", "default"));
        let said: Vec<_> = resolved.provenance.iter().filter(|said| said.key == "sparse").collect();
        assert_eq!(said.len(), 2);
        assert_eq!((said[1].layer.as_str(), said[1].source.as_str()), ("spec", "spec.toggles.sparse"));
    }
}
