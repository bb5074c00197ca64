//! The values of `fieldRef` and `resourceFieldRef` of the downward API.

use std::collections::BTreeMap;
use std::fmt::Write;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::quantity;

/// The address of every pod and every node: they share the network of this machine.
pub(super) const ADDRESS: &str = "127.0.0.1";

/// The value of a `fieldRef`; `None` if the field path is unknown.
pub(super) fn field(pod: &Pod, path: &str) -> Option<String> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let labels = meta.labels.as_ref();
    let annotations = meta.annotations.as_ref();
    let value = match path {
        "metadata.name" => meta.name.clone(),
        "metadata.namespace" => meta.namespace.clone(),
        "metadata.uid" => meta.uid.clone(),
        "metadata.labels" => Some(lines(labels)),
        "metadata.annotations" => Some(lines(annotations)),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()),
        "status.podIP" | "status.podIPs" | "status.hostIP" | "status.hostIPs" => Some(ADDRESS.to_owned()),
        _ => {
            let (map, key) = path.strip_suffix("']")?.split_once("['")?;
            let map = match map {
                "metadata.labels" => labels,
                "metadata.annotations" => annotations,
                _ => return None,
            };
            map.and_then(|map| map.get(key).cloned())
        }
    };
    // A known field without a value is empty.
    Some(value.unwrap_or_default())
}

/// Labels or annotations in the format of a downward API volume.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    map.into_iter().flatten().fold(String::new(), |mut text, (key, value)| {
        let _ = writeln!(text, "{key}={value:?}");
        text
    })
}

/// The value of a `resourceFieldRef` of `own`, which may name another container of the pod.
///
/// The limit of a container without one is the node's allocatable amount.
pub(super) fn resource(
    pod: &Pod,
    own: Option<&str>,
    selector: &ResourceFieldSelector,
    allocatable: &BTreeMap<String, Quantity>,
) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let name = selector.container_name.as_deref().or(own)?;
    let container: &Container =
        spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|container| container.name == name)?;
    let resources = container.resources.clone().unwrap_or_default();
    let (kind, resource) = selector.resource.split_once('.')?;
    let amount = match kind {
        "limits" => resources
            .limits
            .as_ref()
            .and_then(|limits| limits.get(resource))
            .or_else(|| allocatable.get(resource))?
            .clone(),
        "requests" => resources
            .requests
            .as_ref()
            .and_then(|requests| requests.get(resource))
            .cloned()
            .unwrap_or_else(|| Quantity("0".into())),
        _ => return None,
    };
    let divisor = match &selector.divisor {
        Some(divisor) => quantity::parse(&divisor.0).filter(|divisor| *divisor > 0.0),
        None => None,
    };
    let value = quantity::parse(&amount.0)? / divisor.unwrap_or(1.0);
    Some(format!("{:.0}", value.ceil()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": "embed-3", "namespace": "search", "labels": {"app": "embed"},
                "annotations": {"batch.kubernetes.io/job-completion-index": "3"},
            },
            "spec": {"nodeName": "node-1", "containers": [{
                "name": "runner",
                "resources": {"limits": {"cpu": "1500m", "memory": "2Gi"}, "requests": {"cpu": "1"}},
            }]},
        }))
        .unwrap()
    }

    #[test]
    fn fields_are_those_of_the_downward_api() {
        for (path, expected) in [
            ("metadata.name", Some("embed-3")),
            ("spec.nodeName", Some("node-1")),
            ("status.podIP", Some("127.0.0.1")),
            ("metadata.annotations['batch.kubernetes.io/job-completion-index']", Some("3")),
            ("metadata.labels['absent']", Some("")),
            ("metadata.labels", Some("app=\"embed\"\n")),
            ("spec.containers", None),
        ] {
            assert_eq!(field(&pod(), path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn resources_are_rounded_up_to_the_divisor() {
        let allocatable = BTreeMap::from([("nvidia.com/gpu".to_owned(), Quantity("8".into()))]);
        for (name, divisor, expected) in [
            ("limits.cpu", None, Some("2")),
            ("limits.memory", Some("1Mi"), Some("2048")),
            ("requests.cpu", Some("1m"), Some("1000")),
            ("requests.memory", None, Some("0")),
            ("limits.nvidia.com/gpu", None, Some("8")),
            ("limits.unknown", None, None),
        ] {
            let selector = ResourceFieldSelector {
                resource: name.into(),
                divisor: divisor.map(|divisor| Quantity(divisor.to_owned())),
                container_name: None,
            };
            let value = resource(&pod(), Some("runner"), &selector, &allocatable);
            assert_eq!(value.as_deref(), expected, "{name}");
        }
    }
}
