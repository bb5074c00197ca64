//! Waiting for a cluster to get somewhere, and a report on where it is when it does not.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use tokio::time::sleep;

use crate::cluster::Cluster;

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// How many lines of each pod's log the report shows.
const LOG_LINES: usize = 15;

impl Cluster {
    /// Looks every 200 ms until `look` finds something, and returns it.
    ///
    /// An error of `look` does not end the waiting, because what is not there yet is often an error.
    ///
    /// # Errors
    /// Nothing was found within `limit`. The error holds the last error of `look`, and the events, the pods
    /// and the ends of the logs of `namespace`.
    pub async fn wait_for<T>(
        &self,
        namespace: &str,
        what: &str,
        limit: Duration,
        mut look: impl AsyncFnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let started = Instant::now();
        loop {
            let last = match look().await {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => String::new(),
                Err(error) => format!("\nthe last look failed: {error:#}"),
            };
            if started.elapsed() > limit {
                let report = self.report(namespace).await;
                bail!("waited {limit:?} in vain for {what}{last}\n{report}");
            }
            sleep(PAUSE).await;
        }
    }

    /// The events, the pods and the ends of the logs of a namespace, for people.
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
