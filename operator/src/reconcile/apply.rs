//! Carries out a decision on the children: makes them once, pauses, deletes, lets them expire.
//!
//! Returns [`Applied`], which can be had nowhere else: a status that speaks of a child can only be recorded
//! after the child was really written.

use k8s_openapi::api::{batch::v1::Job, core::v1::ConfigMap};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use super::{build::Children, decide::Decision};
use crate::error::{Error, Tried};

/// Proof that the children of a decision were written.
#[derive(Debug)]
pub struct Applied(());

/// Carries out `decision` in `namespace`; `children` are those that [`super::build`] made for it.
pub async fn apply(
    client: &Client,
    namespace: &str,
    decision: &Decision,
    children: Option<&Children>,
) -> Result<Applied, Error> {
    let jobs = Api::<Job>::namespaced(client.clone(), namespace);
    match decision {
        Decision::Create(_) => {
            if let Some(children) = children {
                create_once(&Api::<ConfigMap>::namespaced(client.clone(), namespace), &children.config).await?;
                create_once(&jobs, &children.job).await?;
            }
        }
        Decision::Retire(names) | Decision::Redo(_, names) => delete(&jobs, names).await?,
        Decision::Suspend(names) => suspend(&jobs, names, true).await?,
        Decision::Resume(names) => suspend(&jobs, names, false).await?,
        Decision::Keep(leftovers) => {
            delete(&jobs, &leftovers.delete).await?;
            for (name, ttl) in &leftovers.expire {
                patch(&jobs, name, json!({"spec": {"ttlSecondsAfterFinished": ttl}})).await?;
            }
        }
        Decision::Reject(_) | Decision::Wait(_) | Decision::Track(_) | Decision::Succeed(..) | Decision::Fail(_) => {}
    }
    Ok(Applied(()))
}

/// Creates an object; one that exists already is left as it is, if it has the same owner.
async fn create_once<K>(api: &Api<K>, object: &K) -> Result<(), Error>
where
    K: kube::Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    let name = object.name_any();
    let what = || format!("create {} {}/{name}", K::kind(&()), object.namespace().unwrap_or_default());
    match api.create(&PostParams::default(), object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let existing = api.get_metadata(&name).await.tried(what)?;
            let same_owner = existing.metadata.owner_references == object.meta().owner_references
                && existing.metadata.labels == object.meta().labels;
            if same_owner { Ok(()) } else { Err(kube::Error::Api(status)).tried(what) }
        }
        Err(error) => Err(error).tried(what),
    }
}

/// Deletes Jobs and, before they vanish, their pods: what takes their place starts when nothing writes any more.
async fn delete(jobs: &Api<Job>, names: &[String]) -> Result<(), Error> {
    for name in names {
        match jobs.delete(name, &DeleteParams::foreground()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => return Err(error).tried(|| format!("delete Job {name}")),
        }
    }
    Ok(())
}

async fn suspend(jobs: &Api<Job>, names: &[String], suspend: bool) -> Result<(), Error> {
    for name in names {
        patch(jobs, name, json!({"spec": {"suspend": suspend}})).await?;
    }
    Ok(())
}

async fn patch(jobs: &Api<Job>, name: &str, change: serde_json::Value) -> Result<(), Error> {
    match jobs.patch(name, &PatchParams::default(), &Patch::Merge(change)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error).tried(|| format!("patch Job {name}")),
    }
}
