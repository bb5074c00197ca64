//! One pod: its volumes, its containers in order, its status, its deletion.

use std::collections::BTreeMap;
use std::future::pending;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Container, Pod, PodCondition};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;
use tokio::select;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::Context;
use super::container::{RETRY, Restart, Runner, Stop};
use super::status::{PodRecord, Record, State, containers};
use super::volumes::{self, Mountable};

/// The latest version of a pod; `None` once it is deleted.
pub(super) type PodUpdates = watch::Receiver<Option<Arc<Pod>>>;

/// The record of a pod, shared between its containers, which write it, and its worker, which reports it.
#[derive(Clone)]
pub(super) struct SharedRecord {
    record: Arc<Mutex<PodRecord>>,
    /// The names of the init containers and of the containers, in the order of the record.
    names: Arc<(Vec<String>, Vec<String>)>,
    changed: Arc<Notify>,
}

impl SharedRecord {
    fn new(pod: &Pod) -> Self {
        let (init, main) = containers(pod);
        let names = |of: &[Container]| of.iter().map(|container| container.name.clone()).collect();
        Self {
            record: Arc::new(Mutex::new(PodRecord::new(pod))),
            names: Arc::new((names(init), names(main))),
            changed: Arc::default(),
        }
    }

    fn with<T>(&self, access: impl FnOnce(&mut PodRecord) -> T) -> T {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        access(&mut record)
    }

    fn with_container<T>(&self, container: &str, access: impl FnOnce(&mut Record) -> T) -> T {
        let position = |names: &[String]| names.iter().position(|name| name == container);
        self.with(|record| {
            let container_record = match (position(&self.names.0), position(&self.names.1)) {
                (Some(index), _) => &mut record.init[index],
                (None, Some(index)) => &mut record.main[index],
                (None, None) => unreachable!("{container} is a container of this pod"),
            };
            access(container_record)
        })
    }

    /// Changes the record of `container` and wakes the reporter.
    pub(super) fn update(&self, container: &str, change: impl FnOnce(&mut Record)) {
        self.with_container(container, |record| change(record));
        self.changed.notify_one();
    }

    pub(super) fn read<T>(&self, container: &str, read: impl FnOnce(&Record) -> T) -> T {
        self.with_container(container, |record| read(record))
    }

    fn update_pod(&self, change: impl FnOnce(&mut PodRecord)) {
        self.with(change);
        self.changed.notify_one();
    }

    fn snapshot(&self) -> PodRecord {
        self.with(|record| record.clone())
    }
}

/// Runs a pod, from its binding to its deletion.
pub(super) struct Worker {
    context: Arc<Context>,
    pod: Arc<Pod>,
    updates: PodUpdates,
    record: SharedRecord,
    /// The conditions of the last report, for their transition times.
    reported: Vec<PodCondition>,
}

impl Worker {
    pub(super) fn new(context: Arc<Context>, pod: Arc<Pod>, updates: PodUpdates) -> Self {
        Self { record: SharedRecord::new(&pod), context, pod, updates, reported: Vec::new() }
    }

    /// Runs the pod, reports its status, and deletes it once it has ended and its deletion is requested.
    pub(super) async fn run(mut self) {
        let folder = self.context.pod_folder(&self.pod);
        self.run_containers(folder.clone()).await;
        self.report().await;
        self.delete_when_requested().await;
        // The rest is removed with the directory of the cluster.
        let _ = std::fs::remove_dir_all(folder);
    }

    async fn run_containers(&mut self, folder: PathBuf) {
        let (stop, stopped) = watch::channel(None);
        let mut containers = JoinSet::new();
        containers.spawn(
            PodRun {
                context: self.context.clone(),
                pod: self.pod.clone(),
                record: self.record.clone(),
                stop: stopped,
                folder,
            }
            .run(),
        );
        let mut expiry = pin!(sleep_until(active_deadline(&self.pod)));
        let mut expired = false;
        let changed = self.record.changed.clone();
        let mut updates = self.updates.clone();
        updates.mark_changed();
        loop {
            select! {
                _ = containers.join_next() => return,
                () = changed.notified() => self.report().await,
                grace = next_stop(&mut updates) => {
                    stop.send_replace(Some(grace));
                }
                () = &mut expiry, if !expired => {
                    expired = true;
                    self.record.update_pod(|record| {
                        let message = "Pod was active on the node longer than the specified deadline";
                        record.failure = Some(("DeadlineExceeded", message));
                    });
                    stop.send_replace(Some(grace_period(&self.pod)));
                }
            }
        }
    }

