//! Child processes that cannot outlive this one.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::{fs, thread};

use anyhow::{Context, Result, bail};
use tokio::sync::oneshot;

/// How much of a failing server's log an error shows.
const TAIL_LINES: usize = 30;

/// Starts `command` from a thread that lives as long as this process.
///
/// The kernel's parent-death signal, which `setpriv` and `bwrap` ask for, is sent when the *thread* ends that
/// started the child. A thread of a test or of its runtime ends too early.
pub(crate) fn spawn(command: Command) -> io::Result<Child> {
    type Request = (Command, mpsc::Sender<io::Result<Child>>);
    static KEEPER: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<Request>();
        thread::spawn(move || {
            for (mut command, reply) in requests {
                // A caller that has gone away leaves a child that nobody waits for; the kernel ends it with us.
                let _ = reply.send(command.spawn());
            }
        });
        sender
    });
    let (reply, child) = mpsc::channel();
    keeper
        .send((command, reply))
        .expect("the keeper thread serves until the process ends, because its sender is a static");
    child.recv().expect("the keeper thread answers every request")
}

/// Waits for `child` without keeping an async runtime from shutting down.
pub(crate) fn exit_of(mut child: Child) -> oneshot::Receiver<io::Result<ExitStatus>> {
    let (sender, receiver) = oneshot::channel();
    thread::spawn(move || {
        // The receiver may have gone away with its runtime; the child was reaped all the same.
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
    /// Starts `program` with `arguments`, its output going to `<logs>/<name>.log`.
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
            // Ctrl-C goes to this process alone, which then stops its servers in order.
            .process_group(0);
        let child = spawn(command).with_context(|| format!("cannot start {name} with setpriv"))?;
        Ok(Self { name, log, child })
    }

    /// An error with the end of the log, if the server has ended.
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
        // It may have ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
