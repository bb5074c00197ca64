//! One runner on a device at a time: a lock file per device, which the processes of a machine share.
//!
//! The operating system ties the lock to the open file and releases it when the process ends, however it ends. The file
//! stays; its content, the id of the holder, is for people.

use std::{
    fs::{File, OpenOptions, Permissions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crds::contract::FailureReason;

use crate::process::{
    error::{Result, StageError},
    interrupt::Interrupt,
};

/// The time between two attempts.
const PAUSE: Duration = Duration::from_millis(250);
/// The time between two log lines of a waiting process.
const REMINDER: Duration = Duration::from_secs(30);
/// The name of the default folder, below that of temporary files.
const FOLDER: &str = "embedrun-locks";

/// How devices are shared with other processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockOptions {
    /// The folder of the lock files, the same for all processes that share devices.
    pub folder: PathBuf,
    /// The longest wait for a device.
    pub wait: Duration,
}

impl LockOptions {
    /// The default longest wait.
    pub const WAIT: Duration = Duration::from_mins(10);

    /// The default folder.
    pub fn default_folder() -> PathBuf {
        std::env::temp_dir().join(FOLDER)
    }
}

impl Default for LockOptions {
    fn default() -> Self {
        Self { folder: Self::default_folder(), wait: Self::WAIT }
    }
}

/// The lock of a device; dropping it releases the device.
#[derive(Debug)]
pub struct DeviceLock {
    // Closing the file releases the lock.
    _file: File,
}

impl LockOptions {
    /// Locks the device with the UUID; waits while another process holds it.
    ///
    /// # Errors
    /// If the device is not released in time, the process is interrupted, or the folder cannot be used.
    pub fn acquire(&self, uuid: &str, interrupt: &Interrupt) -> Result<DeviceLock> {
        let path = self.folder.join(format!("{uuid}.lock"));
        let unusable = |error: io::Error| {
            let message = format!(
                "cannot lock device {uuid} with {}; set EMBEDRUN_LOCK_DIR (--lock-dir) to a folder that all runners on this \
                 machine may write",
                path.display()
            );
            StageError::new(FailureReason::InvalidConfiguration, message).caused_by(error)
        };
        create_folder(&self.folder).map_err(unusable)?;
        let mut file = open(&path).map_err(unusable)?;
        let started = Instant::now();
        let mut last_reminder: Option<Instant> = None;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(unusable(error)),
                Err(TryLockError::WouldBlock) => {}
            }
            interrupt.check()?;
            let waited = started.elapsed();
            if waited >= self.wait {
                return Err(self.busy(uuid, &holder(&mut file)));
            }
            if last_reminder.is_none_or(|last| last.elapsed() >= REMINDER) {
                last_reminder = Some(Instant::now());
                let (holder, seconds) = (holder(&mut file), waited.as_secs());
                tracing::info!(device = uuid, holder, seconds, "waiting for the device, which another runner holds");
            }
            thread::sleep(PAUSE.min(self.wait.saturating_sub(waited)));
        }
        // The content is informative only; the lock works without it.
        if let Err(error) = write_holder(&mut file) {
            tracing::debug!("cannot write the holder to {}: {error}", path.display());
        }
        Ok(DeviceLock { _file: file })
    }

    fn busy(&self, uuid: &str, holder: &str) -> StageError {
        let message = format!(
            "device {uuid} is busy: process {holder} has held it for more than {} s; wait longer with EMBEDRUN_LOCK_WAIT \
             (--lock-wait), or give this runner another device",
            self.wait.as_secs()
        );
        StageError::new(FailureReason::DeviceBusy, message)
    }
}

/// Creates the folder: all users may create files in it, but not delete those of others (the sticky bit).
fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o777).create(folder)?;
    // The process's umask may have removed permissions. A folder of another user keeps its mode.
    let _ = std::fs::set_permissions(folder, Permissions::from_mode(0o1777));
    Ok(())
}

