//! Where the volumes of a run are: in a pod under fixed mount paths, on one machine where the user says.
//!
//! [`resolve`] turns a spec into the [`RunnerConfig`] that the runner executes. The operator and the command
//! line call the same function with another [`Volumes`], so that both mean the same by a manifest.

use crate::{
    contract::{
        CONTRACT_VERSION, CollectionConfig, DenseConfig, Place, RerankConfig, RerankerConfig, RunRef, RunnerConfig,
        SparseConfig,
    },
    identity::Revision,
    v1alpha1::{EmbeddingRunSpec, ModelSource, ModelSourceError, OutputSpec, QueriesSpec, SourceSpec},
};

/// What a volume is used for; the index counts collections or models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The source of a collection, read only.
    Source(usize),
    /// The folder of a dense model, read only.
    DenseModel(usize),
    /// The folder of a sparse model, read only.
    SparseModel(usize),
    /// The folder of the reranker, read only.
    Reranker,
    /// The file of the queries, read only.
    Queries,
    /// The output, read and written.
    Output,
}

impl Purpose {
    /// The name of the volume in a pod, a DNS label.
    pub fn volume_name(self) -> String {
        match self {
            Self::Source(index) => format!("source-{index}"),
            Self::DenseModel(index) => format!("dense-{index}"),
            Self::SparseModel(index) => format!("sparse-{index}"),
            Self::Reranker => "reranker".into(),
            Self::Queries => "queries".into(),
            Self::Output => "output".into(),
        }
    }
}

