//! The Job of a stage: its completions, retries and deadlines.

use crds::{
    contract::{CONTAINER, ExitCode, Stage},
    identity::Revision,
    v1alpha1::EmbeddingRun,
};
use k8s_openapi::api::{
    batch::v1::{
        Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
        PodFailurePolicyRule,
    },
    core::v1::PodTemplateSpec,
};

use super::{
    super::{decision::Step, names},
    metadata::{metadata, name},
};

/// The number of retries of the plan and finalize stages after a transient failure.
const SINGLE_POD_RETRIES: i32 = 3;

pub(super) fn build(run: &EmbeddingRun, revision: &Revision, step: Step, template: PodTemplateSpec) -> Job {
    let run_name = name(run);
    let execution = &run.spec.execution;
    let mut spec = JobSpec {
        template,
        completions: Some(step.completions as i32),
        parallelism: Some(1),
        active_deadline_seconds: execution.active_deadline_seconds,
        // A terminating pod may still write: its replacement waits until it has ended.
        pod_replacement_policy: Some("Failed".into()),
        pod_failure_policy: Some(failure_policy(step.stage)),
        ..JobSpec::default()
    };
    match step.stage {
        Stage::Plan | Stage::Finalize => spec.backoff_limit = Some(SINGLE_POD_RETRIES),
        Stage::Embed => {
            spec.completion_mode = Some("Indexed".into());
            spec.parallelism = Some(execution.parallelism.min(step.completions) as i32);
            spec.backoff_limit_per_index = Some(execution.backoff_limit_per_index as i32);
            spec.max_failed_indexes = Some(execution.max_failed_indexes.min(step.completions) as i32);
        }
    }
    Job {
        metadata: metadata(
            run,
            names::job(&run_name, revision, step.stage),
            names::stage_labels(&run_name, revision, step.stage),
        ),
        spec: Some(spec),
        status: None,
    }
}

/// The reaction of the Job to the exit codes. The first matching rule applies: a disruption never counts as a failure.
fn failure_policy(stage: Stage) -> PodFailurePolicy {
    let on_codes = |action: &str, codes: &[ExitCode]| PodFailurePolicyRule {
        action: action.into(),
        on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
            container_name: Some(CONTAINER.into()),
            operator: "In".into(),
            values: codes.iter().map(|code| i32::from(code.code())).collect(),
        }),
        ..PodFailurePolicyRule::default()
    };
    let disruption = PodFailurePolicyRule {
        action: "Ignore".into(),
        on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
            status: "True".into(),
            type_: "DisruptionTarget".into(),
        }]),
        ..PodFailurePolicyRule::default()
    };
    let rules = match stage {
        Stage::Plan | Stage::Finalize => vec![
            disruption,
            on_codes("FailJob", &[ExitCode::BadConfiguration, ExitCode::BadInput, ExitCode::OutOfMemory]),
        ],
        Stage::Embed => vec![
            disruption,
            on_codes("FailJob", &[ExitCode::BadConfiguration]),
            on_codes("FailIndex", &[ExitCode::BadInput, ExitCode::OutOfMemory]),
        ],
    };
    PodFailurePolicy { rules }
}
