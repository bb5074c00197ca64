//! Reads the state of the cluster that a decision depends on, once, straight from the API server.

use crds::{
    contract::Stage,
    resolve::{self, Volume},
    v1alpha1::{EmbeddingRun, LABEL_STAGE},
};
use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{ConfigMap, Event, PersistentVolumeClaim, Pod},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{Api, Client, Resource, ResourceExt, api::ListParams};

use super::{
    job_state, names,
    world::{ForeignJob, JobPhase, JobState, MissingVolume, World},
};
use crate::error::{Error, WithAction};

/// Reads the world of one run.
///
/// # Errors
///
/// [`Error::Api`] if a request fails.
pub async fn observe(client: &Client, run: &EmbeddingRun) -> Result<World, Error> {
    let namespace = run.namespace().unwrap_or_default();
    let name = run.name_any();
    let jobs = Api::<Job>::namespaced(client.clone(), &namespace)
        .list(&ListParams::default().labels(&names::selector(&name)))
        .await
        .with_action(|| format!("list the Jobs of {namespace}/{name}"))?;
    let pods = if jobs.items.is_empty() { Vec::new() } else { list_pods(client, &namespace, &name).await? };
    let mut world = World::default();
    for job in jobs.items {
        if is_owned_by(&job, run) {
            if let Some(mut state) = job_state::of(&job, &pods) {
                if state.phase == JobPhase::Live && !state.started && state.pending.is_none() {
                    state.rejection = pod_rejection(client, &namespace, &state).await?;
                }
                world.jobs.push(state);
            }
        } else {
            world.foreign_jobs.push(foreign_job(&job, run));
        }
    }
    world.missing_volumes = missing_volumes(client, run, &namespace).await?;
    Ok(world)
}

/// The pods that carry information: all of the plan and finalize stages, and those of the embed stage that have not
/// succeeded. The Job counts the succeeded shards, of which there may be many thousands.
async fn list_pods(client: &Client, namespace: &str, run: &str) -> Result<Vec<Pod>, Error> {
    let api = Api::<Pod>::namespaced(client.clone(), namespace);
    let selector = names::selector(run);
    let embed = Stage::Embed;
    let lists = [
        ListParams::default().labels(&format!("{selector},{LABEL_STAGE}!={embed}")),
        ListParams::default().labels(&format!("{selector},{LABEL_STAGE}={embed}")).fields("status.phase!=Succeeded"),
    ];
    let mut pods = Vec::new();
    for list in lists {
        pods.extend(api.list(&list).await.with_action(|| format!("list the pods of {namespace}/{run}"))?);
    }
    Ok(pods)
}

fn is_owned_by(job: &Job, run: &EmbeddingRun) -> bool {
    job.owner_references().iter().any(|owner| Some(&owner.uid) == run.metadata.uid.as_ref())
}

/// A Job of another owner. Garbage collection soon deletes one whose owner is a deleted run with the same name.
fn foreign_job(job: &Job, run: &EmbeddingRun) -> ForeignJob {
    let kind = EmbeddingRun::kind(&());
    let is_earlier = |owner: &OwnerReference| owner.kind == kind && Some(&owner.name) == run.metadata.name.as_ref();
    let terminating = job.metadata.deletion_timestamp.is_some() || job.owner_references().iter().any(is_earlier);
    ForeignJob { name: job.name_any(), terminating }
}

/// The claims, ConfigMaps and keys of ConfigMaps that the run mounts and that do not exist.
async fn missing_volumes(client: &Client, run: &EmbeddingRun, namespace: &str) -> Result<Vec<MissingVolume>, Error> {
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
                let claim = api.get_metadata_opt(name).await;
                if claim.with_action(|| format!("read PersistentVolumeClaim {namespace}/{name}"))?.is_none() {
                    missing.push(absent("PersistentVolumeClaim", name, None));
                }
            }
            Volume::ConfigMap(name) => match config_map_keys(client, namespace, name, volume.key.is_some()).await? {
                None => missing.push(absent("ConfigMap", name, None)),
                Some(keys) => {
                    let absent_key = volume.key.filter(|key| !keys.iter().any(|existing| existing == key));
                    missing.extend(absent_key.map(|key| absent("ConfigMap", name, Some(key))));
                }
            },
            Volume::HostPath(_) => {}
        }
    }
    Ok(missing)
}

/// The keys of a ConfigMap; `None` if it does not exist. Reads only its metadata, and returns no keys, unless
/// `with_keys` is set: a source may be large.
async fn config_map_keys(
    client: &Client,
    namespace: &str,
    name: &str,
    with_keys: bool,
) -> Result<Option<Vec<String>>, Error> {
    let api = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    let action = || format!("read ConfigMap {namespace}/{name}");
    if !with_keys {
        return Ok(api.get_metadata_opt(name).await.with_action(action)?.map(|_| Vec::new()));
    }
    let map = api.get_opt(name).await.with_action(action)?;
    Ok(map.map(|map| {
        let (text, binary) = (map.data.unwrap_or_default(), map.binary_data.unwrap_or_default());
        text.into_keys().chain(binary.into_keys()).collect()
    }))
}

/// Why the API server rejected a pod of a Job, from the latest `FailedCreate` event of the Job controller.
async fn pod_rejection(client: &Client, namespace: &str, job: &JobState) -> Result<Option<String>, Error> {
    let fields = format!("involvedObject.uid={},reason=FailedCreate", job.uid);
    let events = Api::<Event>::namespaced(client.clone(), namespace)
        .list(&ListParams::default().fields(&fields))
        .await
        .with_action(|| format!("list the events of Job {namespace}/{}", job.name))?;
    let latest = events.items.into_iter().max_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0));
    Ok(latest.and_then(|event| event.message))
}
