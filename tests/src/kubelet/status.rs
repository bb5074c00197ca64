//! A pod's status as a pure function of the records of its containers.

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::fields::ADDRESS;

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Termination {
    pub(super) exit_code: i32,
    pub(super) reason: &'static str,
    pub(super) message: Option<String>,
    pub(super) started: Option<Timestamp>,
    pub(super) finished: Timestamp,
}

/// The state of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Waiting { reason: &'static str, message: Option<String> },
    Running { started: Timestamp, ready: bool },
    Terminated(Termination),
}

/// The record of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) state: State,
    /// The last termination before a restart.
    pub(super) last: Option<Termination>,
    pub(super) restarts: i32,
    /// It has ended and does not restart.
    pub(super) finished: bool,
}

impl Record {
    fn new(reason: &'static str) -> Self {
        Self { state: State::Waiting { reason, message: None }, last: None, restarts: 0, finished: false }
    }

    pub(super) fn succeeded(&self) -> bool {
        self.finished && matches!(&self.state, State::Terminated(end) if end.exit_code == 0)
    }

    fn failed(&self) -> bool {
        self.finished && !self.succeeded()
    }

    fn ready(&self) -> bool {
        matches!(self.state, State::Running { ready: true, .. })
    }

    fn ever_started(&self) -> bool {
        self.last.is_some() || !matches!(self.state, State::Waiting { .. })
    }
}

/// The record of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodRecord {
    pub(super) started: Timestamp,
    pub(super) volumes_ready: bool,
    pub(super) init: Vec<Record>,
    pub(super) main: Vec<Record>,
    /// Why the kubelet ended the pod: the reason and the message.
    pub(super) failure: Option<(&'static str, &'static str)>,
}

impl PodRecord {
    pub(super) fn new(pod: &Pod) -> Self {
        let (init, main) = containers(pod);
        let waiting = if init.is_empty() { "ContainerCreating" } else { "PodInitializing" };
        Self {
            started: Timestamp::now(),
            volumes_ready: false,
            init: init.iter().map(|_| Record::new("ContainerCreating")).collect(),
            main: main.iter().map(|_| Record::new(waiting)).collect(),
            failure: None,
        }
    }

    /// Marks every container as terminated: the pod was stopped, and its processes have ended.
    pub(super) fn close(&mut self) {
        for record in self.init.iter_mut().chain(&mut self.main) {
            record.finished = true;
            if !matches!(record.state, State::Terminated(_)) {
                let end = record.last.take().unwrap_or_else(|| Termination {
                    exit_code: 137,
                    reason: "ContainerStatusUnknown",
                    message: Some("The container could not be located when the pod was terminated".into()),
                    started: None,
                    finished: Timestamp::now(),
                });
                record.state = State::Terminated(end);
            }
        }
    }

    fn initialized(&self) -> bool {
        self.init.iter().all(Record::succeeded)
    }

