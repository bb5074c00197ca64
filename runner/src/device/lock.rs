//! One runner on a device at a time: a lock file per device, which the processes of a machine share.
//!
//! The operating system holds the lock for an open file and lets it go when the process ends, however it ends. The file
//! stays; what stands in it is for people.

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

/// How long to wait between two tries.
const PAUSE: Duration = Duration::from_millis(250);
/// How often a process that waits says so.
const REMINDER: Duration = Duration::from_secs(30);
/// The folder below that of temporary files.
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
    /// The longest wait where nobody says otherwise.
    pub const WAIT: Duration = Duration::from_mins(10);

    /// The folder where nobody says otherwise.
    pub fn default_folder() -> PathBuf {
        std::env::temp_dir().join(FOLDER)
    }
}

impl Default for LockOptions {
    fn default() -> Self {
        Self { folder: Self::default_folder(), wait: Self::WAIT }
    }
}

/// A device that this process has to itself, until this is dropped.
#[derive(Debug)]
pub struct DeviceLock {
    // Closing it gives the device back.
    _file: File,
}

impl LockOptions {
    /// Takes the device with that UUID, when no other process has it.
    ///
    /// # Errors
    /// If it does not come free in time, the process is told to stop, or the folder cannot be used.
    pub fn acquire(&self, uuid: &str, interrupt: &Interrupt) -> Result<DeviceLock> {
        let path = self.folder.join(format!("{uuid}.lock"));
        let unusable = |error: io::Error| {
            let message = format!(
                "the lock of device {uuid} cannot be used: {}; name a folder that all runners on this machine may \
                 write in EMBEDRUN_LOCK_DIR (--lock-dir)",
                path.display()
            );
            StageError::new(FailureReason::InvalidConfiguration, message).caused_by(error)
        };
        make_folder(&self.folder).map_err(unusable)?;
        let mut file = open(&path).map_err(unusable)?;
        let started = Instant::now();
        let mut said: Option<Instant> = None;
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
            if said.is_none_or(|said| said.elapsed() >= REMINDER) {
                said = Some(Instant::now());
                let (holder, seconds) = (holder(&mut file), waited.as_secs());
                tracing::info!(device = uuid, holder, seconds, "waiting for the device, which another runner has");
            }
            thread::sleep(PAUSE.min(self.wait.saturating_sub(waited)));
        }
        // Only for people: a lock without it is as good.
        if let Err(error) = sign(&mut file) {
            tracing::debug!("{}: {error}", path.display());
        }
        Ok(DeviceLock { _file: file })
    }

    fn busy(&self, uuid: &str, holder: &str) -> StageError {
        let message = format!(
            "device {uuid} did not come free within {} s: process {holder} has it; wait longer with EMBEDRUN_LOCK_WAIT \
             (--lock-wait), or give this runner another device",
            self.wait.as_secs()
        );
        StageError::new(FailureReason::DeviceBusy, message)
    }
}

/// A folder that everybody may put files into, and nobody take away those of others.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o777).create(folder)?;
    // What the process masks is meant for files of its own. Somebody else's folder has the mode that they gave it.
    let _ = std::fs::set_permissions(folder, Permissions::from_mode(0o1777));
    Ok(())
}

/// The file, made when it is not there. One that is there is not created again, which systems refuse where it is
/// another user's and the folder is everybody's.
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

/// Writes who has the device.
fn sign(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

/// The process that has the device, as far as it says so.
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

    /// What another process of the test below does: it takes the device and keeps it until it is killed.
    #[test]
    #[ignore = "only as a process of another test"]
    fn keep_the_device() {
        let Some(folder) = std::env::var_os("HOLD_LOCK_IN") else { return };
        let _locked = options(Path::new(&folder), 0).acquire(UUID, &Interrupt::default()).expect("the lock");
        println!("\nheld");
        thread::sleep(Duration::from_mins(1));
    }

    /// A process that has the device.
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
    fn a_device_that_another_process_has_is_waited_for_and_its_death_gives_it_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut child = other_process(folder.path());
        let error = options(folder.path(), 300).acquire(UUID, &Interrupt::default()).expect_err("it is held");
        assert_eq!((error.reason, error.reason.exit_code()), (FailureReason::DeviceBusy, ExitCode::Transient));
        let sentence = error.sentence();
        assert!(sentence.contains(&format!("process {} has it", child.id())), "{sentence}");
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
        assert!(sentence.contains(&format!("process {} has it", std::process::id())), "{sentence}");
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
    fn a_folder_that_cannot_be_used_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("locks"), "a file").expect("written");
        let error = options(folder.path(), 0).acquire(UUID, &Interrupt::default()).expect_err("no folder");
        assert_eq!(error.reason, FailureReason::InvalidConfiguration);
        let sentence = error.sentence();
        assert!(sentence.contains("locks/GPU-1.lock") && sentence.contains("EMBEDRUN_LOCK_DIR"), "{sentence}");
    }

    #[test]
    fn whoever_is_told_to_stop_does_not_wait() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = options(folder.path(), 60_000);
        let _held = options.acquire(UUID, &Interrupt::default()).expect("free");
        let interrupt = Interrupt::default();
        interrupt.flag().store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(options.acquire(UUID, &interrupt).expect_err("told to stop").reason, FailureReason::Interrupted);
    }
}
