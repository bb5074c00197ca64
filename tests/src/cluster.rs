//! A control plane with nodes, and the operations of a test on it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use k8s_openapi::api::core::v1::{Namespace as NamespaceObject, PersistentVolume, PersistentVolumeClaim};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::runtime::Handle;

use crate::assets::Assets;
use crate::commands;
use crate::control_plane::{ControlPlane, namespace_is_ready};
use crate::kubelet::{self, Image, Images, Kubelet};
use crate::workdir::Workdir;

pub use crate::kubelet::NodeOptions;

/// The options of a cluster.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// The nodes, each with its own kubelet. One node with 8 GPUs by default.
    pub nodes: Vec<NodeOptions>,
    /// The images that can be "pulled", by name without tag and digest, or by the whole reference. The image
    /// `sh` always exists.
    pub images: Vec<(String, Image)>,
    /// The directory of the cluster's files. By default a temporary directory, deleted when the process ends.
    pub folder: Option<PathBuf>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self { nodes: vec![NodeOptions::default()], images: Vec::new(), folder: None }
    }
}

/// The Pod Security Standard that a namespace enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodSecurity {
    /// Every pod is admitted.
    Privileged,
    /// Only pods that follow the hardening rules of production clusters are admitted.
    Restricted,
}

/// A running cluster. Dropping it stops the servers and the containers.
pub struct Cluster {
    // Fields are dropped in this order: pods, servers, files.
    kubelets: Vec<Kubelet>,
    control_plane: ControlPlane,
    client: Client,
    images: Arc<Images>,
    assets: Assets,
    runtime: Handle,
    folder: Workdir,
}

impl Cluster {
    /// Starts the control plane (10 to 20 seconds on two cores) and the kubelets, in the runtime of the caller.
    ///
    /// # Errors
    /// The programs cannot be found or built, a server does not start (the error has the end of its log), or this
    /// machine does not allow sandboxes.
    pub async fn start(options: ClusterOptions) -> Result<Self> {
        let assets = Assets::find().await?;
        let folder = match &options.folder {
            Some(path) => Workdir::at(path)?,
            None => Workdir::temporary()?,
        };
        let control_plane = ControlPlane::start(&assets, folder.path()).await?;
        let client = control_plane.client()?;
        let images = Arc::new(Images::default());
        images.insert("sh", Image::shell());
        for (name, image) in options.images {
            images.insert(&name, image);
        }
        let mut kubelets = Vec::new();
        let kubelet_folder = kubelet_folder(&folder);
        // Leftovers of an earlier cluster in the same directory.
        if kubelet_folder.exists() {
            fs::remove_dir_all(&kubelet_folder)
                .with_context(|| format!("cannot empty {}", kubelet_folder.display()))?;
        }
        for node in options.nodes {
            let kubelet = Kubelet::start(client.clone(), control_plane.port(), node, images.clone(), &kubelet_folder);
            kubelets.push(kubelet.await?);
        }
        Ok(Self { kubelets, control_plane, client, images, assets, runtime: Handle::current(), folder })
    }

    /// A client with all permissions. It works in the runtime that started the cluster.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The kubeconfig of the user with all permissions.
    pub fn kubeconfig(&self) -> &Path {
        self.control_plane.kubeconfig()
    }

    /// The directory of the cluster: the kubeconfig, `logs/` of the servers, `kubelet/logs/` of the containers.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Creates a namespace `<prefix>-<random>` and waits until pods can be created in it.
    pub async fn namespace(&self, prefix: &str, security: PodSecurity) -> Result<Namespace> {
        let namespaces: Api<NamespaceObject> = Api::all(self.client());
        let level = match security {
            PodSecurity::Privileged => "privileged",
            PodSecurity::Restricted => "restricted",
        };
        let object = serde_json::from_value(json!({
            "metadata": {
                "generateName": format!("{prefix}-"),
                "labels": {"pod-security.kubernetes.io/enforce": level},
            },
        }))?;
        let created = namespaces.create(&PostParams::default(), &object).await?;
        let namespace = Namespace { name: created.name_any(), api: namespaces, runtime: self.runtime.clone() };
        self.wait_for(&namespace, "the service account of the namespace", Duration::from_secs(30), async || {
            let ready = namespace_is_ready(&self.client, &namespace).await?;
            Ok(ready.then_some(()))
        })
        .await?;
        Ok(namespace)
    }

    /// Creates a PersistentVolume on `directory` and a claim bound to it. The directory is created if it is missing,
    /// and every user may write to it.
    pub async fn volume(&self, namespace: &str, claim: &str, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory)
            .and_then(|()| fs::set_permissions(directory, fs::Permissions::from_mode(0o777)))
            .with_context(|| format!("cannot create {}", directory.display()))?;
        let name = format!("{namespace}-{claim}");
        let size = json!({"storage": "1Ti"});
        let modes = ["ReadWriteOnce", "ReadWriteMany", "ReadOnlyMany"];
        let volume: PersistentVolume = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {
                "capacity": size, "accessModes": modes, "storageClassName": "",
                "hostPath": {"path": directory},
                "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {"namespace": namespace, "name": claim},
            },
        }))?;
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({
            "metadata": {"name": claim},
            "spec": {
                "accessModes": ["ReadWriteMany"], "storageClassName": "", "volumeName": name,
                "resources": {"requests": size},
            },
        }))?;
        let volumes: Api<PersistentVolume> = Api::all(self.client());
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client(), namespace);
        volumes.create(&PostParams::default(), &volume).await?;
        claims.create(&PostParams::default(), &claim).await?;
        Ok(())
    }

    /// Adds an image. Pods that wait for it start within two seconds.
    pub fn add_image(&self, name: &str, image: Image) {
        self.images.insert(name, image);
    }

    /// Sets the number of GPUs of the first node.
    pub async fn set_gpus(&self, gpus: u32) -> Result<()> {
        let kubelet = self.kubelets.first().ok_or_else(|| anyhow!("the cluster has no nodes"))?;
        kubelet.set_gpus(gpus).await
    }

    /// The logs of the containers of a pod, oldest container first. They outlive the pod.
    pub fn logs(&self, namespace: &str, pod: &str) -> Result<String> {
        kubelet::logs(&kubelet_folder(&self.folder), namespace, pod)
    }

    /// Runs kubectl and returns its standard output.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_with_input(arguments, "").await
    }

    /// Runs kubectl with `input` as its standard input, as for `apply -f -`.
    pub async fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> Result<String> {
        let kubectl = self.assets.program("kubectl");
        let folder = self.folder.path();
        commands::run(&kubectl, self.kubeconfig(), folder, arguments, input).await
    }

    /// Runs helm and returns its standard output.
    pub async fn helm(&self, arguments: &[&str]) -> Result<String> {
        let helm = self.assets.helm()?;
        let folder = self.folder.path();
        commands::run(helm, self.kubeconfig(), folder, arguments, "").await
    }
}

fn kubelet_folder(folder: &Workdir) -> PathBuf {
    folder.path().join("kubelet")
}

/// The namespace of one test. Dropping it deletes the namespace and everything in it.
pub struct Namespace {
    name: String,
    api: Api<NamespaceObject>,
    runtime: Handle,
}

impl std::ops::Deref for Namespace {
    type Target = str;

    fn deref(&self) -> &str {
        &self.name
    }
}

impl std::fmt::Display for Namespace {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let (api, name) = (self.api.clone(), self.name.clone());
        self.runtime.spawn(async move {
            // At the end of the process the whole cluster is deleted, and this request may fail.
            let _ = api.delete(&name, &DeleteParams::default()).await;
        });
    }
}
