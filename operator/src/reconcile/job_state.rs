//! The state of a Job, from the Job and its pods as they were read. No input or output.

use crds::{
    contract::{CONTAINER, Failure, RunResult, Stage, StageOutcome},
    identity::Revision,
    v1alpha1::{LABEL_REVISION, LABEL_STAGE},
};
use k8s_openapi::{
    api::{batch::v1::Job, core::v1::Pod},
    jiff::Timestamp,
};
use kube::ResourceExt;

use super::world::{JobPhase, JobResult, JobState};

/// The state of `job`; `pods` may contain those of other Jobs. `None` if the Job lacks the labels of a child.
pub(super) fn of(job: &Job, pods: &[Pod]) -> Option<JobState> {
    let stage = stage(job.labels().get(LABEL_STAGE)?)?;
    let revision = Revision::from_recorded(job.labels().get(LABEL_REVISION)?.clone());
    let uid = job.uid()?;
    let spec = job.spec.clone().unwrap_or_default();
    let status = job.status.clone().unwrap_or_default();
    let phase = phase(job);
    let pods: Vec<&Pod> =
        pods.iter().filter(|pod| pod.owner_references().iter().any(|owner| owner.uid == uid)).collect();
    let has_result = phase == JobPhase::Complete && stage != Stage::Embed;
    Some(JobState {
        name: job.name_any(),
        stage,
        phase,
        suspended: spec.suspend.unwrap_or(false),
        deleting: job.metadata.deletion_timestamp.is_some(),
        waiting_since: resumed_at(job).or_else(|| job.creation_timestamp().map(|time| time.0)),
        started: status.succeeded.unwrap_or(0) + status.failed.unwrap_or(0) > 0
            || pods.iter().any(|pod| has_started(pod)),
        completions: spec.completions.unwrap_or(1).max(0) as u32,
        succeeded: status.succeeded.unwrap_or(0).max(0) as u32,
        failed_indexes: status.failed_indexes.unwrap_or_default(),
        ttl: spec.ttl_seconds_after_finished,
        result: if has_result { result(&pods, &revision) } else { JobResult::Missing },
        failures: failures(&pods, &revision),
        pending: pods.iter().find_map(|pod| pending(pod)),
        rejection: None,
        revision,
        uid,
    })
}

fn stage(label: &str) -> Option<Stage> {
    [Stage::Plan, Stage::Embed, Stage::Finalize].into_iter().find(|stage| stage.as_str() == label)
}

fn phase(job: &Job) -> JobPhase {
    let conditions = job.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    let holds = |kind: &str| conditions.clone().find(|condition| condition.type_ == kind && condition.status == "True");
    if holds("Complete").is_some() {
        JobPhase::Complete
    } else if let Some(failed) = holds("Failed") {
        JobPhase::Failed {
            reason: failed.reason.clone().unwrap_or_default(),
            message: failed.message.clone().unwrap_or_default(),
        }
    } else {
        JobPhase::Live
    }
}

/// The time at which the Job controller started the Job, or resumed it from a suspension.
fn resumed_at(job: &Job) -> Option<Timestamp> {
    job.status.as_ref()?.start_time.as_ref().map(|time| time.0)
}

fn has_started(pod: &Pod) -> bool {
    let statuses = pod.status.iter().filter_map(|status| status.container_statuses.as_ref()).flatten();
    statuses
        .filter_map(|status| status.state.as_ref())
        .any(|state| state.running.is_some() || state.terminated.is_some())
}

/// Why a pod is pending: the message of the scheduler, or the reason for which the kubelet keeps a container waiting.
fn pending(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let unscheduled = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    });
    if let Some(condition) = unscheduled {
        return Some(format!("pod {}: {}", pod.name_any(), condition.message.clone().unwrap_or_default()));
    }
    let mut waiting =
        status.container_statuses.iter().flatten().filter_map(|status| status.state.as_ref()?.waiting.as_ref());
    waiting.find_map(|waiting| {
        let reason = waiting.reason.as_deref().filter(|reason| *reason != "ContainerCreating")?;
        Some(format!("pod {}: {reason}: {}", pod.name_any(), waiting.message.clone().unwrap_or_default()))
    })
}

/// The exit code and the termination message of the runner's container, once it has ended.
fn termination(pod: &Pod) -> Option<(i32, String)> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let runner = statuses.iter().find(|status| status.name == CONTAINER)?;
    let terminated = runner.state.as_ref()?.terminated.as_ref()?;
    Some((terminated.exit_code, terminated.message.clone().unwrap_or_default()))
}

/// The result of the pod that succeeded.
fn result(pods: &[&Pod], revision: &Revision) -> JobResult {
    let Some((_, message)) = pods.iter().filter_map(|pod| termination(pod)).find(|(code, _)| *code == 0) else {
        return JobResult::Missing;
    };
    match RunResult::from_message(&message) {
        Ok(result) if result.revision == *revision => JobResult::Read(Box::new(result)),
        Ok(result) => JobResult::Unreadable(format!("its result is of revision {}", result.revision)),
        Err(error) => JobResult::Unreadable(error.to_string()),
    }
}

/// The failures that pods reported: the latest of every shard, in the order of the shards.
fn failures(pods: &[&Pod], revision: &Revision) -> Vec<Failure> {
    let mut failed: Vec<&&Pod> =
        pods.iter().filter(|pod| termination(pod).is_some_and(|(code, _)| code != 0)).collect();
    failed.sort_by_key(|pod| std::cmp::Reverse(pod.creation_timestamp().map(|time| time.0)));
    let mut failures: Vec<Failure> = Vec::new();
    for pod in failed {
        let message = termination(pod).map(|(_, message)| message).unwrap_or_default();
        let Ok(RunResult { outcome: StageOutcome::Failed(failure), revision: of, .. }) =
            RunResult::from_message(&message)
        else {
            continue;
        };
        if of == *revision && !failures.iter().any(|known| known.shard == failure.shard) {
            failures.push(failure);
        }
    }
    failures.sort_by_key(|failure| failure.shard);
    failures
}
