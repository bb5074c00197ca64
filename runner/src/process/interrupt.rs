//! Interrupts of the process: SIGTERM from Kubernetes, Ctrl-C from a person.

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

/// Whether the process was interrupted. Clones share the state.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens for SIGTERM and SIGINT from now on. The first signal ends the stage after the current batch; a second
    /// signal ends the process at once.
    ///
    /// # Errors
    /// If the signals cannot be handled.
    pub fn on_signals() -> std::io::Result<Self> {
        let interrupt = Self::default();
        let flag = interrupt.clone();
        let _guard = runtime().enter();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut ctrl_c = signal(SignalKind::interrupt())?;
        runtime().spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = ctrl_c.recv() => {}
                }
                if flag.0.swap(true, Ordering::Relaxed) {
                    std::process::exit(FailureReason::Interrupted.exit_code().code().into());
                }
                tracing::warn!("interrupted: finishing the current batch");
            }
        });
        Ok(interrupt)
    }

    /// The flag for work that cannot call [`Interrupt::check`]; true after the first signal.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    /// Ends an interrupted stage; called between two steps of long work.
    ///
    /// # Errors
    /// [`Interrupt::error`] if the process was interrupted.
    pub fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            return Err(Self::error());
        }
        Ok(())
    }

    /// The error of an interrupted stage.
    pub fn error() -> StageError {
        let message = "interrupted; committed shards are kept, run the same command to resume";
        StageError::new(FailureReason::Interrupted, message)
    }
}
