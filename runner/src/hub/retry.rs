//! Patience: a few tries with growing pauses, or with the pause that the hub asks for.

use std::time::Duration;

use super::error::HubFailure;

/// Tries after the first one that may follow each other without progress.
const RETRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// What is left of the patience.
pub struct Retries {
    left: u32,
    pause: Duration,
}

impl Retries {
    /// All of it.
    pub fn new() -> Self {
        Self { left: RETRIES, pause: FIRST_PAUSE }
    }

    /// Waits before the next try, or gives the failure back: trying again cannot help, or has been tried enough.
    pub async fn wait(&mut self, failure: HubFailure) -> Result<(), HubFailure> {
        let Some(pause) = failure.wait(self.pause).filter(|_| self.left > 0) else {
            return Err(failure);
        };
        tracing::warn!(pause_seconds = pause.as_secs_f64(), "trying again: {failure}");
        tokio::time::sleep(pause).await;
        self.left -= 1;
        self.pause *= 2;
        Ok(())
    }
}

/// Tries until it succeeds or the patience ends.
pub async fn patiently<T>(mut work: impl AsyncFnMut() -> Result<T, HubFailure>) -> Result<T, HubFailure> {
    let mut retries = Retries::new();
    loop {
        match work().await {
            Ok(done) => return Ok(done),
            Err(failure) => retries.wait(failure).await?,
        }
    }
}
