//! Where the programs of the control plane come from.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;

/// The variable of envtest that names a folder with the programs.
const ASSETS: &str = "KUBEBUILDER_ASSETS";

/// The programs that `KUBEBUILDER_ASSETS` has to hold. Helm may come from elsewhere.
const REQUIRED: [&str; 5] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"];

/// The programs of a control plane and the two clients that the tests use.
#[derive(Clone, Debug)]
pub struct Assets {
    folder: PathBuf,
    helm: Option<PathBuf>,
}

impl Assets {
    /// `KUBEBUILDER_ASSETS` if set, else the cache folder, which is built first where it is missing.
    ///
    /// # Errors
    /// The folder named by `KUBEBUILDER_ASSETS` lacks a program (all that are missing are named), or the
    /// build failed.
    pub async fn find() -> Result<Self> {
        match env::var_os(ASSETS).filter(|folder| !folder.is_empty()) {
            Some(folder) => Self::of_folder(Path::new(&folder)),
            None => Self::of_cache().await,
        }
    }

    fn of_folder(folder: &Path) -> Result<Self> {
        let missing: Vec<_> = REQUIRED.into_iter().filter(|name| !folder.join(name).is_file()).collect();
        ensure!(
            missing.is_empty(),
            "{ASSETS} is set to {}, which lacks {}; complete it, or unset {ASSETS} to build the programs",
            folder.display(),
            missing.join(", "),
        );
        let helm = [folder.join("helm")]
            .into_iter()
            .chain(cache_folders())
            .chain(in_path("helm"))
            .find(|candidate| candidate.is_file());
        Ok(Self { folder: folder.to_path_buf(), helm })
    }

    async fn of_cache() -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("control-plane/build.sh");
        let output = Command::new(&script)
            .stderr(std::process::Stdio::inherit())
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| format!("cannot run {}", script.display()))?;
        if !output.status.success() {
            bail!(
                "{} failed with {}; where the Go modules cannot be had, set {ASSETS}",
                script.display(),
                output.status
            );
        }
        let folder = PathBuf::from(String::from_utf8(output.stdout)?.trim());
        let helm = Some(folder.join("helm"));
        Ok(Self { folder, helm })
    }

    /// The path of one of the servers, or of kubectl.
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The path of helm.
    ///
    /// # Errors
    /// Helm is neither in `KUBEBUILDER_ASSETS`, nor in the cache, nor in `PATH`.
    pub fn helm(&self) -> Result<&Path> {
        self.helm.as_deref().with_context(|| format!("no helm in {ASSETS}, in the cache of built programs or in PATH"))
    }
}

/// Helm in the folders that earlier builds left in the cache.
fn cache_folders() -> Vec<PathBuf> {
    let cache = env::var_os("EMBEDRUN_CACHE")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache/embedrun")));
    let Some(builds) = cache.and_then(|cache| cache.join("control-plane").read_dir().ok()) else {
        return Vec::new();
    };
    builds.flatten().map(|build| build.path().join("helm")).collect()
}

/// `program` in the folders of `PATH`.
pub(crate) fn in_path(program: &str) -> Vec<PathBuf> {
    env::split_paths(&env::var_os("PATH").unwrap_or_default())
        .map(|folder| folder.join(program))
        .filter(|candidate| candidate.is_file())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incomplete_folder_is_an_error_that_names_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["etcd", "kube-apiserver", "kubectl"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let error = Assets::of_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains("lacks kube-controller-manager, kube-scheduler;"), "{error}");
    }

    #[test]
    fn helm_beside_the_servers_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        for name in REQUIRED.into_iter().chain(["helm"]) {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let assets = Assets::of_folder(folder.path()).unwrap();
        assert_eq!(assets.helm().unwrap(), folder.path().join("helm"));
    }
}
