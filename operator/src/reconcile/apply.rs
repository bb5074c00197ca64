//! Applies a decision to the children: creates them once, suspends, resumes, deletes, lets them expire.
//!
//! Only [`apply`] can construct [`Applied`], which `record` requires: a status never reports a child that was not
//! written.

use k8s_openapi::api::{batch::v1::Job, core::v1::ConfigMap};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use super::{build::Children, decision::Decision};
use crate::error::{Error, WithAction};

/// The proof that the children of a decision were written.
#[derive(Debug)]
pub struct Applied(());

/// Applies `decision` in `namespace`; `children` are the objects that [`super::build`] built for it.
///
/// # Errors
///
/// [`Error::Api`] if a request fails, or if an object of another owner has the name of a child.
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
        Decision::Retire(names) | Decision::Redo(_, names) => delete(&jobs, namespace, names).await?,
        Decision::Suspend(names) => set_suspend(&jobs, namespace, names, true).await?,
        Decision::Resume(names) => set_suspend(&jobs, namespace, names, false).await?,
        Decision::Keep(leftovers) => {
            delete(&jobs, namespace, &leftovers.delete).await?;
            for (name, ttl) in &leftovers.expire {
                patch(&jobs, namespace, name, json!({"spec": {"ttlSecondsAfterFinished": ttl}})).await?;
            }
        }
        Decision::Reject(_) | Decision::Wait(_) | Decision::Track(_) | Decision::Succeed(..) | Decision::Fail(_) => {}
    }
    Ok(Applied(()))
}

/// Creates an object. An existing object with the same owner and labels is left as it is.
async fn create_once<K>(api: &Api<K>, object: &K) -> Result<(), Error>
where
    K: kube::Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    let name = object.name_any();
    let action = || format!("create {} {}/{name}", K::kind(&()), object.namespace().unwrap_or_default());
    match api.create(&PostParams::default(), object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let existing = api.get_metadata(&name).await.with_action(action)?;
            let is_ours = existing.metadata.owner_references == object.meta().owner_references
                && existing.metadata.labels == object.meta().labels;
            if is_ours { Ok(()) } else { Err(kube::Error::Api(status)).with_action(action) }
        }
        Err(error) => Err(error).with_action(action),
    }
}

/// Deletes Jobs in the foreground: they exist until their pods are deleted, so that their successors start when no pod
/// writes any more.
async fn delete(jobs: &Api<Job>, namespace: &str, names: &[String]) -> Result<(), Error> {
    for name in names {
        match jobs.delete(name, &DeleteParams::foreground()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => return Err(error).with_action(|| format!("delete Job {namespace}/{name}")),
        }
    }
    Ok(())
}

async fn set_suspend(jobs: &Api<Job>, namespace: &str, names: &[String], suspend: bool) -> Result<(), Error> {
    for name in names {
        patch(jobs, namespace, name, json!({"spec": {"suspend": suspend}})).await?;
    }
    Ok(())
}

async fn patch(jobs: &Api<Job>, namespace: &str, name: &str, change: serde_json::Value) -> Result<(), Error> {
    match jobs.patch(name, &PatchParams::default(), &Patch::Merge(change)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error).with_action(|| format!("patch Job {namespace}/{name}")),
    }
}
