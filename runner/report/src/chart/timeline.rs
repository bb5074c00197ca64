//! Device leases over time, by model.

use crds::summary::LeaseEvent;
use jiff::Timestamp;
use plotters::prelude::*;

use super::{
    canvas::{Axes, svg},
    figure::Figure,
    lease_span::LeaseSpan,
    series::Series,
    time::{TimeAxis, unreadable_times},
};
use crate::{error::Error, format::axis};

/// The height of a lane, in pixels.
const LANE_HEIGHT: u32 = 26;
/// The most lanes of a chart; a note counts the others.
const MAX_LANES: usize = 24;

/// One bar per lease, in one lane per shard that ran in parallel: a shard takes the first lane that is free when it begins.
/// `None` if there are no leases.
pub fn timeline(leases: &[&LeaseEvent], series: &Series) -> Result<Option<Figure>, Error> {
    let spans: Vec<LeaseSpan> = leases.iter().filter_map(|lease| LeaseSpan::of(lease, series)).collect();
    let moments: Vec<_> = spans.iter().flat_map(|span| [span.acquired, span.released]).collect();
    let Some(time) = TimeAxis::over(moments) else { return Ok(None) };
    let lanes = lanes(&spans);
    let all = lanes.iter().max().map_or(1, |last| last + 1);
    let shown = all.min(MAX_LANES);
    let draw = |pixels: u32| {
        let axes = Axes { x: 0.0..time.end, y: 0.0..shown as f64, x_tick: &axis, y_tick: None };
        // One pixel keeps neighbours apart, and is the least width of a lease.
        let pixel = time.end / f64::from(pixels);
        svg((pixels, shown as u32 * LANE_HEIGHT + 36), &axes, |canvas| {
            canvas.draw_series(spans.iter().zip(&lanes).filter(|(_, lane)| **lane < shown).map(|(span, lane)| {
                let top = (shown - lane) as f64;
                let (left, right) = (time.at(span.acquired), time.at(span.released));
                let bar = [(left, top - 0.14), ((right - pixel).max(left + pixel), top - 0.86)];
                Rectangle::new(bar, Series::colour(span.series).filled())
            }))?;
            Ok(())
        })
    };
    let mut figure = Figure::drawn(time.title(), draw)?;
    figure.legend = series.legend(|index| spans.iter().any(|span| span.series == index));
    if all > shown {
        figure.notes.push(format!("The chart shows the first {shown} of {all} lanes."));
    }
    figure.notes.extend(unreadable_times(leases.len() - spans.len()));
    Ok(Some(figure))
}

/// The lane of every lease. All leases of a shard have the same lane, and no two shards overlap in a lane.
fn lanes(spans: &[LeaseSpan]) -> Vec<usize> {
    let mut shards: Vec<(Option<u32>, Timestamp, Timestamp)> = Vec::new();
    for span in spans {
        match shards.iter_mut().find(|(shard, _, _)| *shard == span.shard) {
            Some((_, begin, end)) => (*begin, *end) = ((*begin).min(span.acquired), (*end).max(span.released)),
            None => shards.push((span.shard, span.acquired, span.released)),
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
    let lane = |span: &LeaseSpan| lane_of.iter().find(|(shard, _)| *shard == span.shard).map_or(0, |(_, lane)| *lane);
    spans.iter().map(lane).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::time::moment;

    fn span(shard: Option<u32>, acquired: &str, released: &str) -> LeaseSpan {
        let at = |time: &str| moment(&format!("2026-11-25T10:{time}Z")).expect(time);
        LeaseSpan { series: 0, shard, acquired: at(acquired), released: at(released), peak_bytes: 0 }
    }

    #[test]
    fn parallel_shards_have_lanes_of_their_own_and_a_free_lane_is_reused() {
        let spans = [
            span(Some(0), "00:00", "00:10"),
            span(Some(1), "00:01", "00:30"),
            span(Some(0), "00:11", "00:20"),
            span(Some(2), "00:21", "00:25"),
            span(None, "00:31", "00:32"),
        ];
        assert_eq!(lanes(&spans), [0, 1, 0, 0, 0]);
    }

    #[test]
    fn a_lease_is_a_bar_even_if_it_ends_before_it_begins() {
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
