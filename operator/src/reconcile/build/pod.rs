//! The pod of a stage: pinned to an accelerator where it runs a model, without any credential of the cluster, within
//! the restricted Pod Security Standard.

use std::collections::BTreeMap;

use crds::{
    contract::{CONFIG_DIR, CONFIG_KEY, CONTAINER, RESULT_PATH, Stage},
    identity::Revision,
    resolve::{self, ModelUse, PodVolumes, Purpose, ResolveError, Volume as VolumeSource, VolumeUse},
    v1alpha1::{EmbeddingRun, ModelSource},
};
use k8s_openapi::{
    DeepMerge,
    api::core::v1::{
        Capabilities, ConfigMapVolumeSource, Container, EmptyDirVolumeSource, EnvVar, HostPathVolumeSource,
        LocalObjectReference, PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, PodTemplateSpec,
        ResourceRequirements, SeccompProfile, SecurityContext, Toleration, Volume, VolumeMount,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};

use super::{Settings, Step, name, names, parse_template};

/// The user and group that the runner works as: `nonroot` of common base images.
const RUNNER_ID: i64 = 65532;

/// The volume that models of a hub are fetched to.
const HUB_VOLUME: &str = "hub";
/// Where it is mounted.
const HUB_HOME: &str = "/embedrun/hub";

pub(super) fn template(
    run: &EmbeddingRun,
    revision: &Revision,
    step: Step,
    settings: &Settings,
) -> Result<PodTemplateSpec, ResolveError> {
    let labels = names::stage_labels(&name(run), revision, step.stage);
    let models = resolve::models(&run.spec)?;
    let uses: Vec<VolumeUse<'_>> =
        resolve::volumes(&run.spec, &models).into_iter().filter(|volume| needs(step.stage, volume.purpose)).collect();
    let mut spec = pod(run, revision, step.stage, settings, &uses);
    let fetches =
        |model: &ModelUse| matches!(model.source, ModelSource::Hub { .. }) && needs(step.stage, model.purpose);
    if models.iter().any(fetches) {
        add_hub_home(&mut spec);
    }
    let mut template = PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(labels.clone()), ..ObjectMeta::default() }),
        spec: Some(spec),
    };
    if let Ok(Some(override_)) = parse_template(&run.spec) {
        template.merge_from(override_);
    }
    keep_promises(&mut template, labels);
    Ok(template)
}

/// What no override can take back: the labels that results are found by, no credentials, one attempt per pod.
fn keep_promises(template: &mut PodTemplateSpec, labels: BTreeMap<String, String>) {
    template.metadata.get_or_insert_default().labels.get_or_insert_default().extend(labels);
    let spec = template.spec.get_or_insert_default();
    spec.automount_service_account_token = Some(false);
    spec.restart_policy = Some("Never".into());
}

/// Which volumes and models a stage sees: no more than it uses.
fn needs(stage: Stage, purpose: Purpose) -> bool {
    match purpose {
        Purpose::Source(_) => stage != Stage::Finalize,
        Purpose::DenseModel(_) | Purpose::SparseModel(_) => stage == Stage::Embed,
        Purpose::Reranker => stage == Stage::Finalize,
        // The plan checks the queries, the shards find their candidates, the end reranks and judges them.
        Purpose::Queries | Purpose::Output => true,
    }
}

fn pod(run: &EmbeddingRun, revision: &Revision, stage: Stage, settings: &Settings, uses: &[VolumeUse<'_>]) -> PodSpec {
    let gpu = &run.spec.gpu;
    let accelerated = gpus(run, stage) > 0;
    let mut volumes = vec![
        Volume {
            name: "config".into(),
            config_map: Some(ConfigMapVolumeSource {
                name: names::config_map(&name(run), revision),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
        Volume { name: "tmp".into(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() },
    ];
    volumes.extend(uses.iter().map(volume));
    PodSpec {
        containers: vec![container(run, stage, settings, uses)],
        volumes: Some(volumes),
        restart_policy: Some("Never".into()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        node_selector: (accelerated && !gpu.node_selector.is_empty()).then(|| gpu.node_selector.clone()),
        tolerations: accelerated.then(|| tolerations(run)),
        image_pull_secrets: (!settings.image_pull_secrets.is_empty()).then(|| {
            settings.image_pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() }).collect()
        }),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(RUNNER_ID),
            run_as_group: Some(RUNNER_ID),
            fs_group: Some(RUNNER_ID),
            // A volume with millions of files is not walked at every start.
            fs_group_change_policy: Some("OnRootMismatch".into()),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), ..SeccompProfile::default() }),
            ..PodSecurityContext::default()
        }),
        ..PodSpec::default()
    }
}

