//! The volumes of a run, and where a process finds them.

use super::error::ResolveError;

/// What a run uses a volume for; the index is that of the collection or model in the spec.
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

/// A volume that a spec names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volume<'a> {
    /// A persistent volume claim, by name.
    Claim(&'a str),
    /// A path of the node.
    HostPath(&'a str),
    /// The keys of a ConfigMap as files, by name of the ConfigMap.
    ConfigMap(&'a str),
}

/// Locates the root of a volume for the current process.
pub trait Volumes {
    /// The absolute path of the root of `volume`.
    ///
    /// # Errors
    ///
    /// [`ResolveError::Volume`] if this process has no path for the volume.
    fn root(&self, purpose: Purpose, volume: Volume<'_>) -> Result<String, ResolveError>;
}

/// The mount paths in the pods that the operator builds.
#[derive(Clone, Copy, Debug, Default)]
pub struct PodVolumes;

impl PodVolumes {
    /// The mount path of a volume.
    pub fn mount_path(purpose: Purpose) -> String {
        format!("/embedrun/volumes/{}", purpose.volume_name())
    }
}

impl Volumes for PodVolumes {
    fn root(&self, purpose: Purpose, _: Volume<'_>) -> Result<String, ResolveError> {
        Ok(Self::mount_path(purpose))
    }
}
