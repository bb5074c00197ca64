//! The time of the next reconciliation without a change of the run or its Jobs.

use std::time::Duration;

use crds::v1alpha1::reason;
use kube::runtime::controller::Action;

use super::decision::Decision;

/// Requeues a run after `decision`. Watches report most changes; a requeue detects the others (pods that cannot start,
/// claims that appear).
pub fn after(decision: &Decision) -> Action {
    match decision {
        Decision::Track(_) => Action::requeue(Duration::from_secs(15)),
        Decision::Wait(blocked) if blocked.reason == reason::NAME_CONFLICT => Action::requeue(Duration::from_secs(2)),
        Decision::Wait(_) => Action::requeue(Duration::from_secs(10)),
        Decision::Retire(_) | Decision::Redo(..) => Action::requeue(Duration::from_secs(2)),
        Decision::Create(_) | Decision::Resume(_) => Action::requeue(Duration::from_secs(5)),
        // The next reconciliation cleans up.
        Decision::Succeed(..) | Decision::Fail(_) => Action::requeue(Duration::from_secs(1)),
        Decision::Reject(_) | Decision::Suspend(_) | Decision::Keep(_) => Action::requeue(Duration::from_mins(5)),
    }
}