/// Opens the file, or creates it if it does not exist. An existing file is never opened for creation: Linux rejects that for
/// another user's file in a sticky folder (`fs.protected_regular`).
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    loop {
        match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        match options.clone().create_new(true).mode(0o666).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Ok(file) => {
                file.set_permissions(Permissions::from_mode(0o666))?;
                return Ok(file);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Writes the id of this process, the holder of the lock.
fn write_holder(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

/// The process that holds the device, as the file names it; `unknown` if it does not.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| Read::by_ref(file).take(64).read_to_string(&mut text));
    match read {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        process::{Child, Command, Stdio},
    };

    use crds::contract::ExitCode;

    use super::*;

    const UUID: &str = "GPU-1";

    fn options(folder: &Path, millis: u64) -> LockOptions {
        LockOptions { folder: folder.join("locks"), wait: Duration::from_millis(millis) }
    }

    /// The other process of the test below: it locks the device and holds it until it is killed.
    #[test]
    #[ignore = "only as a process of another test"]
    fn keep_the_device() {
        let Some(folder) = std::env::var_os("HOLD_LOCK_IN") else { return };
        let _locked = options(Path::new(&folder), 0).acquire(UUID, &Interrupt::default()).expect("the lock");
        println!("\nheld");
        thread::sleep(Duration::from_mins(1));
    }

    /// Starts a process that holds the device.
    fn other_process(folder: &Path) -> Child {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "device::lock::tests::keep_the_device", "--ignored", "--nocapture"])
            .env("HOLD_LOCK_IN", folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a process");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        assert!(lines.map_while(std::io::Result::ok).any(|line| line == "held"), "it has the lock");
        child
    }

    #[test]
    fn a_device_of_another_process_is_waited_for_and_released_by_its_death() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut child = other_process(folder.path());
        let error = options(folder.path(), 300).acquire(UUID, &Interrupt::default()).expect_err("it is held");
        assert_eq!((error.reason, error.reason.exit_code()), (FailureReason::DeviceBusy, ExitCode::Transient));
        let sentence = error.sentence();
        assert!(sentence.contains(&format!("process {} has held it", child.id())), "{sentence}");
        assert!(sentence.contains("EMBEDRUN_LOCK_WAIT"), "{sentence}");

        let waiting = thread::spawn({
            let options = options(folder.path(), 20_000);
            move || options.acquire(UUID, &Interrupt::default()).map(|_| ())
        });
        thread::sleep(Duration::from_millis(100));
        assert!(!waiting.is_finished(), "it is still held");
        child.kill().expect("killed");
        waiting.join().expect("no panic").expect("the lock of a killed process is gone");
        child.wait().expect("ended");
    }

    #[test]
    fn one_device_has_one_holder_and_another_device_another() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = options(folder.path(), 0);
        let acquire = |uuid: &str| options.acquire(uuid, &Interrupt::default());
        let first = acquire(UUID).expect("free");
        let _other = acquire("GPU-2").expect("another device");
        let sentence = acquire(UUID).expect_err("held").sentence();
        assert!(sentence.contains(&format!("process {} has held it", std::process::id())), "{sentence}");
        drop(first);
        acquire(UUID).expect("free again");
    }

    #[test]
    fn other_users_can_share_the_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = options(folder.path(), 0);
        options.acquire(UUID, &Interrupt::default()).expect("free");
        let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o7777;
        assert_eq!(mode(&options.folder), 0o1777);
        assert_eq!(mode(&options.folder.join("GPU-1.lock")), 0o666);
    }

    #[test]
    fn an_unusable_folder_is_named_with_a_remedy() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("locks"), "a file").expect("written");
        let error = options(folder.path(), 0).acquire(UUID, &Interrupt::default()).expect_err("no folder");
        assert_eq!(error.reason, FailureReason::InvalidConfiguration);
        let sentence = error.sentence();
        assert!(sentence.contains("locks/GPU-1.lock") && sentence.contains("EMBEDRUN_LOCK_DIR"), "{sentence}");
    }

    #[test]
    fn an_interrupted_process_does_not_wait() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = options(folder.path(), 60_000);
        let _held = options.acquire(UUID, &Interrupt::default()).expect("free");
        let interrupt = Interrupt::default();
        interrupt.flag().store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(options.acquire(UUID, &interrupt).expect_err("interrupted").reason, FailureReason::Interrupted);
    }
}
