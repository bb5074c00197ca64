//! The directory of a cluster, removed when this process ends, however it ends.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{env, fs};

use anyhow::{Context, Result};

/// Set to any value, this variable keeps the directories of the clusters for a look at logs and certificates.
const KEEP: &str = "EMBEDRUN_KEEP";

/// A directory with the certificates, the logs, etcd's data and the volumes of the pods.
#[derive(Debug)]
pub(crate) struct Workdir {
    path: PathBuf,
    janitor: Option<Child>,
}

impl Workdir {
    /// A fresh temporary directory.
    ///
    /// Test processes are killed and their statics are never dropped, so the removal is left to a shell that
    /// waits for the end of its standard input, which is the end of this process.
    pub(crate) fn temporary() -> Result<Self> {
        let path = tempfile::Builder::new()
            .prefix("embedrun-cluster-")
            .tempdir()
            .context("cannot make a temporary directory")?
            .keep();
        if env::var_os(KEEP).is_some() {
            return Ok(Self { path, janitor: None });
        }
        let janitor = Command::new("sh")
            .args(["-c", r#"cat >/dev/null; rm -rf -- "$0" || { sleep 1; rm -rf -- "$0"; }"#])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start the shell that removes the temporary directory")?;
        Ok(Self { path, janitor: Some(janitor) })
    }

    /// A directory that the caller chose and keeps.
    pub(crate) fn at(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
        let path = fs::canonicalize(path)?;
        Ok(Self { path, janitor: None })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Workdir {
    fn drop(&mut self) {
        if let Some(janitor) = &mut self.janitor {
            // Waiting closes its standard input, which is its signal to start.
            let _ = janitor.wait();
        }
    }
}