    /// Writes the status, unless the pod was deleted.
    async fn report(&mut self) {
        if self.updates.borrow().is_none() {
            return;
        }
        let status = self.record.snapshot().status(&self.pod, &self.reported);
        self.reported = status.conditions.clone().unwrap_or_default();
        // The uid protects a later pod of the same name.
        let patch = json!({"metadata": {"uid": self.pod.metadata.uid}, "status": status});
        for _ in 0..5 {
            let sent = self.api().patch_status(self.name(), &PatchParams::default(), &Patch::Strategic(&patch)).await;
            match sent {
                Ok(_) => return,
                // The pod was deleted, or replaced.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => return,
                Err(error) => {
                    tracing::warn!(pod = self.name(), %error, "cannot write the status");
                    sleep(RETRY).await;
                }
            }
        }
    }

    async fn delete_when_requested(&mut self) {
        loop {
            let is_requested = match &*self.updates.borrow_and_update() {
                None => return,
                Some(pod) => pod.metadata.deletion_timestamp.is_some(),
            };
            if is_requested {
                let parameters = DeleteParams::default()
                    .grace_period(0)
                    .preconditions(Preconditions { uid: self.pod.metadata.uid.clone(), resource_version: None });
                match self.api().delete(self.name(), &parameters).await {
                    Ok(_) => return,
                    Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return,
                    Err(error) => {
                        tracing::warn!(pod = self.name(), %error, "cannot delete the pod");
                        sleep(RETRY).await;
                        continue;
                    }
                }
            }
            if self.updates.changed().await.is_err() {
                return;
            }
        }
    }

    fn api(&self) -> Api<Pod> {
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or_default();
        Api::namespaced(self.context.client.clone(), namespace)
    }

    fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }
}

/// Waits until the pod has to stop, or to stop sooner, and returns its grace period.
async fn next_stop(updates: &mut PodUpdates) -> Duration {
    while updates.changed().await.is_ok() {
        match &*updates.borrow_and_update() {
            Some(pod) if pod.metadata.deletion_timestamp.is_none() => {}
            Some(pod) => return grace_period(pod),
            None => return Duration::ZERO,
        }
    }
    pending().await
}

/// The grace period of the deletion of `pod`, else that of its spec.
pub(super) fn grace_period(pod: &Pod) -> Duration {
    let of_spec = || pod.spec.as_ref()?.termination_grace_period_seconds;
    let seconds = pod.metadata.deletion_grace_period_seconds.or_else(of_spec);
    Duration::from_secs(seconds.and_then(|it| it.try_into().ok()).unwrap_or(30))
}

/// The time by which the pod must have ended; far in the future without a deadline.
fn active_deadline(pod: &Pod) -> Instant {
    const FAR: Duration = Duration::from_hours(24 * 365);
    let seconds = pod.spec.as_ref().and_then(|spec| spec.active_deadline_seconds);
    let limit = seconds.and_then(|seconds| seconds.try_into().ok()).map_or(FAR, Duration::from_secs);
    Instant::now() + limit
}

/// The run of a pod's containers, from the mounts to the last exit.
struct PodRun {
    context: Arc<Context>,
    pod: Arc<Pod>,
    record: SharedRecord,
    stop: Stop,
    folder: PathBuf,
}

impl PodRun {
    async fn run(mut self) {
        if let Some(volumes) = self.mount().await {
            self.record.update_pod(|record| record.volumes_ready = true);
            self.start(Arc::new(volumes)).await;
        }
        if self.stop.borrow().is_some() {
            self.record.update_pod(PodRecord::close);
        }
    }

    /// Prepares the volumes. `None` if the pod stops first.
    async fn mount(&mut self) -> Option<BTreeMap<String, Mountable>> {
        loop {
            if self.stop.borrow().is_some() {
                return None;
            }
            let folder = self.folder.join("volumes");
            match volumes::prepare(&self.context, &self.pod, &folder).await {
                Ok(volumes) => return Some(volumes),
                Err(error) => {
                    self.context.warn(&self.pod, "FailedMount", &error.message).await;
                    self.record.update_pod(|record| {
                        for record in record.init.iter_mut().chain(&mut record.main) {
                            if let State::Waiting { message, .. } = &mut record.state {
                                *message = Some(error.message.clone());
                            }
                        }
                    });
                }
            }
            select! {
                () = sleep(RETRY) => {}
                _ = self.stop.changed() => {}
            }
        }
    }

    async fn start(&self, volumes: Arc<BTreeMap<String, Mountable>>) {
        let (init, main) = containers(&self.pod);
        for container in init {
            self.runner(container, true, &volumes).run().await;
            let done = self.record.read(&container.name, Record::succeeded);
            if !done {
                return;
            }
        }
        join_all(main.iter().map(|container| self.runner(container, false, &volumes).run())).await;
    }

    fn runner(&self, container: &Container, init: bool, volumes: &Arc<BTreeMap<String, Mountable>>) -> Runner {
        Runner {
            context: self.context.clone(),
            pod: self.pod.clone(),
            container: container.clone(),
            volumes: volumes.clone(),
            folder: self.folder.join("messages"),
            restart: self.pod.spec.as_ref().map_or(Restart::Never, |spec| Restart::of(spec, init)),
            shared: self.record.clone(),
            stop: self.stop.clone(),
        }
    }
}
