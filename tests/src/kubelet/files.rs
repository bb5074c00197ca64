//! The files of configMap, secret, downwardAPI and projected volumes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path};

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, Pod, ServiceAccount, ServiceAccountTokenProjection, VolumeProjection,
};
use kube::Api;
use kube::api::PostParams;

use super::Context;
use super::fields;
use super::sources::{self, Entries, NotReady};

/// The mode of a file if the pod sets none.
const DEFAULT_MODE: i32 = 0o644;

/// The content of a volume by relative path.
#[derive(Debug, Default)]
pub(super) struct Files(BTreeMap<String, File>);

#[derive(Debug)]
struct File {
    content: Vec<u8>,
    mode: Option<i32>,
}

impl Files {
    /// Adds all `entries`, or those that `items` selects. `source` names them in the error of a missing key.
    fn select(
        &mut self,
        source: &str,
        entries: Entries,
        items: Option<&[KeyToPath]>,
        optional: bool,
    ) -> Result<(), NotReady> {
        let Some(items) = items else {
            for (path, content) in entries {
                self.insert(&path, content, None);
            }
            return Ok(());
        };
        for item in items {
            match entries.get(&item.key) {
                Some(content) => self.insert(&item.path, content.clone(), item.mode),
                None if optional => {}
                None => {
                    return Err(NotReady::mount(format!("{source} references non-existent key: {}", item.key)));
                }
            }
        }
        Ok(())
    }

    fn insert(&mut self, path: &str, content: Vec<u8>, mode: Option<i32>) {
        self.0.insert(path.to_owned(), File { content, mode });
    }

    pub(super) async fn add_config_map(
        &mut self,
        context: &Context,
        pod: &Pod,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
    ) -> Result<(), NotReady> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let optional = optional == Some(true);
        match sources::config_map(&context.client, namespace, name).await {
            Ok(entries) => self.select("configmap", entries, items, optional),
            Err(_) if optional => Ok(()),
            Err(message) => Err(NotReady::mount(message)),
        }
    }

    pub(super) async fn add_secret(
        &mut self,
        context: &Context,
        pod: &Pod,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
    ) -> Result<(), NotReady> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let optional = optional == Some(true);
        match sources::secret(&context.client, namespace, name).await {
            Ok(entries) => self.select("secret", entries, items, optional),
            Err(_) if optional => Ok(()),
            Err(message) => Err(NotReady::mount(message)),
        }
    }

    pub(super) fn add_downward(
        &mut self,
        context: &Context,
        pod: &Pod,
        items: &[DownwardAPIVolumeFile],
    ) -> Result<(), NotReady> {
        for item in items {
            let value = if let Some(selector) = &item.field_ref {
                fields::field(pod, &selector.field_path)
            } else if let Some(selector) = &item.resource_field_ref {
                fields::resource(pod, None, selector, &context.allocatable())
            } else {
                None
            };
            let value = value.ok_or_else(|| NotReady::mount(format!("the file {} has no value", item.path)))?;
            self.insert(&item.path, value.into_bytes(), item.mode);
        }
        Ok(())
    }

    pub(super) async fn add_projection(
        &mut self,
        context: &Context,
        pod: &Pod,
        source: &VolumeProjection,
    ) -> Result<(), NotReady> {
        if let Some(map) = &source.config_map {
            return self.add_config_map(context, pod, &map.name, map.items.as_deref(), map.optional).await;
        }
        if let Some(secret) = &source.secret {
            let items = secret.items.as_deref();
            return self.add_secret(context, pod, &secret.name, items, secret.optional).await;
        }
        if let Some(downward) = &source.downward_api {
            return self.add_downward(context, pod, downward.items.as_deref().unwrap_or_default());
        }
        if let Some(projection) = &source.service_account_token {
            let token = token(context, pod, projection).await?;
            self.insert(&projection.path, token.into_bytes(), None);
            return Ok(());
        }
        Err(NotReady::mount("the local kubelet does not support this projected source"))
    }

    /// Writes the files to `folder`.
    pub(super) fn write(self, folder: &Path, default_mode: Option<i32>) -> Result<(), NotReady> {
        for (path, file) in self.0 {
            let mode = file.mode.or(default_mode).unwrap_or(DEFAULT_MODE);
            write_file(folder, &path, &file.content, mode as u32)
                .map_err(|error| NotReady::mount(format!("cannot write {path}: {error}")))?;
        }
        Ok(())
    }
}

fn write_file(folder: &Path, path: &str, content: &[u8], mode: u32) -> std::io::Result<()> {
    let relative = Path::new(path);
    if !relative.components().all(|component| matches!(component, Component::Normal(_))) {
        return Err(std::io::Error::other("the path is outside of the volume"));
    }
    let target = folder.join(relative);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    // An earlier attempt may have left a file that its owner cannot write to.
    if target.exists() {
        fs::remove_file(&target)?;
    }
    fs::write(&target, content)?;
    fs::set_permissions(&target, fs::Permissions::from_mode(mode))
}

/// A token of the pod's service account, bound to the pod.
async fn token(context: &Context, pod: &Pod, projection: &ServiceAccountTokenProjection) -> Result<String, NotReady> {
    let meta = &pod.metadata;
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: projection.audience.iter().cloned().collect(),
            expiration_seconds: projection.expiration_seconds,
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: meta.name.clone(),
                uid: meta.uid.clone(),
            }),
        },
        ..TokenRequest::default()
    };
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let accounts: Api<ServiceAccount> = Api::namespaced(context.client.clone(), namespace);
    let response = accounts
        .create_token_request(account, &PostParams::default(), &request)
        .await
        .map_err(|error| NotReady::mount(format!("failed to fetch token: {error}")))?;
    response.status.map(|status| status.token).ok_or_else(|| NotReady::mount("the API server returned no token"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Entries {
        Entries::from([("a".into(), b"1".to_vec()), ("b".into(), b"2".to_vec())])
    }

    fn item(key: &str, path: &str, mode: Option<i32>) -> KeyToPath {
        KeyToPath { key: key.into(), path: path.into(), mode }
    }

    #[test]
    fn items_select_keys_paths_and_modes() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = Files::default();
        let items = [item("a", "deep/er", Some(0o400))];
        files.select("configmap", entries(), Some(&items), false).unwrap();
        files.write(folder.path(), None).unwrap();
        let written = folder.path().join("deep/er");
        assert_eq!(fs::read(&written).unwrap(), b"1");
        assert_eq!(fs::metadata(&written).unwrap().permissions().mode() & 0o777, 0o400);
        assert!(!folder.path().join("b").exists());
    }

    #[test]
    fn a_missing_key_is_an_error_unless_it_is_optional() {
        let items = [item("absent", "x", None)];
        let mut files = Files::default();
        let error = files.select("configmap", entries(), Some(&items), false).unwrap_err();
        assert_eq!(error.message, "configmap references non-existent key: absent");
        files.select("configmap", entries(), Some(&items), true).unwrap();
    }

    #[test]
    fn a_path_cannot_leave_the_volume() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = Files::default();
        files.insert("../escaped", Vec::new(), None);
        assert!(files.write(folder.path(), None).is_err());
    }
}
