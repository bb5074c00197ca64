//! The programs of the control plane: found in a folder, or built into the cache.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;

/// envtest's variable for a folder with the programs.
const ASSETS: &str = "KUBEBUILDER_ASSETS";

/// The programs that `KUBEBUILDER_ASSETS` must contain. Helm may be elsewhere.
const REQUIRED: [&str; 5] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"];

/// The programs of a control plane and the two clients that the tests use.
#[derive(Clone, Debug)]
pub struct Assets {
    folder: PathBuf,
    helm: Option<PathBuf>,
}

impl Assets {
    /// The folder `KUBEBUILDER_ASSETS` if set, else the folder in the cache, which is built if it is missing.
    ///
    /// # Errors
    /// The folder `KUBEBUILDER_ASSETS` lacks programs (the error names all of them), or the build failed.
    pub async fn find() -> Result<Self> {
        match env::var_os(ASSETS).filter(|folder| !folder.is_empty()) {
            Some(folder) => Self::in_folder(Path::new(&folder)),
            None => Self::in_cache().await,
        }
    }

    fn in_folder(folder: &Path) -> Result<Self> {
        let missing: Vec<_> = REQUIRED.into_iter().filter(|name| !folder.join(name).is_file()).collect();
        ensure!(
            missing.is_empty(),
            "{ASSETS} is set to {}, which lacks {}; add them, or unset {ASSETS} to build the programs",
            folder.display(),
            missing.join(", "),
        );
        let helm = [folder.join("helm")]
            .into_iter()
            .chain(cached_helm())
            .chain(in_path("helm"))
            .find(|candidate| candidate.is_file());
        Ok(Self { folder: folder.to_path_buf(), helm })
    }

    async fn in_cache() -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("control-plane/build.sh");
        let output = Command::new(&script)
            .stderr(std::process::Stdio::inherit())
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| format!("cannot run {}", script.display()))?;
        if !output.status.success() {
            bail!(
                "{} failed with {}; if the Go modules cannot be downloaded, set {ASSETS}",
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
        self.helm
            .as_deref()
            .with_context(|| format!("helm is neither in {ASSETS}, nor in the cache of built programs, nor in PATH"))
    }
}

/// The paths at which earlier builds have left helm in the cache.
fn cached_helm() -> Vec<PathBuf> {
    let cache = env::var_os("EMBEDRUN_CACHE")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache/embedrun")));
    let Some(builds) = cache.and_then(|cache| cache.join("control-plane").read_dir().ok()) else {
        return Vec::new();
    };
    builds.flatten().map(|build| build.path().join("helm")).collect()
}

/// The paths of `program` in the folders of `PATH`.
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
    fn an_incomplete_folder_is_an_error_that_names_the_missing_programs() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["etcd", "kube-apiserver", "kubectl"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let error = Assets::in_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains("lacks kube-controller-manager, kube-scheduler;"), "{error}");
    }

    #[test]
    fn helm_beside_the_servers_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        for name in REQUIRED.into_iter().chain(["helm"]) {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let assets = Assets::in_folder(folder.path()).unwrap();
        assert_eq!(assets.helm().unwrap(), folder.path().join("helm"));
    }
}
