//! Child processes that cannot outlive this one.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::{fs, thread};

use anyhow::{Context, Result, bail};
use tokio::sync::oneshot;

/// The lines of a failing server's log that an error shows.
const TAIL_LINES: usize = 30;

/// Starts `command` from a thread that lives as long as this process.
///
/// The kernel sends the parent-death signal, which `setpriv` and `bwrap` request, when the *thread* that started the
/// child ends. A thread of a test or of its runtime ends too early.
pub(crate) fn spawn(command: Command) -> io::Result<Child> {
    type Request = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<Request>();
        thread::spawn(move || {
            for (mut command, reply) in requests {
                // If the caller no longer waits, the kernel ends the child with this process.
                let _ = reply.send(command.spawn());
            }
        });
        sender
    });
    let (reply, child) = mpsc::channel();
    spawner
        .send((command, reply))
        .expect("the spawner thread runs until the process ends, because its sender is a static");
    child.recv().expect("the spawner thread answers every request")
}

/// Waits for `child` on a thread, so that an async runtime can shut down meanwhile.
pub(crate) fn exit_of(mut child: Child) -> oneshot::Receiver<io::Result<ExitStatus>> {
    let (sender, receiver) = oneshot::channel();
    thread::spawn(move || {
        // The receiver may have been dropped with its runtime; the child is reaped anyway.
        let _ = sender.send(child.wait());
    });
    receiver
}

/// A server of the control plane: killed on drop, and by the kernel if this process dies.
#[derive(Debug)]
pub(crate) struct Server {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Server {
    /// Starts `program` with `arguments`; its output goes to `<logs>/<name>.log`.
    pub(crate) fn start(program: &Path, arguments: &[String], logs: &Path) -> Result<Self> {
        let name = program.file_name().context("a program has a file name")?.to_string_lossy().into_owned();
        let log = logs.join(format!("{name}.log"));
        let output = fs::File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .current_dir(logs)
            // Only this process receives Ctrl-C; it then stops its servers in order.
            .process_group(0);
        let child = spawn(command).with_context(|| format!("cannot start {name} with setpriv"))?;
        Ok(Self { name, log, child })
    }

    /// Checks that the server runs.
    ///
    /// # Errors
    /// It has ended; the error has the end of its log.
    pub(crate) fn check(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait()? else {
            return Ok(());
        };
        bail!("{} ended with {status}\n{}", self.name, self.tail());
    }

    /// The end of the server's log.
    pub(crate) fn tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
        format!("--- the end of {} ---\n{}", self.log.display(), tail.join("\n"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
