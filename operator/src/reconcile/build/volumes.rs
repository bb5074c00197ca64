//! The volumes of a stage's pod and their mounts.

use crds::{
    contract::Stage,
    resolve::{PodVolumes, Purpose, Volume as VolumeSource, VolumeUse},
};
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, EmptyDirVolumeSource, EnvVar, HostPathVolumeSource, PersistentVolumeClaimVolumeSource,
    PodSpec, Volume, VolumeMount,
};

/// The volume of the cache for hub models.
const HUB_VOLUME: &str = "hub";
/// The mount path of the cache for hub models.
const HUB_HOME: &str = "/embedrun/hub";

/// Whether a stage uses a volume or model. A pod gets no volume that its stage does not use.
pub(super) fn is_used(stage: Stage, purpose: Purpose) -> bool {
    match purpose {
        Purpose::Source(_) => stage != Stage::Finalize,
        // Plan opens every model, so that a missing one fails there.
        Purpose::DenseModel(_) | Purpose::SparseModel(_) => stage != Stage::Finalize,
        Purpose::Reranker => stage != Stage::Embed,
        // Plan checks the queries, embed retrieves candidates for them, finalize reranks and computes the quality.
        Purpose::Queries | Purpose::Output => true,
    }
}

/// The volume of a use.
pub(super) fn volume(volume: &VolumeUse<'_>) -> Volume {
    let mut built = Volume { name: volume.purpose.volume_name(), ..Volume::default() };
    match volume.volume {
        VolumeSource::Claim(claim) => {
            built.persistent_volume_claim = Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim.into(),
                // Only the mount is read only: one claim may be both a source and the output of a pod.
                read_only: None,
            });
        }
        VolumeSource::HostPath(path) => {
            built.host_path = Some(HostPathVolumeSource { path: path.into(), type_: None });
        }
        VolumeSource::ConfigMap(name) => {
            built.config_map = Some(ConfigMapVolumeSource { name: name.into(), ..ConfigMapVolumeSource::default() });
        }
    }
    built
}

/// The mount of a use: only the output is writable.
pub(super) fn mount(volume: &VolumeUse<'_>) -> VolumeMount {
    VolumeMount {
        name: volume.purpose.volume_name(),
        mount_path: PodVolumes::mount_path(volume.purpose),
        read_only: (volume.purpose != Purpose::Output).then_some(true),
        ..VolumeMount::default()
    }
}

/// Adds a writable cache for hub models; the root file system is read only. An override may point `HF_HOME` to a
/// persistent volume.
pub(super) fn add_hub_cache(spec: &mut PodSpec) {
    spec.volumes.get_or_insert_default().push(Volume {
        name: HUB_VOLUME.into(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    });
    for container in &mut spec.containers {
        container.env.get_or_insert_default().push(EnvVar {
            name: "HF_HOME".into(),
            value: Some(HUB_HOME.into()),
            value_from: None,
        });
        container.volume_mounts.get_or_insert_default().push(VolumeMount {
            name: HUB_VOLUME.into(),
            mount_path: HUB_HOME.into(),
            ..VolumeMount::default()
        });
    }
}
