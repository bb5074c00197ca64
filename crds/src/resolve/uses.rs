//! Every model and every volume that a spec names, each with the field that names it.

use super::{
    error::ResolveError,
    volume::{Purpose, Volume},
    volume_path::VolumePath,
};
use crate::v1alpha1::{EmbeddingRunSpec, ModelSource};

/// A volume that a spec names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeUse<'a> {
    /// What the run uses it for.
    pub purpose: Purpose,
    /// The volume.
    pub volume: Volume<'a>,
    /// The key that the ConfigMap must have; `None` if the spec names no key.
    pub key: Option<&'a str>,
    /// The path of the field.
    pub field: String,
}

/// Every volume that a run mounts, in the order of the spec, the output last.
pub fn volumes<'a>(spec: &'a EmbeddingRunSpec, models: &'a [ModelUse]) -> Vec<VolumeUse<'a>> {
    let sources = spec.collections.iter().enumerate().filter_map(|(index, collection)| {
        let source = VolumePath::of_source(&collection.source)?;
        Some(VolumeUse {
            purpose: Purpose::Source(index),
            volume: source.volume,
            key: None,
            field: format!("spec.collections[{index}].source.{}", source.field),
        })
    });
    let models = models.iter().filter_map(|model| match &model.source {
        ModelSource::Claim { claim, .. } => Some(VolumeUse {
            purpose: model.purpose,
            volume: Volume::Claim(claim),
            key: None,
            field: model.field.clone(),
        }),
        ModelSource::Hub { .. } | ModelSource::File { .. } => None,
    });
    let queries = spec.rerank.as_ref().and_then(|rerank| rerank.queries.as_ref()).map(|queries| VolumeUse {
        purpose: Purpose::Queries,
        volume: Volume::ConfigMap(&queries.config_map.name),
        key: Some(&queries.config_map.key),
        field: "spec.rerank.queries.configMap".into(),
    });
    let output = VolumePath::of_output(&spec.output).map(|output| VolumeUse {
        purpose: Purpose::Output,
        volume: output.volume,
        key: None,
        field: format!("spec.output.{}", output.field),
    });
    sources.chain(models).chain(queries).chain(output).collect()
}

/// A model that a spec names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelUse {
    /// What the run uses it for.
    pub purpose: Purpose,
    /// Where the model is.
    pub source: ModelSource,
    /// The path of the field that names it.
    pub field: String,
}

/// Every model of a spec with its source parsed: the dense models, the sparse models, the reranker.
///
/// # Errors
///
/// [`ResolveError::Model`] for the first URI that is not a model source.
pub fn models(spec: &EmbeddingRunSpec) -> Result<Vec<ModelUse>, ResolveError> {
    let models = &spec.models;
    let dense = models.dense.iter().enumerate().map(|(index, model)| {
        (Purpose::DenseModel(index), &model.source, format!("spec.models.dense[{index}].source"))
    });
    let sparse = models.sparse.iter().enumerate().map(|(index, model)| {
        (Purpose::SparseModel(index), &model.source, format!("spec.models.sparse[{index}].source"))
    });
    let reranker = models
        .reranker
        .iter()
        .map(|model| (Purpose::Reranker, &model.source, "spec.models.reranker.source".to_owned()));
    let parse = |(purpose, uri, field): (Purpose, &String, String)| match uri.parse() {
        Ok(source) => Ok(ModelUse { purpose, source, field }),
        Err(source) => Err(ResolveError::Model { field, source }),
    };
    dense.chain(sparse).chain(reranker).map(parse).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec() -> EmbeddingRunSpec {
        serde_json::from_value(json!({
            "collections": [
                {"name": "a", "source": {"pvc": {"claimName": "chunks"}}},
                {"name": "b", "source": {"configMap": {"name": "notes"}}}
            ],
            "models": {
                "dense": [{"name": "d", "source": "hf://o/d@main"}, {"name": "e", "source": "pvc://models/e"}],
                "sparse": [{"name": "s", "source": "pvc://sparse/s"}],
                "reranker": {"name": "r", "source": "pvc://models/r"}
            },
            "rerank": {"queries": {"configMap": {"name": "queries", "key": "q.jsonl"}}},
            "output": {"hostPath": {"path": "/out"}}
        }))
        .expect("a spec")
    }

    #[test]
    fn every_volume_of_a_run_is_listed_with_the_field_that_names_it() {
        let spec = spec();
        let models = models(&spec).expect("models");
        let listed: Vec<_> = volumes(&spec, &models)
            .into_iter()
            .map(|volume| (volume.purpose.volume_name(), volume.volume, volume.key, volume.field))
            .collect();
        let volume = |name: &str, volume, key, field: &str| (name.to_owned(), volume, key, field.to_owned());
        assert_eq!(
            listed,
            [
                volume("source-0", Volume::Claim("chunks"), None, "spec.collections[0].source.pvc"),
                volume("source-1", Volume::ConfigMap("notes"), None, "spec.collections[1].source.configMap"),
                volume("dense-1", Volume::Claim("models"), None, "spec.models.dense[1].source"),
                volume("sparse-0", Volume::Claim("sparse"), None, "spec.models.sparse[0].source"),
                volume("reranker", Volume::Claim("models"), None, "spec.models.reranker.source"),
                volume("queries", Volume::ConfigMap("queries"), Some("q.jsonl"), "spec.rerank.queries.configMap"),
                volume("output", Volume::HostPath("/out"), None, "spec.output.hostPath"),
            ]
        );
    }

    #[test]
    fn a_model_source_that_cannot_be_read_is_named_by_its_field() {
        let mut spec = spec();
        spec.models.sparse[0].source = "splade".into();
        let error = models(&spec).expect_err("no source").to_string();
        assert!(error.starts_with("spec.models.sparse[0].source: \"splade\" is not a model source"), "{error}");
    }
}
