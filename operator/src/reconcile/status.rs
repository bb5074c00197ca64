//! The status that follows from a decision, as a pure function.

use crds::{
    contract::{CollectionResult, FinalizeResult, PlanResult, Stage, StageOutcome},
    identity::Revision,
    layout, resolve,
    v1alpha1::{
        ChunkCounts, CollectionStatus, ConditionType, DenseModelStatus, EmbeddingRun, EmbeddingRunStatus, HistoryEntry,
        Outcome, Phase, Progress, SummaryRef, reason,
    },
};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use super::{
    decide::{Blocked, Decision, RunFailure, Success},
    stages::{self, Stages},
    world::World,
};

/// The status of `run` after `decision`.
pub fn status(run: &EmbeddingRun, world: &World, decision: &Decision, now: Timestamp) -> EmbeddingRunStatus {
    let revision = Revision::of(&run.spec);
    let mut next = Draft::new(run, now);
    if let Decision::Reject(blocked) = decision {
        next.reject(blocked);
        return next.finish(run);
    }
    next.take_up(run, &revision);
    next.condition(ConditionType::Accepted, true, reason::ACCEPTED, "the spec can be acted on");
    match decision {
        Decision::Reject(_) => {}
        Decision::Wait(blocked) => next.wait(blocked),
        Decision::Retire(jobs) => {
            let message = format!("waiting for the Jobs of an earlier revision to be gone: {}", jobs.join(", "));
            next.work(Phase::Pending, reason::REPLACED, &message);
        }
        Decision::Suspend(_) => next.suspend(),
        Decision::Resume(_) => next.work(Phase::Pending, reason::RESUMED, "the Jobs are told to go on"),
        Decision::Create(step) => next.stage(step.stage, world, &revision),
        Decision::Redo(stage, _) | Decision::Track(stage) => next.stage(*stage, world, &revision),
        Decision::Succeed(result, how) => next.succeed(run, world, &revision, result, *how),
        Decision::Fail(failure) => next.fail(world, &revision, failure),
        Decision::Keep(_) => next.keep(),
    }
    next.observed();
    next.finish(run)
}

/// A status in the making.
struct Draft {
    status: EmbeddingRunStatus,
    generation: i64,
    now: Timestamp,
}

impl Draft {
    fn new(run: &EmbeddingRun, now: Timestamp) -> Self {
        let generation = run.metadata.generation.unwrap_or_default();
        let mut status = run.status.clone().unwrap_or_default();
        status.observed_generation = generation;
        Self { status, generation, now }
    }

    /// Sets a condition; the transition time moves only when the status does.
    fn condition(&mut self, kind: ConditionType, holds: bool, reason: &str, message: &str) {
        let kind = kind.to_string();
        let status = if holds { "True" } else { "False" };
        let before = self.status.conditions.iter().position(|condition| condition.type_ == kind);
        let kept = before
            .map(|index| self.status.conditions.remove(index))
            .filter(|condition| condition.status == status)
            .map(|condition| condition.last_transition_time);
        self.status.conditions.push(Condition {
            last_transition_time: kept.unwrap_or(Time(self.now)),
            message: message.into(),
            observed_generation: Some(self.generation),
            reason: reason.into(),
            status: status.into(),
            type_: kind,
        });
    }

    /// The three conditions of kstatus.
    fn kstatus(&mut self, ready: bool, reconciling: bool, stalled: bool, reason: &str, message: &str) {
        self.condition(ConditionType::Ready, ready, reason, message);
        self.condition(ConditionType::Reconciling, reconciling, reason, message);
        self.condition(ConditionType::Stalled, stalled, reason, message);
    }

    /// Starts over for a revision that the status is not about yet.
    fn take_up(&mut self, run: &EmbeddingRun, revision: &Revision) {
        if self.status.revision.as_deref() == Some(revision.as_str()) {
            return;
        }
        self.remember_replaced();
        self.status = EmbeddingRunStatus {
            observed_generation: self.generation,
            revision: Some(revision.as_str().into()),
            history: std::mem::take(&mut self.status.history),
            conditions: std::mem::take(&mut self.status.conditions),
            ..EmbeddingRunStatus::default()
        };
        Stages::asked(&run.spec).write_to(&mut self.status);
        for kind in
            [ConditionType::Complete, ConditionType::Failed, ConditionType::Degraded, ConditionType::ResultRecorded]
        {
            self.condition(kind, false, reason::IN_PROGRESS, "the revision has not ended");
        }
        self.condition(ConditionType::Admitted, true, reason::NO_QUEUE, "no queue holds the Jobs back");
    }

