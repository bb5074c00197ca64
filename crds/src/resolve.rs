//! Where the volumes of a run are: in a pod under fixed mount paths, on one machine where the user says.
//!
//! [`resolve`] turns a spec into the [`RunnerConfig`] that the runner executes. The operator and the command
//! line call the same function with another [`Volumes`], so that both mean the same by a manifest.

use crate::{
    contract::{CONTRACT_VERSION, CollectionConfig, DenseConfig, Place, RunRef, RunnerConfig},
    identity::Revision,
    v1alpha1::{EmbeddingRunSpec, ModelSource, ModelSourceError, OutputSpec, SourceSpec},
};

/// What a volume is used for; the index counts collections or dense models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The source of a collection, read only.
    Source(usize),
    /// The folder of a dense model, read only.
    DenseModel(usize),
    /// The output, read and written.
    Output,
}

impl Purpose {
    /// The name of the volume in a pod, a DNS label.
    pub fn volume_name(self) -> String {
        match self {
            Self::Source(index) => format!("source-{index}"),
            Self::DenseModel(index) => format!("dense-{index}"),
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
    /// The path of the field.
    pub field: String,
}

/// Every volume that a run mounts, in the order of the spec, the output last.
pub fn volumes<'a>(spec: &'a EmbeddingRunSpec, models: &'a [ModelSource]) -> Vec<VolumeUse<'a>> {
    let sources = spec.collections.iter().enumerate().filter_map(|(index, collection)| {
        let (volume, _, kind) = source_volume(&collection.source)?;
        Some(VolumeUse {
            purpose: Purpose::Source(index),
            volume,
            field: format!("spec.collections[{index}].source.{kind}"),
        })
    });
    let models = models.iter().enumerate().filter_map(|(index, model)| match model {
        ModelSource::Claim { claim, .. } => Some(VolumeUse {
            purpose: Purpose::DenseModel(index),
            volume: Volume::Claim(claim),
            field: format!("spec.models.dense[{index}].source"),
        }),
        ModelSource::Hub { .. } | ModelSource::File { .. } => None,
    });
    let output = output_volume(&spec.output).map(|(volume, _, kind)| VolumeUse {
        purpose: Purpose::Output,
        volume,
        field: format!("spec.output.{kind}"),
    });
    sources.chain(models).chain(output).collect()
}

/// The dense models' sources, parsed.
pub fn dense_sources(spec: &EmbeddingRunSpec) -> Result<Vec<ModelSource>, ResolveError> {
    let parse = |(index, model): (usize, &crate::v1alpha1::DenseModelSpec)| {
        model
            .source
            .parse()
            .map_err(|source| ResolveError::Model { field: format!("spec.models.dense[{index}].source"), source })
    };
    spec.models.dense.iter().enumerate().map(parse).collect()
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
    let mut dense = Vec::with_capacity(spec.models.dense.len());
    for (index, (model, source)) in spec.models.dense.iter().zip(dense_sources(spec)?).enumerate() {
        let path = match &source {
            ModelSource::File { path } => path.clone(),
            ModelSource::Claim { claim, path } => {
                join(&places.root(Purpose::DenseModel(index), Volume::Claim(claim))?, path)
            }
            // The runner fetches it into a cache of its own.
            ModelSource::Hub { .. } => String::new(),
        };
        dense.push(DenseConfig {
            name: model.name.clone(),
            source: Place { path, uri: source.to_string() },
            pooling: model.pooling,
            max_tokens: model.max_tokens,
            prompts: model.prompts.clone(),
            dimensions: model.dimensions,
            dtype: model.dtype,
            precision: model.precision,
        });
    }
    let (volume, path, _) = output_volume(&spec.output).ok_or_else(|| unresolved("spec.output".into(), "output"))?;
    let output = Place { path: join(&places.root(Purpose::Output, volume)?, path), uri: uri(volume, path) };
    Ok(RunnerConfig {
        version: CONTRACT_VERSION,
        run,
        revision: Revision::of(spec),
        collections,
        dense,
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
