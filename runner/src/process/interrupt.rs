//! The request to stop: SIGTERM from Kubernetes, Ctrl-C from a person.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crds::contract::FailureReason;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    error::{Result, StageError},
    runtime::runtime,
};

/// Whether the process was told to stop.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens for SIGTERM and SIGINT from now on. The first asks the stage to stop where nothing is lost, a second
    /// ends the process at once.
    pub fn on_signals() -> std::io::Result<Self> {
        let interrupt = Self::default();
        let flag = interrupt.clone();
        let _guard = runtime().enter();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupted = signal(SignalKind::interrupt())?;
        runtime().spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupted.recv() => {}
                }
                if flag.0.swap(true, Ordering::Relaxed) {
                    std::process::exit(FailureReason::Interrupted.exit_code().code().into());
                }
                tracing::warn!("told to stop: finishing the current batch");
            }
        });
        Ok(interrupt)
    }

    /// The flag that long work looks at.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    /// Ends a stage that was told to stop.
    pub fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            return Err(Self::error());
        }
        Ok(())
    }

    /// The error of a stage that was told to stop.
    pub fn error() -> StageError {
        let message = "told to stop before the end; what is committed stays, and the same command goes on from there";
        StageError::new(FailureReason::Interrupted, message)
    }
}
