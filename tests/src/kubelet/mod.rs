//! A kubelet that runs the containers of its pods as sandboxed processes of this machine.
//!
//! It registers its [`node`], watches the pods that are bound to it and gives each a worker ([`pod`]). The
//! worker prepares the [`volumes`], runs the init containers in order and then the containers together ([`container`])
//! as [`process`]es in a [`sandbox`], and reports their [`status`]. A pod waits for missing images, ConfigMaps and
//! volumes, with the reasons of the real kubelet.
//!
//! Not implemented: exec, attach, port-forward and `kubectl logs`; limits on memory and CPU; sidecar containers;
//! lifecycle hooks; updates of mounted ConfigMaps.

mod container;
mod environment;
mod fields;
mod files;
mod image;
mod node;
mod pod;
mod probe;
mod process;
mod quantity;
mod sandbox;
mod sources;
mod status;
mod termination;
mod volumes;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use image::Image;
pub(crate) use image::Images;
pub use node::NodeOptions;
use pod::Worker;

use crate::assets::in_path;

/// The state that the parts of a kubelet share.
struct Context {
    client: Client,
    recorder: Recorder,
    images: Arc<Images>,
    node: RwLock<NodeOptions>,
    folder: PathBuf,
    bwrap: PathBuf,
    apiserver_port: u16,
}

impl Context {
    fn node(&self) -> NodeOptions {
        let node = self.node.read().unwrap_or_else(PoisonError::into_inner);
        node.clone()
    }

    fn allocatable(&self) -> BTreeMap<String, Quantity> {
        self.node().resources()
    }

    /// The directory of a pod's volumes and messages.
    fn pod_folder(&self, pod: &Pod) -> PathBuf {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        self.folder.join("pods").join(uid)
    }

    fn log_path(&self, pod: &Pod, container: &str, restarts: i32) -> PathBuf {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        log_folder(&self.folder).join(format!("{namespace}_{name}_{container}_{restarts}.log"))
    }

    /// Records a warning event. Events are best effort, here as in the real kubelet.
    async fn warn(&self, pod: &Pod, reason: &str, note: &str) {
        let event = Event {
            type_: EventType::Warning,
            reason: reason.into(),
            note: Some(note.chars().take(1024).collect()),
            action: "Run".into(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &pod.object_ref(&())).await {
            tracing::debug!(%error, reason, "cannot publish the event");
        }
    }
}

/// The folder of the logs of all containers.
fn log_folder(folder: &Path) -> PathBuf {
    folder.join("logs")
}

/// A running kubelet. Dropping it ends its containers.
pub(crate) struct Kubelet {
    context: Arc<Context>,
    _watch: JoinSet<()>,
}

impl Kubelet {
    /// Registers the node and starts to run the pods that are bound to it, with their files in `folder`.
    ///
    /// # Errors
    /// `bwrap` is missing or not allowed to create user namespaces, or the API server rejects the node.
    pub(crate) async fn start(
        client: Client,
        apiserver_port: u16,
        node: NodeOptions,
        images: Arc<Images>,
        folder: &Path,
    ) -> Result<Self> {
        fs::create_dir_all(log_folder(folder))?;
        let reporter = Reporter { controller: "kubelet".into(), instance: Some(node.name.clone()) };
        let context = Arc::new(Context {
            recorder: Recorder::new(client.clone(), reporter),
            bwrap: find_bwrap().await?,
            client,
            images,
            node: RwLock::new(node.clone()),
            folder: folder.to_path_buf(),
            apiserver_port,
        });
        node::register(&context.client, &node).await?;
        let mut watch = JoinSet::new();
        watch.spawn(watch_pods(context.clone()));
        Ok(Self { context, _watch: watch })
    }

    /// Changes the number of GPUs of the node.
    pub(crate) async fn set_gpus(&self, gpus: u32) -> Result<()> {
        let node = {
            let mut node = self.context.node.write().unwrap_or_else(PoisonError::into_inner);
            node.gpus = gpus;
            node.clone()
        };
        node::set_resources(&self.context.client, &node).await
    }
}

/// The logs of all containers of a pod under `folder`, oldest first.
pub(crate) fn logs(folder: &Path, namespace: &str, pod: &str) -> Result<String> {
    let prefix = format!("{namespace}_{pod}_");
    let mut files: Vec<_> = fs::read_dir(log_folder(folder))?
        .flatten()
        .filter(|file| file.file_name().to_string_lossy().starts_with(&prefix))
        .map(|file| (file.metadata().and_then(|it| it.created()).ok(), file.path()))
        .collect();
    files.sort();
    let mut text = String::new();
    for (_, file) in files {
        text += &String::from_utf8_lossy(&fs::read(file)?);
    }
    Ok(text)
}

async fn find_bwrap() -> Result<PathBuf> {
    let bwrap = in_path("bwrap")
        .into_iter()
        .next()
        .context("cannot find bwrap in PATH: the local kubelet runs containers with bubblewrap")?;
    let bwrap = fs::canonicalize(bwrap)?;
    let probe = Command::new(&bwrap)
        .args(["--unshare-user", "--unshare-pid", "--ro-bind", "/", "/"])
        .args(["--proc", "/proc", "--", "true"])
        .output()
        .await?;
    ensure!(
        probe.status.success(),
        "bwrap cannot create a sandbox on this machine: {}",
        String::from_utf8_lossy(&probe.stderr).trim()
    );
    Ok(bwrap)
}

/// Starts a worker for every pod of the node and sends it the updates of the pod.
async fn watch_pods(context: Arc<Context>) {
    let pods: Api<Pod> = Api::all(context.client.clone());
    let on_node = format!("spec.nodeName={}", context.node().name);
    let events = watcher(pods, watcher::Config::default().fields(&on_node)).default_backoff();
    pin_mut!(events);

    let mut workers = JoinSet::new();
    let mut updates: HashMap<String, watch::Sender<Option<Arc<Pod>>>> = HashMap::new();
    let mut listed = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(pod) | watcher::Event::Apply(pod)) => {
                let uid = pod.metadata.uid.clone().unwrap_or_default();
                let pod = Arc::new(pod);
                listed.push(uid.clone());
                if let Some(sender) = updates.get(&uid) {
                    sender.send_replace(Some(pod));
                } else {
                    let (sender, receiver) = watch::channel(Some(pod.clone()));
                    updates.insert(uid, sender);
                    workers.spawn(Worker::new(context.clone(), pod, receiver).run());
                }
            }
            Ok(watcher::Event::InitDone) => {
                updates.retain(|uid, sender| {
                    let exists = listed.contains(uid);
                    if !exists {
                        sender.send_replace(None);
                    }
                    exists
                });
            }
            Ok(watcher::Event::Delete(pod)) => {
                let uid = pod.metadata.uid.unwrap_or_default();
                if let Some(sender) = updates.remove(&uid) {
                    sender.send_replace(None);
                }
            }
            Err(error) => tracing::warn!(%error, "the watch of the pods failed, it is retried"),
        }
        while workers.try_join_next().is_some() {}
    }
}
