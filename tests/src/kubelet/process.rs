//! A sandboxed process: its start, its signals and its exit.

use std::fs::File;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::oneshot;

use super::environment::Environment;
use super::sandbox::Sandbox;
use crate::process::{exit_of, spawn};

/// A running container. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Process {
    bwrap: PathBuf,
    /// `bwrap` itself, whose only child is the process of the container; `None` once it has ended.
    monitor: Option<Pid>,
    exit: oneshot::Receiver<io::Result<ExitStatus>>,
}

impl Process {
    /// Starts `sandbox`; its output goes to `log`.
    pub(super) fn start(bwrap: &Path, sandbox: &Sandbox, environment: &Environment, log: &Path) -> io::Result<Self> {
        let output = File::create(log)?;
        let mut command = Command::new(bwrap);
        command
            .args(sandbox.arguments()?)
            .env_clear()
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0);
        let child = spawn(command)?;
        Ok(Self { bwrap: bwrap.to_path_buf(), monitor: Some(Pid::from_child(&child)), exit: exit_of(child) })
    }

    /// Waits for the exit and returns the exit code as a shell does: 128 + signal for a killed process.
    pub(super) async fn wait(&mut self) -> i32 {
        let status = (&mut self.exit).await;
        self.monitor = None;
        match status {
            Ok(Ok(status)) => status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(255),
            // Does not happen: only the waiting thread reaps the child, and it always sends the status.
            Ok(Err(_)) | Err(_) => 255,
        }
    }

    /// Sends SIGTERM to the process in the sandbox. Returns whether the process had started.
    pub(super) fn terminate(&self) -> bool {
        let process = self.monitor.and_then(|monitor| self.container_process(monitor));
        // It may have just ended; then the signal fails.
        process.is_some_and(|process| kill_process(process, Signal::TERM).is_ok())
    }

    /// The process in the sandbox, unless `bwrap` is still preparing it.
    fn container_process(&self, monitor: Pid) -> Option<Pid> {
        let monitor = monitor.as_raw_nonzero();
        let children = std::fs::read_to_string(format!("/proc/{monitor}/task/{monitor}/children")).ok()?;
        let child: i32 = children.split_whitespace().next()?.parse().ok()?;
        let program = std::fs::read_link(format!("/proc/{child}/exe")).ok()?;
        if program == self.bwrap {
            return None;
        }
        Pid::from_raw(child)
    }

    /// Sends SIGKILL. The kernel kills every process in the sandbox with it.
    pub(super) fn kill(&self) {
        if let Some(monitor) = self.monitor {
            // It may have just ended.
            let _ = kill_process(monitor, Signal::KILL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
