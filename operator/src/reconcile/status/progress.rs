//! The progress of a revision, in shards.

use crds::{
    contract::{PlanResult, Stage, StageOutcome},
    identity::Revision,
    v1alpha1::Progress,
};

use super::super::world::World;

/// The progress of `revision`; `previous` is used for what the world no longer contains. `None` without a plan.
pub(super) fn of(previous: Option<&Progress>, world: &World, revision: &Revision) -> Option<Progress> {
    let planned = world.job(revision, Stage::Plan).and_then(|plan| match plan.result.outcome() {
        Some(StageOutcome::Planned(PlanResult { shards, chunks, .. })) => Some((*shards, *chunks)),
        _ => None,
    });
    let (total, chunks) = planned.or(previous.map(|progress| (progress.shards_total, progress.chunks_total)))?;
    let embed = world.job(revision, Stage::Embed);
    let done = match embed {
        Some(embed) => embed.succeeded,
        None => previous.map_or(0, |progress| progress.shards_done),
    };
    let failed = embed.map_or(0, |embed| count_indexes(&embed.failed_indexes));
    Some(Progress {
        display: format!("{done}/{total} shards"),
        percent: if total == 0 { 0 } else { (u64::from(done) * 100 / u64::from(total)) as u32 },
        shards_done: done,
        shards_total: total,
        shards_failed: failed,
        chunks_total: chunks,
    })
}

/// Marks all shards as done.
pub(super) fn complete(progress: &mut Progress) {
    progress.shards_done = progress.shards_total;
    progress.percent = 100;
    progress.display = format!("{0}/{0} shards", progress.shards_total);
}

/// The number of indexes in a list such as `1,3-5`.
fn count_indexes(list: &str) -> u32 {
    let indexes = |part: &str| match part.split_once('-') {
        Some((from, to)) => match (from.parse::<u32>(), to.parse::<u32>()) {
            (Ok(from), Ok(to)) if to >= from => to - from + 1,
            _ => 0,
        },
        None => u32::from(part.parse::<u32>().is_ok()),
    };
    list.split(',').map(indexes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_indexes_are_counted() {
        assert_eq!(["", "4", "1,3-5", "0-9,11", "x", "5-3"].map(count_indexes), [0, 1, 4, 11, 0, 0]);
    }
}
