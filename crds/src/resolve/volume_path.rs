//! A path on a volume, as a spec names it: from there to a place for the process and a URI for the user.

use super::{
    error::ResolveError,
    volume::{Purpose, Volume, Volumes},
};
use crate::{
    contract::Place,
    v1alpha1::{EmbeddingRunSpec, KeyRef, OutputSpec, SourceSpec},
};

/// A path on a volume that a spec names.
pub(super) struct VolumePath<'a> {
    /// The volume.
    pub volume: Volume<'a>,
    /// The path, relative to the root of the volume.
    pub path: &'a str,
    /// The field of the source or output that names the volume, for example `pvc`.
    pub field: &'static str,
}

impl<'a> VolumePath<'a> {
    /// The files of a collection; `None` for a kind of source that is not implemented yet.
    pub(super) fn of_source(source: &'a SourceSpec) -> Option<Self> {
        if let Some(pvc) = &source.pvc {
            return Some(Self { volume: Volume::Claim(&pvc.claim_name), path: &pvc.path, field: "pvc" });
        }
        if let Some(host) = &source.host_path {
            return Some(Self { volume: Volume::HostPath(&host.path), path: "", field: "hostPath" });
        }
        let map = source.config_map.as_ref()?;
        Some(Self { volume: Volume::ConfigMap(&map.name), path: "", field: "configMap" })
    }

    /// The folder of the output; `None` for a kind of output that is not implemented yet.
    pub(super) fn of_output(output: &'a OutputSpec) -> Option<Self> {
        if let Some(pvc) = &output.pvc {
            return Some(Self { volume: Volume::Claim(&pvc.claim_name), path: &pvc.path, field: "pvc" });
        }
        let host = output.host_path.as_ref()?;
        Some(Self { volume: Volume::HostPath(&host.path), path: "", field: "hostPath" })
    }

    /// One key of a ConfigMap.
    pub(super) fn of_key(reference: &'a KeyRef) -> Self {
        Self { volume: Volume::ConfigMap(&reference.name), path: &reference.key, field: "configMap" }
    }

    /// The path for the process and the URI for the user.
    pub(super) fn place(&self, purpose: Purpose, volumes: &dyn Volumes) -> Result<Place, ResolveError> {
        let root = volumes.root(purpose, self.volume)?;
        Ok(Place { path: join(&root, self.path), uri: self.uri() })
    }

    fn uri(&self) -> String {
        let path = self.path.trim_matches('/');
        match self.volume {
            Volume::Claim(claim) => format!("pvc://{claim}/{path}"),
            Volume::HostPath(path) => format!("file://{path}"),
            Volume::ConfigMap(name) if path.is_empty() => format!("configmap://{name}"),
            Volume::ConfigMap(name) => format!("configmap://{name}/{path}"),
        }
    }
}

/// The URI of the output, for example `pvc://vectors/handbook`; `None` for a kind of output that is not implemented
/// yet.
pub fn output_uri(spec: &EmbeddingRunSpec) -> Option<String> {
    VolumePath::of_output(&spec.output).map(|output| output.uri())
}

/// `path` below `root`.
pub(super) fn join(root: &str, path: &str) -> String {
    let path = path.trim_matches('/');
    if path.is_empty() { root.to_owned() } else { format!("{}/{path}", root.trim_end_matches('/')) }
}
