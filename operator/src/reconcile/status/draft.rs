//! A status in the making: one method per decision, and the conditions.

use crds::{
    contract::{FinalizeResult, Stage},
    identity::Revision,
    v1alpha1::{ConditionType, EmbeddingRun, EmbeddingRunStatus, HistoryEntry, Outcome, Phase, reason},
};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use super::{
    super::{
        decision::{Blocked, RunFailure, Success},
        world::World,
    },
    progress, results,
    stages::{self, Stages},
};

/// A status in the making.
pub(super) struct Draft {
    status: EmbeddingRunStatus,
    generation: i64,
    now: Timestamp,
}

impl Draft {
    pub(super) fn new(run: &EmbeddingRun, now: Timestamp) -> Self {
        let generation = run.metadata.generation.unwrap_or_default();
        let mut status = run.status.clone().unwrap_or_default();
        status.observed_generation = generation;
        Self { status, generation, now }
    }

    /// Sets a condition; its transition time changes only with its status.
    pub(super) fn condition(&mut self, kind: ConditionType, holds: bool, reason: &str, message: &str) {
        let kind = kind.to_string();
        let status = if holds { "True" } else { "False" };
        let previous = self.status.conditions.iter().position(|condition| condition.type_ == kind);
        let unchanged_since = previous
            .map(|index| self.status.conditions.remove(index))
            .filter(|condition| condition.status == status)
            .map(|condition| condition.last_transition_time);
        self.status.conditions.push(Condition {
            last_transition_time: unchanged_since.unwrap_or(Time(self.now)),
            message: message.into(),
            observed_generation: Some(self.generation),
            reason: reason.into(),
            status: status.into(),
            type_: kind,
        });
    }

    /// Sets the three conditions of kstatus.
    fn kstatus(&mut self, ready: bool, reconciling: bool, stalled: bool, reason: &str, message: &str) {
        self.condition(ConditionType::Ready, ready, reason, message);
        self.condition(ConditionType::Reconciling, reconciling, reason, message);
        self.condition(ConditionType::Stalled, stalled, reason, message);
    }

    /// Starts over for a new revision; without effect if the status already describes `revision`.
    pub(super) fn start_revision(&mut self, run: &EmbeddingRun, revision: &Revision) {
        if self.status.revision.as_deref() == Some(revision.as_str()) {
            return;
        }
        self.record_replaced();
        self.status = EmbeddingRunStatus {
            observed_generation: self.generation,
            revision: Some(revision.as_str().into()),
            history: std::mem::take(&mut self.status.history),
            conditions: std::mem::take(&mut self.status.conditions),
            ..EmbeddingRunStatus::default()
        };
        Stages::requested(&run.spec).write_to(&mut self.status);
        for kind in
            [ConditionType::Complete, ConditionType::Failed, ConditionType::Degraded, ConditionType::ResultRecorded]
        {
            self.condition(kind, false, reason::IN_PROGRESS, "the revision is not finished");
        }
        self.condition(ConditionType::Admitted, true, reason::NO_QUEUE, "no queue is configured");
    }

    /// Adds an unfinished revision to the history, because a new one replaces it.
    fn record_replaced(&mut self) {
        if let (Some(revision), None, Some(started)) =
            (self.status.revision.clone(), self.status.outcome, self.status.start_time.clone())
        {
            let entry = HistoryEntry {
                revision,
                outcome: Outcome::Failed,
                reason: reason::REPLACED.into(),
                start_time: Some(started),
                completion_time: Some(Time(self.now)),
                summary: None,
            };
            self.status.history.insert(0, entry);
        }
    }

    fn not_suspended(&mut self) {
        self.condition(ConditionType::Suspended, false, reason::NOT_SUSPENDED, "spec.suspend is false");
    }

    pub(super) fn reject(&mut self, blocked: &Blocked) {
        self.status.phase = Some(Phase::Failed);
        self.condition(ConditionType::Accepted, false, blocked.reason, &blocked.message);
        self.kstatus(false, false, true, blocked.reason, &blocked.message);
    }

    pub(super) fn wait(&mut self, blocked: &Blocked) {
        self.status.phase = Some(self.status.phase.filter(|phase| is_active(*phase)).unwrap_or(Phase::Pending));
        self.not_suspended();
        self.kstatus(false, false, true, blocked.reason, &blocked.message);
    }

    pub(super) fn suspend(&mut self) {
        self.status.phase = Some(Phase::Suspended);
        let message = "spec.suspend is true; committed shards are kept, set it to false to resume";
        self.condition(ConditionType::Suspended, true, reason::SUSPENDED, message);
        self.kstatus(false, false, false, reason::SUSPENDED, message);
    }

    pub(super) fn reconciling(&mut self, phase: Phase, reason: &str, message: &str) {
        self.status.phase = Some(phase);
        self.not_suspended();
        self.kstatus(false, true, false, reason, message);
    }

