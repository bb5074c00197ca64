//! The installed operator, and the workspace of a run: a namespace with claims.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use crds::v1alpha1::{ConditionType, EmbeddingRun, EmbeddingRunStatus, Phase};
use harness::{Cluster, ClusterOptions, Image, Namespace, PodSecurity};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::cards;

/// Long enough for a run on a machine that is busy with the other tests.
pub(crate) const LIMIT: Duration = Duration::from_mins(3);
/// The namespace of the operator.
pub(crate) const SYSTEM: &str = "embedrun-system";
/// The model of the tests.
pub(crate) const MODEL: &str = "all-MiniLM-L6-v2";

static OPERATOR: OnceCell<u16> = OnceCell::const_new();

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A binary of this Cargo workspace.
pub(crate) fn binary(name: &str) -> Result<PathBuf> {
    std::env::current_exe()?
        .parent()
        .and_then(Path::parent)
        .map(|target| target.join(name))
        .filter(|path| path.is_file())
        .with_context(|| {
            format!("cannot find the binary {name}: run `make test`, or `cargo build --workspace --bins` first")
        })
}

/// A cluster with the binaries of this Cargo workspace as images.
pub(crate) fn options() -> Result<ClusterOptions> {
    let image = |name: &str, program: &str| -> Result<(String, Image)> {
        let path = binary(program)?;
        Ok((format!("embedrun.test/{name}"), Image::of_binary(path, format!("/usr/local/bin/{program}"))))
    };
    let mut images = vec![image("operator", "embedrun-operator")?, image("runner", "embedrun")?];
    images.extend(cards::image());
    Ok(ClusterOptions { images, ..ClusterOptions::default() })
}

/// Installs the chart once for all tests. Returns the port of the operator's metrics.
pub(crate) async fn operator(cluster: &Cluster) -> Result<u16> {
    OPERATOR.get_or_try_init(|| install(cluster)).await.copied()
}

/// Deletes the pod of the operator, which its Deployment replaces. Returns the name of the deleted pod.
pub(crate) async fn restart_operator(cluster: &Cluster) -> Result<String> {
    let operators: Api<Pod> = Api::namespaced(cluster.client(), SYSTEM);
    let all = ListParams::default().labels("app.kubernetes.io/component=operator");
    let old = operators.list(&all).await?.items.first().map(ResourceExt::name_any).context("an operator")?;
    operators.delete(&old, &DeleteParams::default()).await?;
    Ok(old)
}

/// A free port of this machine, whose network the pods of the local kubelet share.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

async fn install(cluster: &Cluster) -> Result<u16> {
    let port = free_port()?;
    let chart = root().join("charts/embedrun");
    let port_value = format!("service.port={port}");
    cluster
        .helm(&[
            "install",
            "embedrun",
            &chart.to_string_lossy(),
            "--namespace",
            SYSTEM,
            "--create-namespace",
            "--set",
            "operator.image.repository=embedrun.test/operator",
            "--set",
            "runner.image.repository=embedrun.test/runner",
            "--set",
            "operator.bindAddress=127.0.0.1",
            "--set",
            &port_value,
        ])
        .await?;
    let rollout = ["-n", SYSTEM, "rollout", "status", "deployment/embedrun-operator", "--timeout=60s"];
    if let Err(error) = cluster.kubectl(&rollout).await {
        anyhow::bail!("{error:#}\n{}", cluster.report(SYSTEM).await);
    }
    Ok(port)
}

/// The folder that holds the model.
pub(crate) fn models() -> Result<PathBuf> {
    let folder = std::env::var_os("EMBEDRUN_TEST_MODELS")
        .map(PathBuf::from)
        .context("EMBEDRUN_TEST_MODELS is not set: run `make test`, which sets it to the folder of the models")?;
    ensure!(folder.join(MODEL).is_dir(), "{MODEL} is missing in {}", folder.display());
    Ok(folder)
}

/// A namespace with the claims `chunks`, `models` and `vectors`, and their folders.
pub(crate) struct Workspace<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) namespace: Namespace,
    pub(crate) chunks: PathBuf,
    pub(crate) vectors: PathBuf,
    folder: TempDir,
}

impl<'a> Workspace<'a> {
    pub(crate) async fn make(cluster: &'a Cluster, prefix: &str) -> Result<Self> {
        Self::make_under(cluster, prefix, PodSecurity::Restricted).await
    }

    pub(crate) async fn make_under(cluster: &'a Cluster, prefix: &str, security: PodSecurity) -> Result<Self> {
        operator(cluster).await?;
        let namespace = cluster.namespace(prefix, security).await?;
        let folder = TempDir::new()?;
        let workspace = Self {
            cluster,
            namespace,
            chunks: folder.path().join("chunks"),
            vectors: folder.path().join("vectors"),
            folder,
        };
        cluster.volume(&workspace.namespace, "chunks", &workspace.chunks).await?;
        cluster.volume(&workspace.namespace, "vectors", &workspace.vectors).await?;
        // Not by Cluster::volume, which lets every user write to the folder.
        workspace.read_only_volume("models", &models()?).await?;
        Ok(workspace)
    }

