//! Pods with GPUs: the CUDA program over an emulated driver, if `make cuda-test` has built both.

use std::{env, fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use crds::{summary::ProcessingSummary, v1alpha1::ConditionType};
use harness::{Cluster, Image};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};
use serde_json::json;

use crate::setup::{Workspace, condition, records};

const IMAGE: &str = "embedrun.test/runner-cuda";
/// The path of the emulated driver in the image.
const DRIVER: &str = "/opt/driver";

/// The image with the program and the driver; `None` if they are not built.
pub(crate) fn image() -> Option<(String, Image)> {
    let path = |variable: &str| env::var_os(variable).map(PathBuf::from);
    let (program, driver) = (path("EMBEDRUN_TEST_CUDA_RUNNER")?, path("EMBEDRUN_TEST_DRIVER")?);
    let mut image = Image::of_binary(program, "/usr/local/bin/embedrun");
    image.files.push((driver, DRIVER.into()));
    Some((IMAGE.to_owned(), image))
}

pub(crate) async fn pods_compute_on_their_cards_and_a_lost_card_is_retried(cluster: &Cluster) -> Result<()> {
    let workspace = Workspace::make(cluster, "cards").await?;
    workspace.write("a.jsonl", &records("a", 12))?;
    let variables = [
        ("LD_LIBRARY_PATH", DRIVER),
        // Two cards of 16 GiB. One pod loses its second card after forty launches; no other pod does.
        ("EMULATED_CARDS", "17179869184,17179869184"),
        ("EMULATED_FAULT", "1:40:214"),
        ("EMULATED_FAULT_ONCE", "/once/lost"),
        // The emulation is slow, and the first batch has the maximum size.
        ("EMBEDRUN_BATCH_TOKENS", "512"),
    ];
    let variables: Vec<_> = variables.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    let manifest = workspace.manifest(
        "cards",
        json!({
            "gpu": {"count": 2, "required": true},
            "execution": {"shardSize": 6, "runnerImage": IMAGE},
            "template": {"spec": {
                "volumes": [{"name": "once", "persistentVolumeClaim": {"claimName": "vectors"}}],
                "containers": [{
                    "name": "runner", "env": variables, "volumeMounts": [{"name": "once", "mountPath": "/once"}]
                }]
            }}
        }),
    );
    workspace.apply(&manifest).await?;
    let status = workspace.succeeded("cards").await?;
    let degraded = condition(&status, ConditionType::Degraded)?;
    ensure!(degraded.status == "False", "{degraded:?}");
    let reported = status.collections[0].summary.clone().context("a summary")?;
    let revision = status.revision.context("a revision")?;
    let path = workspace.vectors.join(format!("runs/{revision}/chunks/processing_summary.json"));
    let summary: ProcessingSummary =
        serde_json::from_slice(&fs::read(&path).with_context(|| format!("{} of {reported:?}", path.display()))?)?;
    ensure!((summary.chunk_count, summary.device_run.fallback_count) == (12, 0), "{:?}", summary.device_run);
    ensure!(summary.device_run.used == ["cuda"], "{:?}", summary.device_run);

    ensure!(workspace.vectors.join("lost").is_file(), "no pod has lost its card");
    let pods: Api<Pod> = Api::namespaced(cluster.client(), &workspace.namespace);
    let pods = pods.list(&ListParams::default().labels("embedrun.dev/stage=embed")).await?.items;
    let mut lost = 0;
    for pod in &pods {
        let limits = pod.spec.as_ref().and_then(|spec| spec.containers[0].resources.as_ref()?.limits.clone());
        let cards = limits.and_then(|limits| limits.get("nvidia.com/gpu").cloned()).context("a limit")?;
        ensure!(cards.0 == "2", "{cards:?}");
        let ended = pod
            .status
            .as_ref()
            .and_then(|status| status.container_statuses.as_ref()?.first()?.state.as_ref()?.terminated.clone());
        let ended = ended.context("a pod that has ended")?;
        if ended.exit_code != 0 {
            lost += 1;
            let message = ended.message.unwrap_or_default();
            ensure!(ended.exit_code == 75 && message.contains("CUDA_ERROR_ECC_UNCORRECTABLE"), "{message}");
        }
    }
    ensure!((pods.len(), lost) == (3, 1), "{} pods, {lost} of them lost a card", pods.len());
    Ok(())
}