/// The volume behind a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volume<'a> {
    /// A persistent volume claim.
    Claim(&'a str),
    /// A path of the node.
    HostPath(&'a str),
    /// The keys of a ConfigMap as files.
    ConfigMap(&'a str),
}

/// Says where the root of a volume is for the process that runs.
pub trait Volumes {
    /// The absolute path of the root of `volume`, or why it cannot be had.
    fn root(&self, purpose: Purpose, volume: Volume<'_>) -> Result<String, ResolveError>;
}

/// The mount paths in the pods that the operator builds.
#[derive(Clone, Copy, Debug, Default)]
pub struct PodVolumes;

impl PodVolumes {
    /// Where a volume is mounted.
    pub fn mount_path(purpose: Purpose) -> String {
        format!("/embedrun/volumes/{}", purpose.volume_name())
    }
}

impl Volumes for PodVolumes {
    fn root(&self, purpose: Purpose, _: Volume<'_>) -> Result<String, ResolveError> {
        Ok(Self::mount_path(purpose))
    }
}

/// A spec that cannot be turned into a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// A model URI that is none of the known forms.
    #[error("{field}: {source}")]
    Model {
        /// The path of the field.
        field: String,
        /// What is wrong with it.
        source: ModelSourceError,
    },
    /// A volume that this process has no place for.
    #[error("{field}: {message}")]
    Volume {
        /// The path of the field.
        field: String,
        /// What is wrong and what to do.
        message: String,
    },
}

/// One volume that a spec asks for, with the field that asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeUse<'a> {
    /// What it is for.
    pub purpose: Purpose,
    /// What it is.
    pub volume: Volume<'a>,
    /// The key that a ConfigMap has to have, where the spec names one.
    pub key: Option<&'a str>,
    /// The path of the field.
    pub field: String,
}

/// Every volume that a run mounts, in the order of the spec, the output last.
pub fn volumes<'a>(spec: &'a EmbeddingRunSpec, models: &'a [ModelUse]) -> Vec<VolumeUse<'a>> {
    let sources = spec.collections.iter().enumerate().filter_map(|(index, collection)| {
        let (volume, _, kind) = source_volume(&collection.source)?;
        Some(VolumeUse {
            purpose: Purpose::Source(index),
            volume,
            key: None,
            field: format!("spec.collections[{index}].source.{kind}"),
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
    let queries = queries(spec).map(|queries| VolumeUse {
        purpose: Purpose::Queries,
        volume: Volume::ConfigMap(&queries.config_map.name),
        key: Some(&queries.config_map.key),
        field: "spec.rerank.queries.configMap".into(),
    });
    let output = output_volume(&spec.output).map(|(volume, _, kind)| VolumeUse {
        purpose: Purpose::Output,
        volume,
        key: None,
        field: format!("spec.output.{kind}"),
    });
    sources.chain(models).chain(queries).chain(output).collect()
}

/// A model that a spec names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelUse {
    /// What it is for.
    pub purpose: Purpose,
    /// Where it is.
    pub source: ModelSource,
    /// The path of the field that names it.
    pub field: String,
}

/// Every model of a spec, its source parsed: the dense ones, the sparse ones, the reranker.
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

fn queries(spec: &EmbeddingRunSpec) -> Option<&QueriesSpec> {
    spec.rerank.as_ref()?.queries.as_ref()
}

/// Where the process finds a model. The path of one of a hub is empty: the runner fetches it into a cache of its own.
fn model_place(model: &ModelUse, places: &dyn Volumes) -> Result<Place, ResolveError> {
    let path = match &model.source {
        ModelSource::File { path } => path.clone(),
        ModelSource::Claim { claim, path } => join(&places.root(model.purpose, Volume::Claim(claim))?, path),
        ModelSource::Hub { .. } => String::new(),
    };
    Ok(Place { path, uri: model.source.to_string() })
}

fn rerank(spec: &EmbeddingRunSpec, places: &dyn Volumes) -> Result<Option<RerankConfig>, ResolveError> {
    let Some(rerank) = &spec.rerank else { return Ok(None) };
    let place = |queries: &QueriesSpec| -> Result<Place, ResolveError> {
        let map = &queries.config_map;
        let root = places.root(Purpose::Queries, Volume::ConfigMap(&map.name))?;
        Ok(Place { path: join(&root, &map.key), uri: uri(Volume::ConfigMap(&map.name), "") + "/" + &map.key })
    };
    Ok(Some(RerankConfig {
        queries: rerank.queries.as_ref().map(place).transpose()?,
        candidates: rerank.candidates.unwrap_or(RerankConfig::CANDIDATES),
        top_k: rerank.top_k.unwrap_or(RerankConfig::TOP_K),
        gate: rerank.gate.clone(),
    }))
}

/// The configuration that the runner executes, made of a spec and the places of its volumes.
pub fn resolve(run: RunRef, spec: &EmbeddingRunSpec, places: &dyn Volumes) -> Result<RunnerConfig, ResolveError> {
    let mut collections = Vec::with_capacity(spec.collections.len());
    for (index, collection) in spec.collections.iter().enumerate() {
        let field = || format!("spec.collections[{index}].source");
        let (volume, path, _) = source_volume(&collection.source).ok_or_else(|| unresolved(field(), "source"))?;
        let root = places.root(Purpose::Source(index), volume)?;
        collections.push(CollectionConfig {
            name: collection.name.clone(),
            source: Place { path: join(&root, path), uri: uri(volume, path) },
            format: collection.format,
            fields: collection.fields.clone(),
        });
    }
    let models = models(spec)?;
    let place = |purpose: Purpose| {
        let model = models.iter().find(|model| model.purpose == purpose);
        model_place(model.expect("every model of the spec is listed"), places)
    };
    let mut dense = Vec::with_capacity(spec.models.dense.len());
    for (index, model) in spec.models.dense.iter().enumerate() {
        dense.push(DenseConfig {
            name: model.name.clone(),
            source: place(Purpose::DenseModel(index))?,
            pooling: model.pooling,
            max_tokens: model.max_tokens,
            prompts: model.prompts.clone(),
            dimensions: model.dimensions,
            dtype: model.dtype,
            precision: model.precision,
            weight: model.weight,
            optional: model.optional,
        });
    }
    let mut sparse = Vec::with_capacity(spec.models.sparse.len());
    for (index, model) in spec.models.sparse.iter().enumerate() {
        sparse.push(SparseConfig {
            name: model.name.clone(),
            source: place(Purpose::SparseModel(index))?,
            max_tokens: model.max_tokens,
            top_k: model.top_k,
            threshold: model.threshold,
            optional: model.optional,
        });
    }
    let reranker = match &spec.models.reranker {
        Some(model) => Some(RerankerConfig {
            name: model.name.clone(),
            source: place(Purpose::Reranker)?,
            max_tokens: model.max_tokens,
            optional: model.optional,
        }),
        None => None,
    };
    let (volume, path, _) = output_volume(&spec.output).ok_or_else(|| unresolved("spec.output".into(), "output"))?;
    let output = Place { path: join(&places.root(Purpose::Output, volume)?, path), uri: uri(volume, path) };
    Ok(RunnerConfig {
        version: CONTRACT_VERSION,
        run,
        revision: Revision::of(spec),
        collections,
        dense,
        sparse,
        reranker,
        fusion: spec.fusion.clone().unwrap_or_default(),
        rerank: rerank(spec, places)?,
        toggles: spec.toggles.clone().unwrap_or_default(),
        output,
    })
}

/// How users name the place of the output, for example `pvc://vectors/handbook`; none for a place that is not
/// implemented yet.
pub fn output_uri(spec: &EmbeddingRunSpec) -> Option<String> {
    output_volume(&spec.output).map(|(volume, path, _)| uri(volume, path))
}

fn unresolved(field: String, what: &str) -> ResolveError {
    ResolveError::Volume { field, message: format!("this kind of {what} is not implemented yet") }
}

fn source_volume(source: &SourceSpec) -> Option<(Volume<'_>, &str, &'static str)> {
    if let Some(pvc) = &source.pvc {
        return Some((Volume::Claim(&pvc.claim_name), &pvc.path, "pvc"));
    }
    if let Some(host) = &source.host_path {
        return Some((Volume::HostPath(&host.path), "", "hostPath"));
    }
    source.config_map.as_ref().map(|map| (Volume::ConfigMap(map.name.as_str()), "", "configMap"))
}

fn output_volume(output: &OutputSpec) -> Option<(Volume<'_>, &str, &'static str)> {
    if let Some(pvc) = &output.pvc {
        return Some((Volume::Claim(&pvc.claim_name), &pvc.path, "pvc"));
    }
    output.host_path.as_ref().map(|host| (Volume::HostPath(host.path.as_str()), "", "hostPath"))
}

fn join(root: &str, path: &str) -> String {
    let path = path.trim_matches('/');
    if path.is_empty() { root.to_owned() } else { format!("{}/{path}", root.trim_end_matches('/')) }
}

fn uri(volume: Volume<'_>, path: &str) -> String {
    match volume {
        Volume::Claim(claim) => format!("pvc://{claim}/{}", path.trim_matches('/')),
        Volume::HostPath(path) => format!("file://{path}"),
        Volume::ConfigMap(name) => format!("configmap://{name}"),
    }
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
        assert!(error.starts_with("spec.models.sparse[0].source: \"splade\" is no model source"), "{error}");
    }
}
