//! The users of the API server: one token per user, one kubeconfig per token.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

/// A user of the API server. The token is not a secret: the server is on loopback and lives for one test run.
#[derive(Clone, Copy, Debug)]
pub(super) struct User {
    name: &'static str,
    group: &'static str,
}

/// The tests, the kubelet, kubectl and helm.
pub(super) const ADMIN: User = User { name: "admin", group: "system:masters" };
pub(super) const CONTROLLER_MANAGER: User =
    User { name: "system:kube-controller-manager", group: "system:authenticated" };
pub(super) const SCHEDULER: User = User { name: "system:kube-scheduler", group: "system:authenticated" };

impl User {
    fn token(self) -> String {
        format!("token-of-{}", self.name.replace(':', "-"))
    }

    /// Writes `<folder>/<user>.kubeconfig` for the API server at `url`.
    pub(super) fn write_kubeconfig(self, folder: &Path, url: &str, authority: &Path) -> Result<PathBuf> {
        let name = "embedrun-test";
        // JSON is YAML.
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": {"server": url, "certificate-authority": authority}}],
            "users": [{"name": self.name, "user": {"token": self.token()}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": self.name}}],
            "current-context": name,
        });
        let path = folder.join(format!("{}.kubeconfig", self.name.replace(':', "-")));
        fs::write(&path, serde_json::to_string_pretty(&config)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

/// Writes the token file of the API server.
pub(super) fn write_tokens(folder: &Path) -> Result<PathBuf> {
    let lines: String = [ADMIN, CONTROLLER_MANAGER, SCHEDULER]
        .map(|user| {
            format!("{token},{name},{name},\"{group}\"\n", token = user.token(), name = user.name, group = user.group)
        })
        .concat();
    let path = folder.join("tokens.csv");
    fs::write(&path, lines).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
