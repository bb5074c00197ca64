//! One container: preparation, start, health, stop, restart.

use std::collections::BTreeMap;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::jiff::Timestamp;
use tokio::select;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::environment::{self, Environment};
use super::image::Image;
use super::pod::SharedRecord;
use super::process::Process;
use super::sandbox::{Bind, Sandbox, identity};
use super::sources::NotReady;
use super::status::{Record, State, Termination};
use super::volumes::Mountable;
use super::{Context, probe, termination};

/// The first and the longest pause before a restart. The real kubelet waits 10 to 300 seconds.
const BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// The pause before the preparation is retried.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// The pause before SIGTERM is sent again to a sandbox that is still starting.
const TERMINATE_AGAIN: Duration = Duration::from_millis(20);

/// The grace period, once the pod has to stop.
pub(super) type Stop = watch::Receiver<Option<Duration>>;

/// When a container restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Restart {
    Never,
    OnFailure,
    Always,
}

impl Restart {
    /// The policy of a pod for its containers. An init container that succeeded never restarts.
    pub(super) fn of(spec: &PodSpec, init: bool) -> Self {
        match (spec.restart_policy.as_deref(), init) {
            (Some("Never"), _) => Self::Never,
            (Some("OnFailure"), _) | (_, true) => Self::OnFailure,
            _ => Self::Always,
        }
    }

    fn applies(self, exit_code: i32) -> bool {
        match self {
            Self::Never => false,
            Self::OnFailure => exit_code != 0,
            Self::Always => true,
        }
    }
}

/// A container of a pod whose volumes are ready.
pub(super) struct Runner {
    pub(super) context: Arc<Context>,
    pub(super) pod: Arc<Pod>,
    pub(super) container: Container,
    pub(super) volumes: Arc<BTreeMap<String, Mountable>>,
    /// The pod's directory of termination messages.
    pub(super) folder: PathBuf,
    pub(super) restart: Restart,
    pub(super) shared: SharedRecord,
    pub(super) stop: Stop,
}

/// Why a process is stopped.
enum StopCause {
    PodStops(Duration),
    Unhealthy,
}

impl Runner {
    /// Runs the container until it ends without a restart or the pod stops. The result is in the record.
    pub(super) async fn run(mut self) {
        let mut backoff = BACKOFF;
        loop {
            let Some(prepared) = self.prepare_until_stopped().await else {
                return;
            };
            let end = self.run_once(&prepared).await;
            let stopped = self.stop.borrow().is_some();
            if stopped || !self.restart.applies(end.exit_code) {
                self.record(|record| {
                    record.finished = true;
                    record.state = State::Terminated(end);
                });
                return;
            }
            self.record(|record| {
                record.last = Some(end);
                record.state = State::Waiting {
                    reason: "CrashLoopBackOff",
                    message: Some(format!("back-off {backoff:?} restarting failed container")),
                };
            });
            if self.stopped_within(backoff).await {
                return;
            }
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
            self.record(|record| record.restarts += 1);
        }
    }

    /// Retries until the container can start. `None` if the pod stops first.
    async fn prepare_until_stopped(&mut self) -> Option<Prepared> {
        loop {
            if self.stop.borrow().is_some() {
                return None;
            }
            match self.prepare().await {
                Ok(prepared) => return Some(prepared),
                Err(NotReady { reason, message }) => {
                    self.context.warn(&self.pod, "Failed", &message).await;
                    self.record(|record| {
                        record.state = State::Waiting { reason, message: Some(message) };
                    });
                }
            }
            if self.stopped_within(RETRY).await {
                return None;
            }
        }
    }

    async fn prepare(&self) -> Result<Prepared, NotReady> {
        let image = self.pull()?;
        let environment = environment::resolve(&self.context, &self.pod, &self.container).await?;
        let restarts = self.read(|record| record.restarts);
        let message_file = self.folder.join(&self.container.name);
        reset_message(&message_file)
            .map_err(|error| NotReady::config(format!("cannot write {}: {error}", message_file.display())))?;
        Ok(Prepared {
            sandbox: self.sandbox(&image, &environment, &message_file)?,
            environment,
            message_file,
            log: self.context.log_path(&self.pod, &self.container.name, restarts),
        })
    }