    pub(super) fn stage(&mut self, stage: Stage, world: &World, revision: &Revision) {
        self.status.start_time.get_or_insert(Time(self.now));
        self.update_progress(world, revision);
        let display = self.status.progress.as_ref().map(|progress| progress.display.clone()).unwrap_or_default();
        let (phase, reason, mut message) = match stage {
            Stage::Plan => (Phase::Planning, reason::PLANNING, "listing the sources".to_owned()),
            Stage::Embed => (Phase::Embedding, reason::EMBEDDING, format!("{display} embedded")),
            Stage::Finalize => {
                (Phase::Finalizing, reason::FINALIZING, "merging the shards and writing the summaries".to_owned())
            }
        };
        if let Some(superseded) = world.superseded(revision).filter(|_| stage == Stage::Embed) {
            message.clone_from(&superseded.message);
        }
        if let Some(pending) = world.job(revision, stage).and_then(|job| job.pending.as_ref()) {
            message = format!("{message}; {pending}");
        }
        self.reconciling(phase, reason, &message);
    }

    fn update_progress(&mut self, world: &World, revision: &Revision) {
        self.status.progress = progress::of(self.status.progress.as_ref(), world, revision);
    }

    pub(super) fn succeed(
        &mut self,
        run: &EmbeddingRun,
        world: &World,
        revision: &Revision,
        result: &FinalizeResult,
        success: Success,
    ) {
        self.status.start_time.get_or_insert(Time(self.now));
        self.update_progress(world, revision);
        if let Some(progress) = &mut self.status.progress {
            progress::complete(progress);
        }
        let summary = results::run_summary(run, revision, result);
        let uri = summary.uri.clone();
        self.status.summary = Some(summary);
        self.status.collections = results::collections(run, revision, result);
        let chunks = result.totals.embedded;
        let (reason, mut message) = match success {
            Success::Computed => (reason::SUCCEEDED, format!("{chunks} chunks embedded, summary at {uri}")),
            Success::AlreadyUpToDate => (
                reason::ALREADY_UP_TO_DATE,
                format!("the output store already holds this revision ({chunks} chunks), summary at {uri}"),
            ),
        };
        if let Some(changed) = &result.source_changed {
            message = format!("{message}; {changed}");
        }
        self.record_outcome(Outcome::Succeeded, Phase::Succeeded, reason);
        self.not_suspended();
        self.condition(ConditionType::Complete, true, reason, &message);
        self.condition(ConditionType::Failed, false, reason, &message);
        let stages = Stages::completed(&run.spec, result);
        match stages.degradation(&run.spec) {
            Some(degradation) => {
                self.condition(ConditionType::Degraded, true, &degradation.reason.to_string(), &degradation.message);
            }
            None => {
                self.condition(
                    ConditionType::Degraded,
                    false,
                    reason::NO_FALLBACK,
                    "every requested stage did its full work",
                );
            }
        }
        stages.write_to(&mut self.status);
        self.condition(ConditionType::ResultRecorded, true, reason, "the status holds the result");
        self.kstatus(true, false, false, reason, &message);
    }

    pub(super) fn fail(&mut self, world: &World, revision: &Revision, failure: &RunFailure) {
        self.status.start_time.get_or_insert(Time(self.now));
        self.update_progress(world, revision);
        let message = format!("{} failed: {}", failure.stage, failure.message);
        self.record_outcome(Outcome::Failed, Phase::Failed, &failure.reason);
        stages::mark_unfinished(&mut self.status);
        self.not_suspended();
        self.condition(ConditionType::Complete, false, &failure.reason, &message);
        self.condition(ConditionType::Failed, true, &failure.reason, &message);
        self.condition(ConditionType::Degraded, false, &failure.reason, "the revision is not complete");
        self.condition(ConditionType::ResultRecorded, true, &failure.reason, "the status holds the result");
        self.kstatus(false, false, true, &failure.reason, &message);
    }

    /// Records the outcome of the revision, also in the history.
    fn record_outcome(&mut self, outcome: Outcome, phase: Phase, reason: &str) {
        self.status.outcome = Some(outcome);
        self.status.phase = Some(phase);
        self.status.completion_time = Some(Time(self.now));
        let entry = HistoryEntry {
            revision: self.status.revision.clone().unwrap_or_default(),
            outcome,
            reason: reason.into(),
            start_time: self.status.start_time.clone(),
            completion_time: self.status.completion_time.clone(),
            summary: self.status.summary.clone(),
        };
        self.status.history.insert(0, entry);
    }

    /// A revision that ended earlier: repeats its conditions for the current generation.
    pub(super) fn keep_ended(&mut self) {
        let succeeded = self.status.outcome == Some(Outcome::Succeeded);
        self.status.phase = Some(if succeeded { Phase::Succeeded } else { Phase::Failed });
        let kind = if succeeded { ConditionType::Complete } else { ConditionType::Failed }.to_string();
        let ended = self.status.conditions.iter().find(|condition| condition.type_ == kind).cloned();
        if let Some(ended) = ended {
            self.kstatus(succeeded, false, !succeeded, &ended.reason, &ended.message);
        }
        self.not_suspended();
    }

    /// Sets the current generation in all conditions: those that a decision leaves unchanged hold for it too.
    pub(super) fn observe_generation(&mut self) {
        for condition in &mut self.status.conditions {
            condition.observed_generation = Some(self.generation);
        }
    }

    pub(super) fn finish(mut self, run: &EmbeddingRun) -> EmbeddingRunStatus {
        let short = |revision: &String| Revision::from_recorded(revision.clone()).short().to_owned();
        self.status.short_revision = self.status.revision.as_ref().map(short);
        self.status.history.truncate(run.spec.history_limit as usize);
        self.status.conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
        self.status
    }
}

fn is_active(phase: Phase) -> bool {
    matches!(phase, Phase::Planning | Phase::Embedding | Phase::Finalizing)
}
