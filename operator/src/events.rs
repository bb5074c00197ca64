//! The events of a run: what a status says that the one before did not.

use crds::v1alpha1::{ConditionType, EmbeddingRunStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

use crate::{reconcile::decide::Decision, settings::FIELD_MANAGER};

/// The longest note that the API server takes, in bytes.
const NOTE_LIMIT: usize = 1024;

/// The one recorder of the operator: it counts repeated events instead of writing them again.
pub fn recorder(client: Client, instance: String) -> Recorder {
    Recorder::new(client, Reporter { controller: FIELD_MANAGER.into(), instance: Some(instance) })
}

/// At most one event: for a reason of the Ready condition that was not there before.
pub fn news(before: Option<&EmbeddingRunStatus>, after: &EmbeddingRunStatus, decision: &Decision) -> Option<Event> {
    let now = ready(after)?;
    let old = before.and_then(ready);
    if old.is_some_and(|old| old.reason == now.reason && old.observed_generation == now.observed_generation) {
        return None;
    }
    let bad = matches!(decision, Decision::Reject(_) | Decision::Wait(_) | Decision::Fail(_) | Decision::Redo(..));
    if matches!(decision, Decision::Keep(_)) {
        return None;
    }
    Some(Event {
        type_: if bad { EventType::Warning } else { EventType::Normal },
        reason: now.reason.clone(),
        note: Some(cut(&now.message)),
        action: action(decision).into(),
        secondary: None,
    })
}

fn ready(status: &EmbeddingRunStatus) -> Option<&Condition> {
    let kind = ConditionType::Ready.to_string();
    status.conditions.iter().find(|condition| condition.type_ == kind)
}

fn action(decision: &Decision) -> &'static str {
    match decision {
        Decision::Reject(_) => "Reject",
        Decision::Wait(_) => "Wait",
        Decision::Retire(_) => "Retire",
        Decision::Suspend(_) => "Suspend",
        Decision::Resume(_) => "Resume",
        Decision::Create(_) => "CreateJob",
        Decision::Redo(..) => "RedoStage",
        Decision::Track(_) => "Track",
        Decision::Succeed(..) => "Succeed",
        Decision::Fail(_) => "Fail",
        Decision::Keep(_) => "Keep",
    }
}

fn cut(message: &str) -> String {
    let end = (0..=NOTE_LIMIT.min(message.len())).rev().find(|&end| message.is_char_boundary(end)).unwrap_or(0);
    message[..end].to_owned()
}
