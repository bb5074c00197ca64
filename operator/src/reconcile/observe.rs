//! Reads everything that a decision looks at, once, straight from the API server.

use crds::{
    contract::{CONTAINER, Failure, RunResult, Stage, StageOutcome},
    identity::Revision,
    resolve::{self, Volume},
    v1alpha1::{EmbeddingRun, LABEL_REVISION, LABEL_STAGE},
};
use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{ConfigMap, Event, PersistentVolumeClaim, Pod},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
    jiff::Timestamp,
};
use kube::{Api, Client, Resource, ResourceExt, api::ListParams};

use super::{
    names,
    world::{ForeignJob, JobPhase, JobResult, JobState, MissingVolume, World},
};
use crate::error::{Error, Tried};

/// Reads the world of one run.
pub async fn observe(client: &Client, run: &EmbeddingRun) -> Result<World, Error> {
    let namespace = run.namespace().unwrap_or_default();
    let name = run.name_any();
    let jobs = Api::<Job>::namespaced(client.clone(), &namespace)
        .list(&ListParams::default().labels(&names::selector(&name)))
        .await
        .tried(|| format!("list the Jobs of {namespace}/{name}"))?;
    let pods = if jobs.items.is_empty() { Vec::new() } else { pods(client, &namespace, &name).await? };
    let mut world = World::default();
    for job in jobs.items {
        if is_owned_by(&job, run) {
            if let Some(mut state) = job_state(&job, &pods) {
                if state.phase == JobPhase::Live && !state.started && state.waiting.is_none() {
                    state.refused = refusal(client, &namespace, &state).await?;
                }
                world.jobs.push(state);
            }
        } else {
            world.foreign.push(foreign(&job, run));
        }
    }
    world.missing = missing(client, run, &namespace).await?;
    Ok(world)
}

/// The pods that say something: those of the single-pod stages, and of the shards those that have not succeeded. A
/// run of many thousand shards leaves as many succeeded pods, which the Job has counted.
async fn pods(client: &Client, namespace: &str, run: &str) -> Result<Vec<Pod>, Error> {
    let api = Api::<Pod>::namespaced(client.clone(), namespace);
    let selector = names::selector(run);
    let embed = Stage::Embed;
    let lists = [
        ListParams::default().labels(&format!("{selector},{LABEL_STAGE}!={embed}")),
        ListParams::default().labels(&format!("{selector},{LABEL_STAGE}={embed}")).fields("status.phase!=Succeeded"),
    ];
    let mut pods = Vec::new();
    for list in lists {
        pods.extend(api.list(&list).await.tried(|| format!("list the pods of {namespace}/{run}"))?);
    }
    Ok(pods)
}

fn is_owned_by(job: &Job, run: &EmbeddingRun) -> bool {
    job.owner_references().iter().any(|owner| Some(&owner.uid) == run.metadata.uid.as_ref())
}

/// A Job of another owner. That of an object of this name that was deleted goes with it, a moment later.
fn foreign(job: &Job, run: &EmbeddingRun) -> ForeignJob {
    let kind = EmbeddingRun::kind(&());
    let is_earlier = |owner: &OwnerReference| owner.kind == kind && Some(&owner.name) == run.metadata.name.as_ref();
    let leaving = job.metadata.deletion_timestamp.is_some() || job.owner_references().iter().any(is_earlier);
    ForeignJob { name: job.name_any(), leaving }
}

/// The claims, ConfigMaps and keys of ConfigMaps that the run mounts and that do not exist.
async fn missing(client: &Client, run: &EmbeddingRun, namespace: &str) -> Result<Vec<MissingVolume>, Error> {
    let Ok(models) = resolve::models(&run.spec) else {
        return Ok(Vec::new());
    };
    let mut missing = Vec::new();
    for volume in resolve::volumes(&run.spec, &models) {
        let absent = |kind, name: &str, key: Option<&str>| MissingVolume {
            field: volume.field.clone(),
            kind,
            name: name.to_owned(),
            key: key.map(str::to_owned),
        };
        match volume.volume {
            Volume::Claim(name) => {
                let api = Api::<PersistentVolumeClaim>::namespaced(client.clone(), namespace);
                let found = api.get_metadata_opt(name).await.tried(|| format!("read claim {namespace}/{name}"))?;
                if found.is_none() {
                    missing.push(absent("PersistentVolumeClaim", name, None));
                }
            }
            Volume::ConfigMap(name) => match keys(client, namespace, name, volume.key.is_some()).await? {
                None => missing.push(absent("ConfigMap", name, None)),
                Some(keys) => {
                    let lacking = volume.key.filter(|key| !keys.iter().any(|found| found == key));
                    missing.extend(lacking.map(|key| absent("ConfigMap", name, Some(key))));
                }
            },
            Volume::HostPath(_) => {}
        }
    }
    Ok(missing)
}

/// The keys of a ConfigMap, if it exists. Where nobody asks for `names` its metadata is enough: a source may be large.
async fn keys(client: &Client, namespace: &str, name: &str, names: bool) -> Result<Option<Vec<String>>, Error> {
    let api = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    let what = || format!("read ConfigMap {namespace}/{name}");
    if !names {
        return Ok(api.get_metadata_opt(name).await.tried(what)?.map(|_| Vec::new()));
    }
    let found = api.get_opt(name).await.tried(what)?;
    Ok(found.map(|map| {
        let (text, binary) = (map.data.unwrap_or_default(), map.binary_data.unwrap_or_default());
        text.into_keys().chain(binary.into_keys()).collect()
    }))
}