    /// The phase of the pod.
    pub(super) fn phase(&self) -> &'static str {
        if self.failure.is_some() || self.init.iter().any(Record::failed) {
            "Failed"
        } else if !self.initialized() {
            "Pending"
        } else if self.main.iter().all(|record| record.finished) {
            if self.main.iter().all(Record::succeeded) { "Succeeded" } else { "Failed" }
        } else if self.main.iter().all(Record::ever_started) {
            "Running"
        } else {
            "Pending"
        }
    }

    /// Whether the pod has ended.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.phase(), "Succeeded" | "Failed")
    }

    /// The status of this record. A condition that has not changed keeps the transition time of `previous`.
    pub(super) fn status(&self, pod: &Pod, previous: &[PodCondition]) -> PodStatus {
        let (init, main) = containers(pod);
        let phase = self.phase();
        PodStatus {
            phase: Some(phase.into()),
            reason: self.failure.map(|(reason, _)| reason.into()),
            message: self.failure.map(|(_, message)| message.into()),
            conditions: Some(self.conditions(main, previous)),
            host_ip: Some(ADDRESS.into()),
            host_ips: Some(vec![HostIP { ip: ADDRESS.into() }]),
            pod_ip: Some(ADDRESS.into()),
            pod_ips: Some(vec![PodIP { ip: ADDRESS.into() }]),
            start_time: Some(Time(self.started)),
            init_container_statuses: (!init.is_empty()).then(|| statuses(pod, init, &self.init)),
            container_statuses: Some(statuses(pod, main, &self.main)),
            ..PodStatus::default()
        }
    }

    fn conditions(&self, main: &[Container], previous: &[PodCondition]) -> Vec<PodCondition> {
        let unready: Vec<&str> = main
            .iter()
            .zip(&self.main)
            .filter(|(_, record)| !record.ready())
            .map(|(container, _)| container.name.as_str())
            .collect();
        let unready = match self.phase() {
            "Succeeded" => Some(("PodCompleted", String::new())),
            "Failed" => Some(("PodFailed", String::new())),
            _ if unready.is_empty() => None,
            _ => Some(("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" ")))),
        };
        let uninitialized = (!self.initialized()).then(|| ("ContainersNotInitialized", String::new()));
        let unmounted = (!self.volumes_ready || self.has_ended()).then(|| ("", String::new()));
        [
            ("PodReadyToStartContainers", unmounted),
            ("Initialized", uninitialized),
            ("ContainersReady", unready.clone()),
            ("Ready", unready),
        ]
        .into_iter()
        .map(|(kind, obstacle)| condition(kind, obstacle, previous))
        .collect()
    }
}

/// A condition, which is true without an obstacle (its reason and message).
fn condition(kind: &str, obstacle: Option<(&str, String)>, previous: &[PodCondition]) -> PodCondition {
    let status = if obstacle.is_none() { "True" } else { "False" };
    let unchanged = previous
        .iter()
        .find(|condition| condition.type_ == kind && condition.status == status)
        .and_then(|condition| condition.last_transition_time.clone());
    let (reason, message) = obstacle.unzip();
    PodCondition {
        type_: kind.into(),
        status: status.into(),
        last_transition_time: Some(unchanged.unwrap_or_else(|| Time(Timestamp::now()))),
        reason: reason.filter(|reason| !reason.is_empty()).map(Into::into),
        message: message.filter(|message| !message.is_empty()),
        ..PodCondition::default()
    }
}

/// The init containers and the containers of `pod`.
pub(super) fn containers(pod: &Pod) -> (&[Container], &[Container]) {
    pod.spec.as_ref().map_or((&[], &[]), |spec| (spec.init_containers.as_deref().unwrap_or_default(), &spec.containers))
}

fn statuses(pod: &Pod, containers: &[Container], records: &[Record]) -> Vec<ContainerStatus> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    containers
        .iter()
        .zip(records)
        .map(|(container, record)| {
            let id = record.ever_started().then(|| format!("local://{uid}-{}-{}", container.name, record.restarts));
            let running = matches!(record.state, State::Running { .. });
            let image = container.image.clone().unwrap_or_default();
            ContainerStatus {
                name: container.name.clone(),
                image_id: if id.is_some() { image.clone() } else { String::new() },
                image,
                ready: record.ready() || record.succeeded(),
                started: Some(running),
                restart_count: record.restarts,
                state: Some(container_state(&record.state, id.as_deref())),
                last_state: record
                    .last
                    .as_ref()
                    .map(|end| ContainerState { terminated: Some(terminated(end, None)), ..ContainerState::default() }),
                container_id: id,
                ..ContainerStatus::default()
            }
        })
        .collect()
}

fn container_state(state: &State, id: Option<&str>) -> ContainerState {
    let mut described = ContainerState::default();
    match state {
        State::Waiting { reason, message } => {
            described.waiting =
                Some(ContainerStateWaiting { reason: Some((*reason).into()), message: message.clone() });
        }
        State::Running { started, .. } => {
            described.running = Some(ContainerStateRunning { started_at: Some(Time(*started)) });
        }
        State::Terminated(end) => described.terminated = Some(terminated(end, id)),
    }
    described
}

