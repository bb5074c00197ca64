//! The entries of ConfigMaps and Secrets, and why a container waits for them.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};

/// Why a container cannot start yet. The kubelet retries; the reason and the message are in the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NotReady {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl NotReady {
    /// A reference in the container's configuration does not exist.
    pub(super) fn config(message: impl Into<String>) -> Self {
        Self { reason: "CreateContainerConfigError", message: message.into() }
    }

    /// A volume cannot be mounted.
    pub(super) fn mount(message: impl Into<String>) -> Self {
        Self { reason: "ContainerCreating", message: message.into() }
    }
}

/// The entries of a ConfigMap or Secret.
pub(super) type Entries = BTreeMap<String, Vec<u8>>;

/// The entries of a ConfigMap. The error has the text of the real kubelet.
pub(super) async fn config_map(client: &Client, namespace: &str, name: &str) -> Result<Entries, String> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let map = api.get_opt(name).await.map_err(|error| error.to_string())?;
    let map = map.ok_or_else(|| format!("configmap {name:?} not found"))?;
    let text = map.data.into_iter().flatten();
    let binary = map.binary_data.into_iter().flatten();
    Ok(text
        .map(|(key, value)| (key, value.into_bytes()))
        .chain(binary.map(|(key, ByteString(value))| (key, value)))
        .collect())
}

/// The entries of a Secret. The error has the text of the real kubelet.
pub(super) async fn secret(client: &Client, namespace: &str, name: &str) -> Result<Entries, String> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = api.get_opt(name).await.map_err(|error| error.to_string())?;
    let secret = secret.ok_or_else(|| format!("secret {name:?} not found"))?;
    Ok(secret.data.into_iter().flatten().map(|(key, ByteString(value))| (key, value)).collect())
}
