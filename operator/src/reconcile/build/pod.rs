//! The pod of a stage: with accelerators if it runs a model, without credentials of the cluster, within the restricted
//! Pod Security Standard.

use std::collections::BTreeMap;

use crds::{
    contract::{CONFIG_DIR, CONFIG_KEY, CONTAINER, RESULT_PATH, Stage},
    identity::Revision,
    resolve::{self, ModelUse, ResolveError, VolumeUse},
    v1alpha1::{EmbeddingRun, ModelSource},
};
use k8s_openapi::{
    DeepMerge,
    api::core::v1::{
        Capabilities, ConfigMapVolumeSource, Container, EmptyDirVolumeSource, EnvVar, LocalObjectReference,
        PodSecurityContext, PodSpec, PodTemplateSpec, SeccompProfile, SecurityContext, Volume, VolumeMount,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    super::{decision::Step, names},
    accelerator::{self, reranks},
    metadata::name,
    template::parse_template,
    volumes::{self, is_used},
};
use crate::settings::Settings;

/// The user and group of the runner: `nonroot` of common base images.
const RUNNER_ID: i64 = 65532;

/// The pod template of a stage's Job.
pub(super) fn template(
    run: &EmbeddingRun,
    revision: &Revision,
    step: Step,
    settings: &Settings,
) -> Result<PodTemplateSpec, ResolveError> {
    let labels = names::stage_labels(&name(run), revision, step.stage);
    let models = resolve::models(&run.spec)?;
    let uses: Vec<VolumeUse<'_>> =
        resolve::volumes(&run.spec, &models).into_iter().filter(|volume| is_used(step.stage, volume.purpose)).collect();
    let mut spec = pod(run, revision, step.stage, settings, &uses);
    let is_fetched =
        |model: &ModelUse| matches!(model.source, ModelSource::Hub { .. }) && is_used(step.stage, model.purpose);
    if models.iter().any(is_fetched) {
        volumes::add_hub_cache(&mut spec);
    }
    let token = run.spec.hub.as_ref().and_then(|hub| hub.token_secret_ref.as_ref());
    if let Some(token) = token.filter(|_| models.iter().any(|model| volumes::asks_hub(step.stage, model))) {
        volumes::add_hub_token(&mut spec, token);
    }
    let mut template = PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(labels.clone()), ..ObjectMeta::default() }),
        spec: Some(spec),
    };
    if let Ok(Some(override_)) = parse_template(&run.spec) {
        template.merge_from(override_);
    }
    enforce_invariants(&mut template, labels);
    Ok(template)
}

/// Sets what no override may change: the labels that the operator selects by, no credentials, no restarts.
fn enforce_invariants(template: &mut PodTemplateSpec, labels: BTreeMap<String, String>) {
    template.metadata.get_or_insert_default().labels.get_or_insert_default().extend(labels);
    let spec = template.spec.get_or_insert_default();
    spec.automount_service_account_token = Some(false);
    spec.restart_policy = Some("Never".into());
}

fn pod(run: &EmbeddingRun, revision: &Revision, stage: Stage, settings: &Settings, uses: &[VolumeUse<'_>]) -> PodSpec {
    let gpu = &run.spec.gpu;
    let accelerated = accelerator::count(run, stage) > 0;
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
    volumes.extend(uses.iter().map(volumes::volume));
    PodSpec {
        containers: vec![container(run, stage, settings, uses)],
        volumes: Some(volumes),
        restart_policy: Some("Never".into()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        node_selector: (accelerated && !gpu.node_selector.is_empty()).then(|| gpu.node_selector.clone()),
        tolerations: accelerated.then(|| accelerator::tolerations(run)),
        image_pull_secrets: (!settings.image_pull_secrets.is_empty()).then(|| {
            settings.image_pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() }).collect()
        }),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(RUNNER_ID),
            run_as_group: Some(RUNNER_ID),
            fs_group: Some(RUNNER_ID),
            // Avoids a walk over all files of a volume at every start.
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
    mounts.extend(uses.iter().map(volumes::mount));
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
        resources: accelerator::resources(run, stage),
        volume_mounts: Some(mounts),
        termination_message_path: Some(RESULT_PATH.into()),
        // After a crash without a result, the message is the end of the log.
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

/// The image with CUDA for pods with an accelerator only: nodes without a driver cannot start it.
fn image(run: &EmbeddingRun, stage: Stage, settings: &Settings) -> String {
    if let Some(image) = &run.spec.execution.runner_image {
        return image.clone();
    }
    let accelerated = accelerator::count(run, stage) > 0;
    settings.runner_cuda_image.as_ref().filter(|_| accelerated).unwrap_or(&settings.runner_image).clone()
}

/// Execution fields are arguments, identity fields are in the configuration: execution fields may change between the
/// stages of a revision, the configuration may not.
fn arguments(run: &EmbeddingRun, stage: Stage) -> Vec<String> {
    let mut arguments = vec![stage.as_str().to_owned(), "--config".into(), format!("{CONFIG_DIR}/{CONFIG_KEY}")];
    match stage {
        Stage::Plan => {
            arguments.extend(["--shard-size".into(), run.spec.execution.shard_size.to_string()]);
        }
        Stage::Embed => arguments.extend(accelerator::arguments(run, stage)),
        Stage::Finalize if reranks(run) => arguments.extend(accelerator::arguments(run, stage)),
        Stage::Finalize => {}
    }
    arguments
}

fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.into(), value: Some(value.into()), value_from: None }
}
