//! Waiting for a state of the cluster, and a report on its actual state after a timeout.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use tokio::time::sleep;

use crate::cluster::Cluster;

/// The pause between two polls.
const PAUSE: Duration = Duration::from_millis(200);

/// The lines of each pod's log that the report shows.
const LOG_LINES: usize = 15;

impl Cluster {
    /// Calls `poll` every 200 ms until it returns a value, and returns it.
    ///
    /// An error of `poll` does not end the wait, because an object that does not exist yet is often an error.
    ///
    /// # Errors
    /// `poll` returned no value within `limit`. The error has the last error of `poll`, and the events, the pods and
    /// the ends of the logs of `namespace`.
    pub async fn wait_for<T>(
        &self,
        namespace: &str,
        what: &str,
        limit: Duration,
        mut poll: impl AsyncFnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let started = Instant::now();
        loop {
            let last = match poll().await {
                Ok(Some(value)) => return Ok(value),
                Ok(None) => String::new(),
                Err(error) => format!("\nlast error: {error:#}"),
            };
            if started.elapsed() > limit {
                let report = self.report(namespace).await;
                bail!("timed out after {limit:?} waiting for {what}{last}\n{report}");
            }
            sleep(PAUSE).await;
        }
    }

    /// The events, the pods and the ends of the logs of a namespace, as text.
    pub async fn report(&self, namespace: &str) -> String {
        let mut report = format!("--- events in {namespace} ---\n");
        let events: Api<Event> = Api::namespaced(self.client(), namespace);
        match events.list(&ListParams::default()).await {
            Ok(events) => {
                for event in events {
                    let object = &event.involved_object;
                    let _ = writeln!(
                        report,
                        "{} {} {}/{}: {}",
                        event.type_.unwrap_or_default(),
                        event.reason.unwrap_or_default(),
                        object.kind.as_deref().unwrap_or_default(),
                        object.name.as_deref().unwrap_or_default(),
                        event.message.unwrap_or_default(),
                    );
                }
            }
            Err(error) => {
                let _ = writeln!(report, "cannot be listed: {error}");
            }
        }
        let _ = writeln!(report, "--- pods in {namespace} ---");
        let pods: Api<Pod> = Api::namespaced(self.client(), namespace);
        match pods.list(&ListParams::default()).await {
            Ok(pods) => {
                for pod in pods {
                    let _ = writeln!(report, "{}", self.describe(namespace, &pod));
                }
            }
            Err(error) => {
                let _ = writeln!(report, "cannot be listed: {error}");
            }
        }
        report
    }

    fn describe(&self, namespace: &str, pod: &Pod) -> String {
        let name = pod.name_any();
        let status = pod.status.clone().unwrap_or_default();
        let mut text = format!("{name}: {}", status.phase.unwrap_or_default());
        let init = status.init_container_statuses.into_iter().flatten();
        for container in init.chain(status.container_statuses.into_iter().flatten()) {
            let state = serde_json::to_string(&container.state).unwrap_or_default();
            let _ = write!(text, "\n  {} (restarts {}): {state}", container.name, container.restart_count);
        }
        let logs = self.logs(namespace, &name).unwrap_or_default();
        let lines: Vec<&str> = logs.lines().collect();
        for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
            let _ = write!(text, "\n  | {line}");
        }
        text
    }
}