/// Why the Job controller could not make a pod, from its latest event.
async fn refusal(client: &Client, namespace: &str, job: &JobState) -> Result<Option<String>, Error> {
    let fields = format!("involvedObject.uid={},reason=FailedCreate", job.uid);
    let events = Api::<Event>::namespaced(client.clone(), namespace)
        .list(&ListParams::default().fields(&fields))
        .await
        .tried(|| format!("list the events of Job {namespace}/{}", job.name))?;
    let latest = events.items.into_iter().max_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0));
    Ok(latest.and_then(|event| event.message))
}

fn job_state(job: &Job, pods: &[Pod]) -> Option<JobState> {
    let stage = stage_of(job.labels().get(LABEL_STAGE)?)?;
    let revision = Revision::from_recorded(job.labels().get(LABEL_REVISION)?.clone());
    let uid = job.uid()?;
    let spec = job.spec.clone().unwrap_or_default();
    let status = job.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let is_true =
        |kind: &str| conditions.iter().find(|condition| condition.type_ == kind && condition.status == "True");
    let phase = if is_true("Complete").is_some() {
        JobPhase::Complete
    } else if let Some(failed) = is_true("Failed") {
        JobPhase::Failed {
            reason: failed.reason.clone().unwrap_or_default(),
            message: failed.message.clone().unwrap_or_default(),
        }
    } else {
        JobPhase::Live
    };
    let mine: Vec<&Pod> =
        pods.iter().filter(|pod| pod.owner_references().iter().any(|owner| owner.uid == uid)).collect();
    let result =
        if phase == JobPhase::Complete && stage != Stage::Embed { result(&mine, &revision) } else { JobResult::Gone };
    Some(JobState {
        name: job.name_any(),
        stage,
        phase,
        suspended: spec.suspend.unwrap_or(false),
        deleting: job.metadata.deletion_timestamp.is_some(),
        waiting_since: resumed_at(job).or_else(|| job.creation_timestamp().map(|time| time.0)),
        started: status.succeeded.unwrap_or(0) + status.failed.unwrap_or(0) > 0
            || mine.iter().any(|pod| has_started(pod)),
        completions: spec.completions.unwrap_or(1).max(0) as u32,
        succeeded: status.succeeded.unwrap_or(0).max(0) as u32,
        failed_indexes: status.failed_indexes.unwrap_or_default(),
        ttl: spec.ttl_seconds_after_finished,
        result,
        failures: failures(&mine, &revision),
        waiting: mine.iter().find_map(|pod| waiting(pod)),
        refused: None,
        revision,
        uid,
    })
}

fn stage_of(label: &str) -> Option<Stage> {
    [Stage::Plan, Stage::Embed, Stage::Finalize].into_iter().find(|stage| stage.as_str() == label)
}

/// When the Job was last taken out of suspension; its deadlines count from there.
fn resumed_at(job: &Job) -> Option<Timestamp> {
    job.status.as_ref()?.start_time.as_ref().map(|time| time.0)
}

fn has_started(pod: &Pod) -> bool {
    let statuses = pod.status.iter().filter_map(|status| status.container_statuses.as_ref()).flatten();
    statuses
        .filter_map(|status| status.state.as_ref())
        .any(|state| state.running.is_some() || state.terminated.is_some())
}

/// Why a pending pod does not start: the scheduler's or the kubelet's own words.
fn waiting(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let unscheduled = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    });
    if let Some(condition) = unscheduled {
        return Some(format!("pod {}: {}", pod.name_any(), condition.message.clone().unwrap_or_default()));
    }
    let held = status.container_statuses.iter().flatten().filter_map(|status| status.state.as_ref()?.waiting.as_ref());
    held.filter(|waiting| waiting.reason.as_deref() != Some("ContainerCreating")).find_map(|waiting| {
        let reason = waiting.reason.clone()?;
        Some(format!("pod {}: {reason}: {}", pod.name_any(), waiting.message.clone().unwrap_or_default()))
    })
}

/// The termination message of the runner's container, with its exit code.
fn last_word(pod: &Pod) -> Option<(i32, String)> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let runner = statuses.iter().find(|status| status.name == CONTAINER)?;
    let ended = runner.state.as_ref()?.terminated.as_ref()?;
    Some((ended.exit_code, ended.message.clone().unwrap_or_default()))
}

fn result(pods: &[&Pod], revision: &Revision) -> JobResult {
    let Some((_, message)) = pods.iter().filter_map(|pod| last_word(pod)).find(|(code, _)| *code == 0) else {
        return JobResult::Gone;
    };
    match RunResult::from_message(&message) {
        Ok(result) if result.revision == *revision => JobResult::Read(Box::new(result)),
        Ok(result) => JobResult::Unreadable(format!("the result is of revision {}", result.revision)),
        Err(error) => JobResult::Unreadable(error.to_string()),
    }
}

/// What failed pods said, the latest of each shard first by shard.
fn failures(pods: &[&Pod], revision: &Revision) -> Vec<Failure> {
    let mut failed: Vec<&&Pod> = pods.iter().filter(|pod| last_word(pod).is_some_and(|(code, _)| code != 0)).collect();
    failed.sort_by_key(|pod| std::cmp::Reverse(pod.creation_timestamp().map(|time| time.0)));
    let mut failures: Vec<Failure> = Vec::new();
    for pod in failed {
        let message = last_word(pod).map(|(_, message)| message).unwrap_or_default();
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
