//! The revision of a run, in the form in which its status has recorded it.

use crds::{identity::Revision, v1alpha1::EmbeddingRun};

/// The revision of the run's spec. A revision that the status or the history recorded in the short form of earlier
/// releases keeps that form: its Jobs, its paths in the output and its result have it, and an upgrade of the operator
/// must not compute it again.
pub fn of(run: &EmbeddingRun) -> Revision {
    let revision = Revision::of(&run.spec);
    let status = run.status.iter();
    let history = status.clone().flat_map(|status| &status.history).map(|entry| &entry.revision);
    let recorded = status.filter_map(|status| status.revision.as_ref()).chain(history);
    let recorded = recorded.into_iter().find(|recorded| revision.is_recorded_as(recorded)).cloned();
    recorded.map_or(revision, Revision::from_recorded)
}

#[cfg(test)]
mod tests {
    use crds::v1alpha1::{EmbeddingRunStatus, HistoryEntry, Outcome};
    use serde_json::json;

    use super::{super::fixtures, *};

    #[test]
    fn a_revision_of_an_earlier_release_keeps_its_short_form() {
        let mut run = fixtures::run(json!({}));
        let full = of(&run);
        assert_eq!(full.as_str().len(), 32);
        let status = |revision: &str| EmbeddingRunStatus {
            revision: Some(revision.to_owned()),
            outcome: Some(Outcome::Succeeded),
            ..EmbeddingRunStatus::default()
        };
        run.status = Some(status(full.short()));
        assert_eq!(of(&run).as_str(), full.short());
        let entry = HistoryEntry {
            revision: full.short().to_owned(),
            outcome: Outcome::Succeeded,
            reason: "Succeeded".into(),
            start_time: None,
            completion_time: None,
            summary: None,
        };
        run.status = Some(EmbeddingRunStatus { history: vec![entry], ..status("0000000000") });
        assert_eq!(of(&run).as_str(), full.short(), "a return to a revision of the history");
        run.status = Some(status("0000000000"));
        assert_eq!(of(&run), full);
    }
}