fn terminated(end: &Termination, id: Option<&str>) -> ContainerStateTerminated {
    ContainerStateTerminated {
        container_id: id.map(Into::into),
        exit_code: end.exit_code,
        reason: Some(end.reason.into()),
        message: end.message.clone(),
        started_at: end.started.map(Time),
        finished_at: Some(Time(end.finished)),
        ..ContainerStateTerminated::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "uid": "u"},
            "spec": {
                "initContainers": [{"name": "first", "image": "sh"}],
                "containers": [{"name": "main", "image": "sh"}],
            },
        }))
        .unwrap()
    }

    fn ended(exit_code: i32) -> State {
        State::Terminated(Termination {
            exit_code,
            reason: "Error",
            message: None,
            started: None,
            finished: Timestamp::UNIX_EPOCH,
        })
    }

    fn record(init: (State, bool), main: (State, bool)) -> PodRecord {
        let mut record = PodRecord::new(&pod());
        (record.init[0].state, record.init[0].finished) = init;
        (record.main[0].state, record.main[0].finished) = main;
        record
    }

    fn waiting() -> State {
        Record::new("ContainerCreating").state
    }

    fn running(ready: bool) -> State {
        State::Running { started: Timestamp::UNIX_EPOCH, ready }
    }

    #[test]
    fn the_phase_follows_the_containers() {
        for (init, main, expected) in [
            ((waiting(), false), (waiting(), false), "Pending"),
            ((running(true), false), (waiting(), false), "Pending"),
            ((ended(1), true), (waiting(), false), "Failed"),
            ((ended(0), true), (waiting(), false), "Pending"),
            ((ended(0), true), (running(false), false), "Running"),
            ((ended(0), true), (ended(1), true), "Failed"),
            ((ended(0), true), (ended(0), true), "Succeeded"),
        ] {
            let record = record(init, main);
            assert_eq!(record.phase(), expected, "{record:?}");
        }
    }

    #[test]
    fn a_pod_whose_container_waits_for_a_restart_is_running() {
        let mut record = record((ended(0), true), (waiting(), false));
        if let State::Terminated(end) = ended(1) {
            record.main[0].last = Some(end);
        }
        assert_eq!(record.phase(), "Running");
    }

    #[test]
    fn a_pod_is_ready_when_its_containers_are() {
        for ready in [true, false] {
            let record = record((ended(0), true), (running(ready), false));
            let conditions = record.status(&pod(), &[]).conditions.unwrap();
            let status = |kind: &str| {
                let found = conditions.iter().find(|condition| condition.type_ == kind);
                found.unwrap().status == "True"
            };
            assert_eq!((status("Ready"), status("Initialized")), (ready, true));
        }
    }

    #[test]
    fn a_condition_that_does_not_change_keeps_its_time() {
        let record = record((ended(0), true), (running(true), false));
        let mut before = record.status(&pod(), &[]).conditions.unwrap();
        for condition in &mut before {
            condition.last_transition_time = Some(Time(Timestamp::UNIX_EPOCH));
        }
        let ready = record.status(&pod(), &before).conditions.unwrap();
        assert_eq!(ready[3].last_transition_time, before[3].last_transition_time);

        let mut unready = record;
        unready.main[0].state = running(false);
        let unready = unready.status(&pod(), &before).conditions.unwrap();
        assert_ne!(unready[3].last_transition_time, before[3].last_transition_time);
    }

    #[test]
    fn a_pod_that_is_closed_before_it_starts_has_failed_with_137() {
        let mut record = PodRecord::new(&pod());
        record.close();
        let status = record.status(&pod(), &[]);
        assert_eq!(status.phase.as_deref(), Some("Failed"));
        let state = status.container_statuses.unwrap()[0].state.clone().unwrap();
        assert_eq!(state.terminated.unwrap().exit_code, 137);
    }
}
