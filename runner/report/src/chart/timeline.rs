//! Which model held a device, from when to when.

use crds::summary::LeaseEvent;
use jiff::Timestamp;
use plotters::prelude::*;

use super::{
    Axes, Figure, Series, svg,
    time::{TimeAxis, moment, unread},
};
use crate::{Error, format::axis};

const LANE: u32 = 26;
/// More lanes than this are told in a sentence.
const MOST_LANES: usize = 24;

/// One bar per lease, in as many lanes as shards ran side by side: a lane is a shard, and then the next one that found
/// its place free. Nothing where there are no leases.
pub fn timeline(leases: &[&LeaseEvent], series: &Series) -> Result<Option<Figure>, Error> {
    let held: Vec<Held> = leases.iter().filter_map(|lease| Held::of(lease, series)).collect();
    let moments: Vec<_> = held.iter().flat_map(|held| [held.taken, held.given_back]).collect();
    let Some(time) = TimeAxis::over(moments) else { return Ok(None) };
    let lanes = lanes(&held);
    let all = lanes.iter().max().map_or(1, |last| last + 1);
    let shown = all.min(MOST_LANES);
    let draw = |pixels: u32| {
        let axes = Axes { x: 0.0..time.end, y: 0.0..shown as f64, x_tick: &axis, y_tick: None };
        // One pixel: neighbours stay apart by it, and a lease is never narrower.
        let least = time.end / f64::from(pixels);
        svg((pixels, shown as u32 * LANE + 36), &axes, |canvas| {
            canvas.draw_series(held.iter().zip(&lanes).filter(|(_, lane)| **lane < shown).map(|(held, lane)| {
                let top = (shown - lane) as f64;
                let (left, right) = (time.at(held.taken), time.at(held.given_back));
                let bar = [(left, top - 0.14), ((right - least).max(left + least), top - 0.86)];
                Rectangle::new(bar, Series::colour(held.series).filled())
            }))?;
            Ok(())
        })
    };
    let mut figure = Figure::drawn(time.title(), draw)?;
    figure.legend = series.legend(|index| held.iter().any(|held| held.series == index));
    if all > shown {
        figure.notes.push(format!("The first {shown} of {all} lanes are shown."));
    }
    figure.notes.extend(unread(leases.len() - held.len()));
    Ok(Some(figure))
}

/// A lease on the time line.
struct Held {
    series: usize,
    shard: Option<u32>,
    taken: Timestamp,
    given_back: Timestamp,
}

impl Held {
    fn of(lease: &LeaseEvent, series: &Series) -> Option<Self> {
        let taken = moment(&lease.acquired_at)?;
        let given_back = moment(&lease.released_at)?.max(taken);
        Some(Self { series: series.find(&lease.stage, &lease.model)?, shard: lease.shard, taken, given_back })
    }
}

/// The lane of every lease: all of a shard lie in one, and no two shards overlap in it.
fn lanes(held: &[Held]) -> Vec<usize> {
    let mut shards: Vec<(Option<u32>, Timestamp, Timestamp)> = Vec::new();
    for held in held {
        match shards.iter_mut().find(|(shard, _, _)| *shard == held.shard) {
            Some((_, begin, end)) => (*begin, *end) = ((*begin).min(held.taken), (*end).max(held.given_back)),
            None => shards.push((held.shard, held.taken, held.given_back)),
        }
    }
    shards.sort_by_key(|(shard, begin, _)| (*begin, *shard));
    let mut free_from: Vec<Timestamp> = Vec::new();
    let mut lane_of = Vec::with_capacity(shards.len());
    for (shard, begin, end) in shards {
        let lane = free_from.iter().position(|free| *free <= begin).unwrap_or_else(|| {
            free_from.push(end);
            free_from.len() - 1
        });
        free_from[lane] = end;
        lane_of.push((shard, lane));
    }
    let lane = |held: &Held| lane_of.iter().find(|(shard, _)| *shard == held.shard).map_or(0, |(_, lane)| *lane);
    held.iter().map(lane).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(shard: Option<u32>, taken: &str, given_back: &str) -> Held {
        let at = |time: &str| moment(&format!("2026-11-25T10:{time}Z")).expect(time);
        Held { series: 0, shard, taken: at(taken), given_back: at(given_back) }
    }

    #[test]
    fn shards_side_by_side_have_lanes_of_their_own_and_a_free_lane_is_used_again() {
        let held = [
            held(Some(0), "00:00", "00:10"),
            held(Some(1), "00:01", "00:30"),
            held(Some(0), "00:11", "00:20"),
            held(Some(2), "00:21", "00:25"),
            held(None, "00:31", "00:32"),
        ];
        assert_eq!(lanes(&held), [0, 1, 0, 0, 0]);
    }

    #[test]
    fn a_lease_is_a_bar_and_one_that_ends_before_it_begins_is_short() {
        let mut lease = crate::sample::run().telemetry.lease_events[0].clone();
        lease.released_at = "2020-01-01T00:00:00Z".into();
        let mut series = Series::default();
        series.index(&lease.stage, &lease.model);
        let figure = timeline(&[&lease], &series).expect("a chart").expect("a chart");
        assert_eq!(figure.wide.matches("fill=\"#2A78D6\"").count(), 1);
        assert!(!figure.wide.contains("width=\"-"), "{}", figure.wide);
    }

    #[test]
    fn without_leases_there_is_no_chart() {
        assert_eq!(timeline(&[], &Series::default()).expect("no chart"), None);
    }
}