    fn pull(&self) -> Result<Image, NotReady> {
        let reference = self.container.image.as_deref().unwrap_or_default();
        self.context.images.find(reference).ok_or_else(|| {
            // Like the kubelet: the error once, then the pause before the next attempt.
            let tried = self.read(|record| {
                matches!(record.state, State::Waiting { reason, .. }
                    if matches!(reason, "ErrImagePull" | "ImagePullBackOff"))
            });
            if self.container.image_pull_policy.as_deref() == Some("Never") {
                NotReady {
                    reason: "ErrImageNeverPull",
                    message: format!("Container image {reference:?} is not present with pull policy of Never"),
                }
            } else if tried {
                NotReady { reason: "ImagePullBackOff", message: format!("Back-off pulling image {reference:?}") }
            } else {
                NotReady {
                    reason: "ErrImagePull",
                    message: format!("{reference:?}: image not found on the local kubelet"),
                }
            }
        })
    }

    fn sandbox(&self, image: &Image, environment: &Environment, message_file: &Path) -> Result<Sandbox, NotReady> {
        let spec = self.pod.spec.as_ref();
        let (user, group) = spec.map_or((0, 0), |spec| identity(spec, &self.container));
        let context = self.container.security_context.as_ref();
        let read_only_root = context.and_then(|context| context.read_only_root_filesystem) == Some(true);
        let message_path = self.container.termination_message_path.as_deref();
        let mut binds: Vec<Bind> = image
            .files
            .iter()
            .map(|(host, container)| Bind { host: host.clone(), container: container.clone(), read_only: true })
            .collect();
        binds.push(Bind {
            host: message_file.to_path_buf(),
            container: message_path.unwrap_or("/dev/termination-log").into(),
            read_only: false,
        });
        for mount in self.container.volume_mounts.iter().flatten() {
            binds.push(self.bind(mount, environment)?);
        }
        let entrypoint = self.container.command.as_ref().unwrap_or(&image.entrypoint);
        let command: Vec<String> = entrypoint
            .iter()
            .chain(self.container.args.iter().flatten())
            .map(|word| environment::expand(word, environment))
            .collect();
        Ok(Sandbox {
            user,
            group,
            hostname: self.pod.metadata.name.clone().unwrap_or_default(),
            read_only_root,
            root: image.root.clone(),
            working_dir: self.container.working_dir.as_deref().unwrap_or("/").into(),
            binds,
            command,
        })
    }

    fn bind(
        &self,
        mount: &k8s_openapi::api::core::v1::VolumeMount,
        environment: &Environment,
    ) -> Result<Bind, NotReady> {
        let volume = self
            .volumes
            .get(&mount.name)
            .ok_or_else(|| NotReady::config(format!("volume {:?} not found", mount.name)))?;
        let sub_path = match (&mount.sub_path, &mount.sub_path_expr) {
            (Some(path), _) => Some(path.clone()),
            (None, Some(text)) => Some(environment::expand(text, environment)),
            (None, None) => None,
        };
        let mut host = volume.path.clone();
        if let Some(sub_path) = sub_path.filter(|path| !path.is_empty()) {
            host.push(sub_path);
            if !host.exists() {
                super::volumes::create_directory(&host).map_err(|error| NotReady::config(error.message))?;
            }
        }
        Ok(Bind {
            host,
            container: mount.mount_path.clone().into(),
            read_only: volume.read_only || mount.read_only == Some(true),
        })
    }

    /// Runs the process once.
    async fn run_once(&mut self, prepared: &Prepared) -> Termination {
        let started = Timestamp::now();
        let process = Process::start(&self.context.bwrap, &prepared.sandbox, &prepared.environment, &prepared.log);
        let mut process = match process {
            Ok(process) => process,
            Err(error) => return not_started(error.to_string()),
        };
        let ready = self.container.readiness_probe.is_none();
        self.record(|record| record.state = State::Running { started, ready });

        let cause = select! {
            exit_code = process.wait() => return prepared.termination(&self.container, started, exit_code),
            grace = stopped(self.stop.clone()) => StopCause::PodStops(grace),
            () = self.watch_health() => StopCause::Unhealthy,
        };
        let grace = match cause {
            StopCause::PodStops(grace) => grace,
            StopCause::Unhealthy => {
                let message = format!("Container {} failed liveness probe", self.container.name);
                self.context.warn(&self.pod, "Unhealthy", &message).await;
                self.grace()
            }
        };
        let exit_code = self.stop_process(&mut process, grace).await;
        prepared.termination(&self.container, started, exit_code)
    }

