//! Retries with growing pauses, or with the pause that the hub requests.

use std::time::Duration;

use super::error::HubFailure;

/// The number of retries without progress between them.
const RETRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest wait within the process if the hub requests one. For longer waits the process fails, and its restart waits.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// The remaining retries.
pub struct Retries {
    left: u32,
    pause: Duration,
}

impl Retries {
    /// All retries.
    pub fn new() -> Self {
        Self { left: RETRIES, pause: FIRST_PAUSE }
    }

    /// Waits before the next retry.
    ///
    /// # Errors
    /// The `failure` itself if a retry cannot succeed, or none is left.
    pub async fn wait(&mut self, failure: HubFailure) -> Result<(), HubFailure> {
        let Some(pause) = pause_before_retry(&failure, self.pause).filter(|_| self.left > 0) else {
            return Err(failure);
        };
        tracing::warn!(pause_seconds = pause.as_secs_f64(), "retrying: {failure}");
        tokio::time::sleep(pause).await;
        self.left -= 1;
        self.pause *= 2;
        Ok(())
    }
}

/// Repeats the work until it succeeds or no retry is left.
pub async fn with_retries<T>(mut work: impl AsyncFnMut() -> Result<T, HubFailure>) -> Result<T, HubFailure> {
    let mut retries = Retries::new();
    loop {
        match work().await {
            Ok(result) => return Ok(result),
            Err(failure) => retries.wait(failure).await?,
        }
    }
}

/// The pause before a retry: `usual`, unless the hub requests one. `None` if a retry cannot succeed.
fn pause_before_retry(failure: &HubFailure, usual: Duration) -> Option<Duration> {
    match failure {
        HubFailure::RateLimited { retry_after, .. } => {
            retry_after.map_or(Some(usual), |wait| (wait <= MAX_WAIT).then_some(wait.max(usual)))
        }
        HubFailure::Failing { .. }
        | HubFailure::Unreachable { .. }
        | HubFailure::Cut { .. }
        | HubFailure::Corrupt { .. } => Some(usual),
        _ => None,
    }
}