    /// An unfinished revision that a new one takes the place of is remembered as such.
    fn remember_replaced(&mut self) {
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

    fn reject(&mut self, blocked: &Blocked) {
        self.status.phase = Some(Phase::Failed);
        self.condition(ConditionType::Accepted, false, blocked.reason, &blocked.message);
        self.kstatus(false, false, true, blocked.reason, &blocked.message);
    }

    fn wait(&mut self, blocked: &Blocked) {
        self.status.phase = Some(self.status.phase.filter(|phase| is_at_work(*phase)).unwrap_or(Phase::Pending));
        self.not_suspended();
        self.kstatus(false, false, true, blocked.reason, &blocked.message);
    }

    fn suspend(&mut self) {
        self.status.phase = Some(Phase::Suspended);
        let message = "spec.suspend is true; what is committed stays";
        self.condition(ConditionType::Suspended, true, reason::SUSPENDED, message);
        self.kstatus(false, false, false, reason::SUSPENDED, message);
    }

    fn work(&mut self, phase: Phase, reason: &str, message: &str) {
        self.status.phase = Some(phase);
        self.not_suspended();
        self.kstatus(false, true, false, reason, message);
    }

    fn stage(&mut self, stage: Stage, world: &World, revision: &Revision) {
        self.status.start_time.get_or_insert(Time(self.now));
        self.progress(world, revision);
        let display = self.status.progress.as_ref().map(|progress| progress.display.clone()).unwrap_or_default();
        let (phase, reason, mut message) = match stage {
            Stage::Plan => (Phase::Planning, reason::PLANNING, "listing the sources".to_owned()),
            Stage::Embed => (Phase::Embedding, reason::EMBEDDING, format!("{display} embedded")),
            Stage::Finalize => (Phase::Finalizing, reason::FINALIZING, "writing the summaries".to_owned()),
        };
        if let Some(waiting) = world.job(revision, stage).and_then(|job| job.waiting.as_ref()) {
            message = format!("{message}; {waiting}");
        }
        self.work(phase, reason, &message);
    }

    fn progress(&mut self, world: &World, revision: &Revision) {
        let planned = world.job(revision, Stage::Plan).and_then(|plan| match plan.result.outcome() {
            Some(StageOutcome::Planned(PlanResult { shards, chunks, .. })) => Some((*shards, *chunks)),
            _ => None,
        });
        let known = self.status.progress.as_ref().map(|progress| (progress.shards_total, progress.chunks_total));
        let Some((total, chunks)) = planned.or(known) else {
            return;
        };
        let embed = world.job(revision, Stage::Embed);
        let done = match embed {
            Some(embed) => embed.succeeded,
            None => self.status.progress.as_ref().map_or(0, |progress| progress.shards_done),
        };
        let failed = embed.map_or(0, |embed| count_indexes(&embed.failed_indexes));
        self.status.progress = Some(Progress {
            display: format!("{done}/{total} shards"),
            percent: if total == 0 { 0 } else { (u64::from(done) * 100 / u64::from(total)) as u32 },
            shards_done: done,
            shards_total: total,
            shards_failed: failed,
            chunks_total: chunks,
        });
    }

    fn succeed(
        &mut self,
        run: &EmbeddingRun,
        world: &World,
        revision: &Revision,
        result: &FinalizeResult,
        how: Success,
    ) {
        self.status.start_time.get_or_insert(Time(self.now));
        self.progress(world, revision);
        if let Some(progress) = &mut self.status.progress {
            progress.shards_done = progress.shards_total;
            progress.percent = 100;
            progress.display = format!("{0}/{0} shards", progress.shards_total);
        }
        self.results(run, revision, result);
        let uri = self.status.summary.as_ref().map(|summary| summary.uri.clone()).unwrap_or_default();
        let chunks = result.totals.embedded;
        let (reason, message) = match how {
            Success::Computed => (reason::SUCCEEDED, format!("{chunks} chunks embedded, summary at {uri}")),
            Success::AlreadyUpToDate => (
                reason::ALREADY_UP_TO_DATE,
                format!("the store already held this revision ({chunks} chunks), summary at {uri}"),
            ),
        };
        self.end(Outcome::Succeeded, Phase::Succeeded, reason);
        self.not_suspended();
        self.condition(ConditionType::Complete, true, reason, &message);
        self.condition(ConditionType::Failed, false, reason, &message);
        let stages = Stages::ended(&run.spec, result);
        match stages.degradation(&run.spec) {
            Some(fallen) => {
                self.condition(ConditionType::Degraded, true, &fallen.reason.to_string(), &fallen.message);
            }
            None => {
                self.condition(ConditionType::Degraded, false, reason::NO_FALLBACK, "every stage did what was asked");
            }
        }
        stages.write_to(&mut self.status);
        self.condition(ConditionType::ResultRecorded, true, reason, "the result is in this status");
        self.kstatus(true, false, false, reason, &message);
    }

    fn results(&mut self, run: &EmbeddingRun, revision: &Revision, result: &FinalizeResult) {
        let output = resolve::output_uri(&run.spec).unwrap_or_default();
        let summary = |path: String, sha256: &str| SummaryRef {
            uri: format!("{}/{path}", output.trim_end_matches('/')),
            sha256: sha256.into(),
        };
        self.status.summary = Some(summary(layout::run_summary(revision), &result.summary_sha256));
        let told = run.spec.collections.iter().zip(&result.collections);
        self.status.collections = told
            .map(|(collection, counts)| CollectionStatus {
                name: collection.name.clone(),
                chunks: chunk_counts(counts),
                dense: dense(run, counts),
                sparse: counts.sparse.as_ref().map(stages::stage_status),
                rerank: counts.rerank.as_ref().map(stages::stage_status),
                quality: stages::quality(&counts.quality),
                summary: Some(summary(layout::collection_summary(revision, &collection.name), &counts.summary_sha256)),
            })
            .collect();
    }

    fn fail(&mut self, world: &World, revision: &Revision, failure: &RunFailure) {
        self.status.start_time.get_or_insert(Time(self.now));
        self.progress(world, revision);
        let message = format!("{} failed: {}", failure.stage, failure.message);
        self.end(Outcome::Failed, Phase::Failed, &failure.reason);
        stages::leave_unfinished(&mut self.status);
        self.not_suspended();
        self.condition(ConditionType::Complete, false, &failure.reason, &message);
        self.condition(ConditionType::Failed, true, &failure.reason, &message);
        self.condition(ConditionType::Degraded, false, &failure.reason, "the revision is not complete");
        self.condition(ConditionType::ResultRecorded, true, &failure.reason, "the result is in this status");
        self.kstatus(false, false, true, &failure.reason, &message);
    }

    fn end(&mut self, outcome: Outcome, phase: Phase, reason: &str) {
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

    /// A revision that had ended: the conditions say again how, for the generation that was looked at now.
    fn keep(&mut self) {
        let succeeded = self.status.outcome == Some(Outcome::Succeeded);
        self.status.phase = Some(if succeeded { Phase::Succeeded } else { Phase::Failed });
        let kind = if succeeded { ConditionType::Complete } else { ConditionType::Failed }.to_string();
        let ended = self.status.conditions.iter().find(|condition| condition.type_ == kind).cloned();
        if let Some(ended) = ended {
            self.kstatus(succeeded, false, !succeeded, &ended.reason, &ended.message);
        }
        self.not_suspended();
    }

    /// The conditions that a decision leaves as they are hold for this generation too.
    fn observed(&mut self) {
        for condition in &mut self.status.conditions {
            condition.observed_generation = Some(self.generation);
        }
    }

    fn finish(mut self, run: &EmbeddingRun) -> EmbeddingRunStatus {
        self.status.history.truncate(run.spec.history_limit as usize);
        self.status.conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
        self.status
    }
}

fn is_at_work(phase: Phase) -> bool {
    matches!(phase, Phase::Planning | Phase::Embedding | Phase::Finalizing)
}

fn chunk_counts(counts: &CollectionResult) -> ChunkCounts {
    ChunkCounts {
        total: counts.chunks,
        embedded: counts.embedded,
        reused: 0,
        truncated: counts.truncated,
        skipped: counts.skipped,
    }
}

/// The passes of the ensemble; a model that was left out has none.
fn dense(run: &EmbeddingRun, counts: &CollectionResult) -> Vec<DenseModelStatus> {
    let told = run.spec.models.dense.iter().zip(&counts.dense).filter(|(_, pass)| pass.dimensions > 0);
    told.map(|(model, pass)| DenseModelStatus {
        model: model.name.clone(),
        dimensions: pass.dimensions,
        tokens: pass.tokens,
        seconds: pass.seconds,
    })
    .collect()
}

/// How many indexes a list like `1,3-5` names.
fn count_indexes(list: &str) -> u32 {
    let members = |part: &str| match part.split_once('-') {
        Some((from, to)) => match (from.parse::<u32>(), to.parse::<u32>()) {
            (Ok(from), Ok(to)) if to >= from => to - from + 1,
            _ => 0,
        },
        None => u32::from(part.parse::<u32>().is_ok()),
    };
    list.split(',').map(members).sum()
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