    /// Updates the readiness in the record, and returns when the liveness probe has failed.
    async fn watch_health(&self) {
        let container = &self.container;
        let readiness = async {
            match &container.readiness_probe {
                Some(probe) => {
                    probe::watch_readiness(container, probe, |now| {
                        self.record(|record| {
                            if let State::Running { ready, .. } = &mut record.state {
                                *ready = now;
                            }
                        });
                    })
                    .await
                }
                None => pending().await,
            }
        };
        let liveness = async {
            match &container.liveness_probe {
                Some(probe) => probe::watch_liveness(container, probe).await,
                None => pending().await,
            }
        };
        select! {
            never = readiness => match never {},
            () = liveness => {}
        }
    }

    /// Sends SIGTERM, and SIGKILL after the grace period, which may become shorter meanwhile. Returns the exit code.
    async fn stop_process(&mut self, process: &mut Process, grace: Duration) -> i32 {
        let began = Instant::now();
        let mut deadline = began + grace;
        let mut terminated = grace.is_zero();
        loop {
            select! {
                exit_code = process.wait() => return exit_code,
                () = sleep_until(deadline) => {
                    process.kill();
                    return process.wait().await;
                }
                // A sandbox that is still starting has no process yet to signal.
                () = sleep(TERMINATE_AGAIN), if !terminated => terminated = process.terminate(),
                Ok(()) = self.stop.changed() => {
                    if let Some(grace) = *self.stop.borrow() {
                        deadline = deadline.min(began + grace);
                    }
                }
            }
        }
    }

    /// The pod's grace period.
    fn grace(&self) -> Duration {
        super::pod::grace_period(&self.pod)
    }

    /// Whether the pod stops within `pause`.
    async fn stopped_within(&self, pause: Duration) -> bool {
        select! {
            _ = stopped(self.stop.clone()) => true,
            () = sleep(pause) => false,
        }
    }

    fn record(&self, change: impl FnOnce(&mut Record)) {
        self.shared.update(&self.container.name, change);
    }

    fn read<T>(&self, read: impl FnOnce(&Record) -> T) -> T {
        self.shared.read(&self.container.name, read)
    }
}

/// A container that can start.
struct Prepared {
    sandbox: Sandbox,
    environment: Environment,
    message_file: PathBuf,
    log: PathBuf,
}

impl Prepared {
    fn termination(&self, container: &Container, started: Timestamp, exit_code: i32) -> Termination {
        let log_end = fs::read_to_string(&self.log).unwrap_or_default();
        let last_line = log_end.lines().next_back().unwrap_or_default();
        if exit_code == 1 && last_line.starts_with("bwrap: ") {
            return not_started(last_line.to_owned());
        }
        let may_use_log =
            exit_code != 0 && container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
        Termination {
            exit_code,
            reason: if exit_code == 0 { "Completed" } else { "Error" },
            message: termination::message(&self.message_file, may_use_log.then_some(&*self.log)),
            started: Some(started),
            finished: Timestamp::now(),
        }
    }
}

/// The termination of a container that could not start, for example because its program does not exist.
fn not_started(message: String) -> Termination {
    Termination {
        exit_code: 128,
        reason: "StartError",
        message: Some(message),
        started: None,
        finished: Timestamp::now(),
    }
}

/// Creates an empty message file that any user may write to.
fn reset_message(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, "")?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))
}

/// Waits until the pod has to stop and returns the grace period.
async fn stopped(mut stop: Stop) -> Duration {
    let grace = stop.wait_for(Option::is_some).await.map(|grace| *grace);
    match grace {
        Ok(grace) => grace.unwrap_or_default(),
        // The sender is dropped with the pod's task, which ends this one too.
        Err(_) => pending().await,
    }
}
