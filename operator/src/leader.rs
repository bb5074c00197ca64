//! Leader election through a Lease: only one operator reconciles at a time.

use anyhow::Context as _;
use kube::Client;
use kube_lease_manager::{DurationSeconds, LeaseManager, LeaseManagerBuilder};
use tokio::{sync::watch, task::JoinHandle};

/// The validity of the lease after a renewal, in seconds.
const DURATION: DurationSeconds = 15;
/// The time before the expiry at which the lease is renewed, in seconds.
const GRACE: DurationSeconds = 5;

/// The participation of this process in the election.
pub struct Leadership {
    /// Whether this process holds the lease.
    pub is_leader: watch::Receiver<bool>,
    watcher: JoinHandle<Result<LeaseManager, kube_lease_manager::LeaseManagerError>>,
}

/// Joins the election through the Lease `name` in `namespace` as `identity`.
pub async fn campaign(client: Client, namespace: &str, name: &str, identity: &str) -> anyhow::Result<Leadership> {
    let manager = LeaseManagerBuilder::new(client, name)
        .with_namespace(namespace)
        .with_identity(identity)
        .with_duration(DURATION)
        .with_grace(GRACE)
        .build()
        .await
        .with_context(|| format!("cannot join the leader election of Lease {namespace}/{name}"))?;
    let (is_leader, watcher) = manager.watch().await;
    Ok(Leadership { is_leader, watcher })
}

impl Leadership {
    /// Releases the lease, so that a successor need not wait for its expiry.
    pub async fn resign(self) {
        drop(self.is_leader);
        match self.watcher.await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cannot release the lease; it expires by itself"),
            Err(error) => tracing::warn!(%error, "the lease watcher stopped unexpectedly; the lease expires by itself"),
        }
    }
}
