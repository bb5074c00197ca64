//! The directory of a cluster, removed when this process ends, even if it is killed.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{env, fs};

use anyhow::{Context, Result};

/// If this variable is set, the directories of the clusters are kept, for example for their logs.
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
    /// Test processes may be killed, and their statics are never dropped, so a shell removes the directory. It waits
    /// for the end of its standard input, which is the end of this process.
    pub(crate) fn temporary() -> Result<Self> {
        let path = tempfile::Builder::new()
            .prefix("embedrun-cluster-")
            .tempdir()
            .context("cannot create a temporary directory")?
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

    /// A directory of the caller, which is kept.
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