fn container(run: &EmbeddingRun, stage: Stage, settings: &Settings, uses: &[VolumeUse<'_>]) -> Container {
    let mut mounts = vec![
        VolumeMount {
            name: "config".into(),
            mount_path: CONFIG_DIR.into(),
            read_only: Some(true),
            ..VolumeMount::default()
        },
        VolumeMount { name: "tmp".into(), mount_path: "/tmp".into(), ..VolumeMount::default() },
    ];
    mounts.extend(uses.iter().map(|volume| VolumeMount {
        name: volume.purpose.volume_name(),
        mount_path: PodVolumes::mount_path(volume.purpose),
        read_only: (volume.purpose != Purpose::Output).then_some(true),
        ..VolumeMount::default()
    }));
    Container {
        name: CONTAINER.into(),
        image: Some(image(run, stage, settings)),
        image_pull_policy: Some(settings.image_pull_policy.clone()),
        args: Some(arguments(run, stage)),
        env: Some(vec![
            variable("EMBEDRUN_RESULT_FILE", RESULT_PATH),
            variable("EMBEDRUN_LOG_FORMAT", "json"),
            variable("TMPDIR", "/tmp"),
        ]),
        resources: resources(run, stage),
        volume_mounts: Some(mounts),
        termination_message_path: Some(RESULT_PATH.into()),
        // A crash before the result is written leaves the end of the log as its last word.
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), add: None }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

/// The image with CUDA where the pod holds an accelerator, and only there: nodes without a driver cannot start it.
fn image(run: &EmbeddingRun, stage: Stage, settings: &Settings) -> String {
    if let Some(image) = &run.spec.execution.runner_image {
        return image.clone();
    }
    let limits = resources(run, stage).and_then(|resources| resources.limits);
    let accelerated = limits.is_some_and(|limits| limits.contains_key(&run.spec.gpu.resource_name));
    settings.runner_cuda_image.as_ref().filter(|_| accelerated).unwrap_or(&settings.runner_image).clone()
}

/// Execution travels as arguments, identity in the configuration: an execution field can change between the
/// stages of a revision, its configuration cannot.
fn arguments(run: &EmbeddingRun, stage: Stage) -> Vec<String> {
    let mut arguments = vec![stage.as_str().to_owned(), "--config".into(), format!("{CONFIG_DIR}/{CONFIG_KEY}")];
    match stage {
        Stage::Plan => {
            arguments.extend(["--shard-size".into(), run.spec.execution.shard_size.to_string()]);
        }
        Stage::Embed => arguments.extend(gpu_arguments(run, stage)),
        Stage::Finalize if reranks(run) => arguments.extend(gpu_arguments(run, stage)),
        Stage::Finalize => {}
    }
    arguments
}

fn gpu_arguments(run: &EmbeddingRun, stage: Stage) -> Vec<String> {
    let gpu = &run.spec.gpu;
    let mut arguments =
        vec!["--gpu-count".into(), gpus(run, stage).to_string(), "--gpu-required".into(), gpu.required.to_string()];
    if let Some(ceiling) = &gpu.memory_ceiling {
        arguments.extend(["--gpu-memory-ceiling".into(), ceiling.clone()]);
    }
    arguments
}

/// How many accelerators the pod of a stage gets. The list of a query is short: one scores it as fast as several.
fn gpus(run: &EmbeddingRun, stage: Stage) -> u32 {
    match stage {
        Stage::Embed => run.spec.gpu.count,
        Stage::Finalize if reranks(run) => run.spec.gpu.count.min(1),
        Stage::Plan | Stage::Finalize => 0,
    }
}

/// Whether the finalize stage runs a model. What else may switch it off, the pod alone knows.
fn reranks(run: &EmbeddingRun) -> bool {
    let toggle = run.spec.toggles.as_ref().and_then(|toggles| toggles.rerank);
    run.spec.models.reranker.is_some() && toggle != Some(false)
}

fn resources(run: &EmbeddingRun, stage: Stage) -> Option<ResourceRequirements> {
    let count = gpus(run, stage);
    (count > 0).then(|| ResourceRequirements {
        limits: Some(BTreeMap::from([(run.spec.gpu.resource_name.clone(), Quantity(count.to_string()))])),
        ..ResourceRequirements::default()
    })
}

/// Nodes with accelerators are commonly tainted with the name of their resource.
fn tolerations(run: &EmbeddingRun) -> Vec<Toleration> {
    let own = Toleration {
        key: Some(run.spec.gpu.resource_name.clone()),
        operator: Some("Exists".into()),
        effect: Some("NoSchedule".into()),
        ..Toleration::default()
    };
    std::iter::once(own).chain(run.spec.gpu.tolerations.iter().cloned()).collect()
}

/// A place that can be written, which the root is not. An override may let `HF_HOME` name a volume that lasts.
fn add_hub_home(spec: &mut PodSpec) {
    spec.volumes.get_or_insert_default().push(Volume {
        name: HUB_VOLUME.into(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    });
    for container in &mut spec.containers {
        container.env.get_or_insert_default().push(variable("HF_HOME", HUB_HOME));
        container.volume_mounts.get_or_insert_default().push(VolumeMount {
            name: HUB_VOLUME.into(),
            mount_path: HUB_HOME.into(),
            ..VolumeMount::default()
        });
    }
}

fn volume(volume: &VolumeUse<'_>) -> Volume {
    let mut built = Volume { name: volume.purpose.volume_name(), ..Volume::default() };
    match volume.volume {
        VolumeSource::Claim(claim) => {
            built.persistent_volume_claim = Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim.into(),
                // The mount is read only, the claim is not: one claim may be a source and the output of a pod.
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

fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.into(), value: Some(value.into()), value_from: None }
}
