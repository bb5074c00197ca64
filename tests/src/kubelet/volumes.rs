//! The volumes of a pod as directories and files of this machine.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{HostPathVolumeSource, PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use kube::Api;

use super::Context;
use super::files::Files;
use super::sources::NotReady;

/// The path of a volume on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mountable {
    pub(super) path: PathBuf,
    pub(super) read_only: bool,
}

/// Prepares the volumes of `pod` under `folder`. It can be called again after an error.
pub(super) async fn prepare(
    context: &Context,
    pod: &Pod,
    folder: &Path,
) -> Result<BTreeMap<String, Mountable>, NotReady> {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    let mut mountable = BTreeMap::new();
    for volume in volumes {
        let prepared = prepare_one(context, pod, volume, &folder.join(&volume.name)).await;
        let prepared = prepared.map_err(|error| NotReady {
            message: format!("MountVolume.SetUp failed for volume {:?}: {}", volume.name, error.message),
            ..error
        })?;
        mountable.insert(volume.name.clone(), prepared);
    }
    Ok(mountable)
}

async fn prepare_one(context: &Context, pod: &Pod, volume: &Volume, own: &Path) -> Result<Mountable, NotReady> {
    if let Some(source) = &volume.host_path {
        prepare_host_path(source)?;
        return Ok(Mountable { path: source.path.clone().into(), read_only: false });
    }
    if let Some(source) = &volume.persistent_volume_claim {
        let path = claimed_path(context, pod, &source.claim_name).await?;
        return Ok(Mountable { path, read_only: source.read_only == Some(true) });
    }
    create_directory(own)?;
    if volume.empty_dir.is_some() {
        return Ok(Mountable { path: own.to_path_buf(), read_only: false });
    }

    let mut files = Files::default();
    let default_mode = if let Some(source) = &volume.config_map {
        let items = source.items.as_deref();
        files.add_config_map(context, pod, &source.name, items, source.optional).await?;
        source.default_mode
    } else if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        files.add_secret(context, pod, name, source.items.as_deref(), source.optional).await?;
        source.default_mode
    } else if let Some(source) = &volume.downward_api {
        files.add_downward(context, pod, source.items.as_deref().unwrap_or_default())?;
        source.default_mode
    } else if let Some(source) = &volume.projected {
        for projection in source.sources.iter().flatten() {
            files.add_projection(context, pod, projection).await?;
        }
        source.default_mode
    } else {
        return Err(NotReady::mount("the local kubelet does not support this kind of volume"));
    };
    files.write(own, default_mode)?;
    Ok(Mountable { path: own.to_path_buf(), read_only: true })
}

/// Checks the `type` of a host path, and creates the path if its type allows it to be missing.
fn prepare_host_path(source: &HostPathVolumeSource) -> Result<(), NotReady> {
    let path = Path::new(&source.path);
    let kind = source.type_.as_deref().unwrap_or_default();
    let fits = match kind {
        "" | "DirectoryOrCreate" if !path.exists() => {
            return create_directory(path);
        }
        "" => true,
        "Directory" | "DirectoryOrCreate" => path.is_dir(),
        "FileOrCreate" if !path.exists() => {
            return fs::write(path, "").map_err(|error| cannot_create(path, &error));
        }
        "File" | "FileOrCreate" => path.is_file(),
        _ => path.exists(),
    };
    if fits {
        Ok(())
    } else {
        Err(NotReady::mount(format!("hostPath type check failed: {} is not a {kind}", source.path)))
    }
}

/// The directory of the volume that the claim is bound to.
async fn claimed_path(context: &Context, pod: &Pod, claim: &str) -> Result<PathBuf, NotReady> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), namespace);
    let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
    let unreachable = |error: kube::Error| NotReady::mount(error.to_string());

    let found = claims.get_opt(claim).await.map_err(unreachable)?;
    let found = found.ok_or_else(|| NotReady::mount(format!("persistentvolumeclaim {claim:?} not found")))?;
    let phase = found.status.and_then(|status| status.phase);
    let volume = found.spec.and_then(|spec| spec.volume_name);
    let (Some("Bound"), Some(volume)) = (phase.as_deref(), volume) else {
        return Err(NotReady::mount(format!("persistentvolumeclaim {claim:?} is not bound")));
    };
    let found = volumes.get_opt(&volume).await.map_err(unreachable)?;
    let source = found
        .and_then(|volume| volume.spec?.host_path)
        .ok_or_else(|| NotReady::mount(format!("volume {volume:?} has no hostPath")))?;
    prepare_host_path(&source)?;
    Ok(source.path.into())
}

/// Creates a directory that the user of any container may write to.
pub(super) fn create_directory(path: &Path) -> Result<(), NotReady> {
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o777)))
        .map_err(|error| cannot_create(path, &error))
}

fn cannot_create(path: &Path, error: &std::io::Error) -> NotReady {
    NotReady::mount(format!("cannot create {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_path_is_checked_against_its_type() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        for (path, kind, fits) in [
            (folder.path().join("made"), None, true),
            (folder.path().join("absent"), Some("Directory"), false),
            (file.clone(), Some("Directory"), false),
            (file, Some("File"), true),
            (folder.path().join("touched"), Some("FileOrCreate"), true),
        ] {
            let source = HostPathVolumeSource { path: path.display().to_string(), type_: kind.map(String::from) };
            assert_eq!(prepare_host_path(&source).is_ok(), fits, "{source:?}");
            assert!(!fits || path.exists());
        }
    }
}
