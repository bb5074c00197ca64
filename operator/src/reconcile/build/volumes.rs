//! The volumes of a stage's pod and their mounts.

use crds::{
    contract::{HUB_TOKEN_DIR, HUB_TOKEN_FILE, HUB_TOKEN_VARIABLE, Stage},
    resolve::{ModelUse, PodVolumes, Purpose, Volume as VolumeSource, VolumeUse},
    v1alpha1::{ModelSource, SecretKeyRef},
};
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, EmptyDirVolumeSource, EnvVar, HostPathVolumeSource, KeyToPath,
    PersistentVolumeClaimVolumeSource, PodSpec, SecretVolumeSource, Volume, VolumeMount,
};

/// The volume of the cache for hub models.
const HUB_VOLUME: &str = "hub";
/// The mount path of the cache for hub models.
const HUB_HOME: &str = "/embedrun/hub";

/// The volume of the token of the hub.
const TOKEN_VOLUME: &str = "hub-token";

/// Whether a stage asks the hub about a model that lies there: the plan resolves its revision and reads its settings, and
/// the pods that use the model fetch it.
pub(super) fn asks_hub(stage: Stage, model: &ModelUse) -> bool {
    matches!(model.source, ModelSource::Hub { .. }) && is_used(stage, model.purpose)
}

/// Whether a stage uses a volume or model. A pod gets no volume that its stage does not use.
pub(super) fn is_used(stage: Stage, purpose: Purpose) -> bool {
    match purpose {
        // Plan opens every model, so that a missing one fails there.
        Purpose::Source(_) | Purpose::DenseModel(_) | Purpose::SparseModel(_) => stage != Stage::Finalize,
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

/// Adds the token of the hub as a file that only the runner reads. Where the pod has a group for volumes, the kubelet lets
/// that group read it too, which is how a process that is not root does.
pub(super) fn add_hub_token(spec: &mut PodSpec, secret: &SecretKeyRef) {
    spec.volumes.get_or_insert_default().push(Volume {
        name: TOKEN_VOLUME.into(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.name.clone()),
            items: Some(vec![KeyToPath { key: secret.key.clone(), path: HUB_TOKEN_FILE.into(), mode: None }]),
            default_mode: Some(0o400),
            optional: None,
        }),
        ..Volume::default()
    });
    for container in &mut spec.containers {
        container.env.get_or_insert_default().push(EnvVar {
            name: HUB_TOKEN_VARIABLE.into(),
            value: Some(format!("{HUB_TOKEN_DIR}/{HUB_TOKEN_FILE}")),
            value_from: None,
        });
        container.volume_mounts.get_or_insert_default().push(VolumeMount {
            name: TOKEN_VOLUME.into(),
            mount_path: HUB_TOKEN_DIR.into(),
            read_only: Some(true),
            ..VolumeMount::default()
        });
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
