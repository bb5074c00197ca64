//! Leader election through a Lease: only one operator acts at a time.

use anyhow::Context as _;
use kube::Client;
use kube_lease_manager::{DurationSeconds, LeaseManager, LeaseManagerBuilder};
use tokio::{sync::watch, task::JoinHandle};

/// How long a lease is valid after its last renewal, in seconds.
const DURATION: DurationSeconds = 15;
/// How long before the end it is renewed, in seconds.
const GRACE: DurationSeconds = 5;

/// The state of the lease: `true` while this process holds it.
pub struct Leadership {
    /// Follows the lease.
    pub holds: watch::Receiver<bool>,
    watcher: JoinHandle<Result<LeaseManager, kube_lease_manager::LeaseManagerError>>,
}

/// Takes part in the election of `name` in `namespace` as `identity`.
pub async fn campaign(client: Client, namespace: &str, name: &str, identity: &str) -> anyhow::Result<Leadership> {
    let manager = LeaseManagerBuilder::new(client, name)
        .with_namespace(namespace)
        .with_identity(identity)
        .with_duration(DURATION)
        .with_grace(GRACE)
        .build()
        .await
        .with_context(|| format!("cannot take part in the election of Lease {namespace}/{name}"))?;
    let (holds, watcher) = manager.watch().await;
    Ok(Leadership { holds, watcher })
}

impl Leadership {
    /// Gives the lease back, so that a successor need not wait for its end.
    pub async fn resign(self) {
        drop(self.holds);
        match self.watcher.await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the lease was not given back; it ends by itself"),
            Err(error) => tracing::warn!(%error, "the lease watcher ended early"),
        }
    }
}
