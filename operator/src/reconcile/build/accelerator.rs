//! The accelerators of the pods that run a model: limits, tolerations, arguments of the runner.

use std::collections::BTreeMap;

use crds::{contract::Stage, v1alpha1::EmbeddingRun};
use k8s_openapi::{
    api::core::v1::{ResourceRequirements, Toleration},
    apimachinery::pkg::api::resource::Quantity,
};

/// The number of accelerators of a stage's pod. A finalize pod gets at most one: the candidates of a query are few, and
/// one accelerator scores them as fast as several.
pub(super) fn count(run: &EmbeddingRun, stage: Stage) -> u32 {
    match stage {
        Stage::Embed => run.spec.gpu.count,
        Stage::Finalize if reranks(run) => run.spec.gpu.count.min(1),
        Stage::Plan | Stage::Finalize => 0,
    }
}

/// Whether the spec lets the finalize stage run the reranker. Other layers of toggles are known to the pod only.
pub(super) fn reranks(run: &EmbeddingRun) -> bool {
    let toggle = run.spec.toggles.as_ref().and_then(|toggles| toggles.rerank);
    run.spec.models.reranker.is_some() && toggle != Some(false)
}

pub(super) fn resources(run: &EmbeddingRun, stage: Stage) -> Option<ResourceRequirements> {
    let count = count(run, stage);
    (count > 0).then(|| ResourceRequirements {
        limits: Some(BTreeMap::from([(run.spec.gpu.resource_name.clone(), Quantity(count.to_string()))])),
        ..ResourceRequirements::default()
    })
}

/// The tolerations of a pod with accelerators. Nodes with accelerators are commonly tainted with the resource name.
pub(super) fn tolerations(run: &EmbeddingRun) -> Vec<Toleration> {
    let by_resource_name = Toleration {
        key: Some(run.spec.gpu.resource_name.clone()),
        operator: Some("Exists".into()),
        effect: Some("NoSchedule".into()),
        ..Toleration::default()
    };
    std::iter::once(by_resource_name).chain(run.spec.gpu.tolerations.iter().cloned()).collect()
}

/// The arguments of the runner that describe the accelerators.
pub(super) fn arguments(run: &EmbeddingRun, stage: Stage) -> Vec<String> {
    let gpu = &run.spec.gpu;
    let mut arguments =
        vec!["--gpu-count".into(), count(run, stage).to_string(), "--gpu-required".into(), gpu.required.to_string()];
    if let Some(ceiling) = &gpu.memory_ceiling {
        arguments.extend(["--gpu-memory-ceiling".into(), ceiling.clone()]);
    }
    arguments
}
