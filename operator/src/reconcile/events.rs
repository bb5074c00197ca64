//! The Kubernetes events of a run: one per transition of its Ready condition.

use crds::v1alpha1::{ConditionType, EmbeddingRunStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType};

use super::decision::Decision;

/// The longest note that the API server accepts, in bytes.
const NOTE_LIMIT: usize = 1024;

/// The event for the transition between two statuses; `None` if the reason and the generation of Ready are unchanged,
/// and for a revision that had ended before.
pub fn transition(
    before: Option<&EmbeddingRunStatus>,
    after: &EmbeddingRunStatus,
    decision: &Decision,
) -> Option<Event> {
    if matches!(decision, Decision::Keep(_)) {
        return None;
    }
    let new = ready(after)?;
    let old = before.and_then(ready);
    if old.is_some_and(|old| old.reason == new.reason && old.observed_generation == new.observed_generation) {
        return None;
    }
    Some(Event {
        type_: if is_warning(decision) { EventType::Warning } else { EventType::Normal },
        reason: new.reason.clone(),
        note: Some(truncated(&new.message)),
        action: action(decision).into(),
        secondary: None,
    })
}

fn ready(status: &EmbeddingRunStatus) -> Option<&Condition> {
    let kind = ConditionType::Ready.to_string();
    status.conditions.iter().find(|condition| condition.type_ == kind)
}

fn is_warning(decision: &Decision) -> bool {
    match decision {
        Decision::Succeed(result, _) => result.source_changed.is_some(),
        _ => matches!(decision, Decision::Reject(_) | Decision::Wait(_) | Decision::Fail(_) | Decision::Redo(..)),
    }
}

/// The `action` of an event: what the operator did.
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

fn truncated(message: &str) -> String {
    let end = (0..=NOTE_LIMIT.min(message.len())).rev().find(|&end| message.is_char_boundary(end)).unwrap_or(0);
    message[..end].to_owned()
}