    /// A claim on a folder whose permissions do not change.
    pub(crate) async fn read_only_volume(&self, claim: &str, folder: &Path) -> Result<()> {
        let name = format!("{}-{claim}", self.namespace);
        let manifest = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": {
                "capacity": {"storage": "1Ti"}, "accessModes": ["ReadWriteMany"], "storageClassName": "",
                "hostPath": {"path": folder}, "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {"namespace": &*self.namespace, "name": claim}}},
            {"apiVersion": "v1", "kind": "PersistentVolumeClaim",
             "metadata": {"name": claim, "namespace": &*self.namespace}, "spec": {
                "accessModes": ["ReadWriteMany"], "storageClassName": "", "volumeName": name,
                "resources": {"requests": {"storage": "1Ti"}}}}
        ]});
        self.cluster.kubectl_with_input(&["apply", "-f", "-"], &manifest.to_string()).await?;
        Ok(())
    }

    /// Another folder of this test.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a source file.
    pub(crate) fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.chunks.join(path);
        fs::create_dir_all(path.parent().context("a file in a folder")?)?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// A manifest that embeds `chunks/` in shards of ten on the advertised GPUs. `change` is merged into its spec.
    pub(crate) fn manifest(&self, name: &str, change: Value) -> Value {
        let mut spec = json!({
            "collections": [{"name": "chunks", "source": {"pvc": {"claimName": "chunks"}}}],
            "models": {"dense": [{"name": "minilm", "source": format!("pvc://models/{MODEL}")}]},
            "gpu": {"required": false},
            "execution": {"shardSize": 10, "parallelism": 2},
            "output": {"pvc": {"claimName": "vectors"}}
        });
        merge(&mut spec, change);
        json!({
            "apiVersion": "embedrun.dev/v1alpha1", "kind": "EmbeddingRun",
            "metadata": {"name": name, "namespace": &*self.namespace}, "spec": spec
        })
    }

    /// `kubectl apply`.
    pub(crate) async fn apply(&self, manifest: &Value) -> Result<String> {
        self.cluster.kubectl_with_input(&["apply", "-f", "-"], &manifest.to_string()).await
    }

    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut all = vec!["-n", &*self.namespace];
        all.extend(arguments);
        self.cluster.kubectl(&all).await
    }

    pub(crate) fn runs(&self) -> Api<EmbeddingRun> {
        Api::namespaced(self.cluster.client(), &self.namespace)
    }

    /// The status of a run, once `is_reached`.
    pub(crate) async fn status(
        &self,
        name: &str,
        what: &str,
        is_reached: impl Fn(&EmbeddingRunStatus) -> bool,
    ) -> Result<EmbeddingRunStatus> {
        let runs = self.runs();
        let mut last = None;
        let status = self
            .cluster
            .wait_for(&self.namespace, what, LIMIT, async || {
                let run = runs.get(name).await?;
                last.clone_from(&run.status);
                let generation = run.metadata.generation.unwrap_or_default();
                let current = run.status.filter(|status| status.observed_generation == generation);
                Ok(current.filter(|status| is_reached(status)))
            })
            .await;
        status.with_context(|| format!("the last status of {name} was {last:#?}"))
    }

    /// The status of a run, once it has succeeded or failed.
    pub(crate) async fn ended(&self, name: &str) -> Result<EmbeddingRunStatus> {
        self.status(name, "the end of the run", |status| {
            matches!(status.phase, Some(Phase::Succeeded | Phase::Failed)) && status.outcome.is_some()
        })
        .await
    }

    pub(crate) async fn succeeded(&self, name: &str) -> Result<EmbeddingRunStatus> {
        let status = self.ended(name).await?;
        ensure!(
            status.phase == Some(Phase::Succeeded),
            "{name} failed: {:?}\n{}",
            condition(&status, ConditionType::Failed)?,
            self.cluster.report(&self.namespace).await
        );
        Ok(status)
    }

    /// Holds the embed pods of this namespace back until [`Self::release`], by a node selector.
    pub(crate) fn held(&self, mut change: Value) -> Value {
        merge(&mut change, json!({"gpu": {"nodeSelector": {self.label(): "go"}}}));
        change
    }

    pub(crate) async fn release(&self) -> Result<()> {
        let label = format!("{}=go", self.label());
        self.cluster.kubectl(&["label", "nodes", "--all", &label]).await.map(drop)
    }

    fn label(&self) -> String {
        format!("e2e.embedrun.dev/{}", self.namespace)
    }

    /// Changes a run's spec.
    pub(crate) async fn patch(&self, name: &str, spec: Value) -> Result<EmbeddingRun> {
        Ok(self.runs().patch(name, &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await?)
    }

    /// Creates a run without kubectl, so that errors have the text of the API server.
    pub(crate) async fn create(&self, manifest: &Value) -> Result<(), kube::Error> {
        let run: EmbeddingRun = serde_json::from_value(manifest.clone()).map_err(kube::Error::SerdeError)?;
        self.runs().create(&PostParams::default(), &run).await.map(drop)
    }
}

/// A condition of a status.
pub(crate) fn condition(status: &EmbeddingRunStatus, kind: ConditionType) -> Result<&Condition> {
    let kind = kind.to_string();
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind)
        .with_context(|| format!("the condition {kind} is missing"))
}

/// JSON lines of `count` records whose ids start with `prefix`.
pub(crate) fn records(prefix: &str, count: usize) -> String {
    let record = |index: usize| {
        let text = format!("Note {index}: {}", "the quick brown fox jumps over the lazy dog. ".repeat(1 + index % 7));
        json!({"id": format!("{prefix}-{index}"), "text": text, "metadata": {"index": index}}).to_string()
    };
    (0..count).map(|index| record(index) + "\n").collect()
}

pub(crate) fn merge(target: &mut Value, change: Value) {
    match (target, change) {
        (Value::Object(target), Value::Object(change)) => {
            for (key, value) in change {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (target, change) => *target = change,
    }
}
