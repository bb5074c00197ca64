//! Memory in use over time, beside the ceiling.

use crds::summary::{LeaseEvent, MitigationEvent, MitigationKind, Sample};
use jiff::Timestamp;
use plotters::prelude::*;

use super::{
    Axes, CUT, Figure, GOOD, LIMIT, Legend, Series, headroom, svg,
    time::{TimeAxis, moment, unread},
};
use crate::{
    Error,
    format::{axis, byte_unit, bytes, counted},
};

const HEIGHT: u32 = 240;
const MOST_BINS: usize = 240;

/// Memory in use, the peaks of the leases, what was done about pressure, and the ceiling. Nothing where nothing of it is
/// known.
pub fn memory(
    samples: &[&Sample],
    leases: &[&LeaseEvent],
    mitigations: &[&MitigationEvent],
    series: &Series,
) -> Result<Option<Figure>, Error> {
    let used: Vec<(Timestamp, u64)> =
        samples.iter().filter_map(|sample| Some((moment(&sample.at)?, sample.used_bytes))).collect();
    let peaks: Vec<Peak> = leases.iter().filter_map(|lease| Peak::of(lease, series)).collect();
    let events: Vec<(Timestamp, &MitigationEvent)> =
        mitigations.iter().filter_map(|event| Some((moment(&event.at)?, *event))).collect();
    let moments: Vec<_> = used
        .iter()
        .map(|(at, _)| *at)
        .chain(peaks.iter().flat_map(|peak| [peak.taken, peak.given_back]))
        .chain(events.iter().map(|(at, _)| *at))
        .collect();
    let Some(time) = TimeAxis::over(moments) else { return Ok(None) };
    let ceilings = ceilings(mitigations);
    let highest = used
        .iter()
        .map(|(_, used)| *used)
        .chain(peaks.iter().map(|peak| peak.bytes))
        .chain(events.iter().map(|(_, event)| event.used_bytes))
        .chain(ceilings.iter().copied())
        .max()
        .unwrap_or(0);
    let (unit, name) = byte_unit(highest);
    let scaled = |bytes: u64| bytes as f64 / unit as f64;
    let line = fullest(&used, &time);
    let tick = |value: f64| if value == 0.0 { "0".into() } else { format!("{} {name}", axis(value)) };
    let draw = |pixels: u32| {
        let axes = Axes { x: 0.0..time.end, y: 0.0..headroom(scaled(highest)), x_tick: &axis, y_tick: Some(&tick) };
        let least = time.end / f64::from(pixels);
        svg((pixels, HEIGHT), &axes, |canvas| {
            for peak in &peaks {
                let (left, right) = (time.at(peak.taken), time.at(peak.given_back));
                let top = scaled(peak.bytes);
                let (colour, right) = (Series::colour(peak.series), right.max(left + least));
                canvas.draw_series([Rectangle::new([(left, top), (right, 0.0)], colour.mix(0.14).filled())])?;
                canvas.draw_series([PathElement::new([(left, top), (right, top)], colour.stroke_width(2))])?;
            }
            let points: Vec<_> = line.iter().map(|(at, used)| (*at, scaled(*used))).collect();
            canvas.draw_series([PathElement::new(points, super::INK.stroke_width(2))])?;
            canvas.draw_series(events.iter().map(|(at, event)| {
                let colour = if event.kind == MitigationKind::Recover { GOOD } else { CUT };
                Circle::new((time.at(*at), scaled(event.used_bytes)), 4, colour.filled())
            }))?;
            for ceiling in &ceilings {
                let height = scaled(*ceiling);
                canvas.draw_series([PathElement::new([(0.0, height), (time.end, height)], LIMIT.stroke_width(2))])?;
            }
            Ok(())
        })
    };
    let mut figure = Figure::drawn(time.title(), draw)?;
    figure.legend = series.legend(|index| peaks.iter().any(|peak| peak.series == index));
    figure.legend.extend(marks(!used.is_empty(), &ceilings, mitigations));
    figure.notes = notes(&ceilings, mitigations);
    let told = used.len() + peaks.len() + events.len();
    figure.notes.extend(unread(samples.len() + leases.len() + mitigations.len() - told));
    Ok(Some(figure))
}

/// A lease with its peak.
struct Peak {
    series: usize,
    taken: Timestamp,
    given_back: Timestamp,
    bytes: u64,
}

impl Peak {
    fn of(lease: &LeaseEvent, series: &Series) -> Option<Self> {
        let taken = moment(&lease.acquired_at)?;
        let given_back = moment(&lease.released_at)?.max(taken);
        Some(Self { series: series.find(&lease.stage, &lease.model)?, taken, given_back, bytes: lease.bytes_peak })
    }
}

/// The ceilings that were met, without repetition.
fn ceilings(mitigations: &[&MitigationEvent]) -> Vec<u64> {
    let mut ceilings: Vec<u64> =
        mitigations.iter().map(|event| event.ceiling_bytes).filter(|ceiling| *ceiling > 0).collect();
    ceilings.sort_unstable();
    ceilings.dedup();
    ceilings
}

/// The fullest device of every bin, at the moment of its largest sample: a ceiling holds for each of them.
fn fullest(used: &[(Timestamp, u64)], time: &TimeAxis) -> Vec<(f64, u64)> {
    let mut bins: Vec<Option<(f64, u64)>> = vec![None; MOST_BINS];
    for (at, used) in used {
        let at = time.at(*at);
        let bin = ((at / time.end * MOST_BINS as f64) as usize).min(MOST_BINS - 1);
        if bins[bin].is_none_or(|(_, most)| *used > most) {
            bins[bin] = Some((at, *used));
        }
    }
    bins.into_iter().flatten().collect()
}

/// The entries of what is no lease, as far as it is drawn.
fn marks(used: bool, ceilings: &[u64], mitigations: &[&MitigationEvent]) -> Vec<Legend> {
    let recovered = |event: &&MitigationEvent| event.kind == MitigationKind::Recover;
    let entries = [
        (used, "in use, the fullest device", "line"),
        (!ceilings.is_empty(), "ceiling", "limit"),
        (!mitigations.iter().all(recovered), "batches made smaller", "cut"),
        (mitigations.iter().any(recovered), "batches made larger again", "recovered"),
    ];
    let drawn = entries.into_iter().filter(|(drawn, _, _)| *drawn);
    drawn.map(|(_, label, class)| Legend { label: label.into(), class: class.into() }).collect()
}

fn notes(ceilings: &[u64], mitigations: &[&MitigationEvent]) -> Vec<String> {
    let of = |kind| mitigations.iter().filter(|event| event.kind == kind).count() as u64;
    let ceiling = match ceilings {
        [] => "No ceiling is recorded: nothing had to be done about memory.".into(),
        ceilings => {
            let told: Vec<String> = ceilings.iter().map(|ceiling| bytes(*ceiling)).collect();
            format!("The ceiling is {}.", told.join(" or "))
        }
    };
    let mut notes = vec![ceiling];
    if !mitigations.is_empty() {
        notes.push(format!(
            "Batches were made smaller {}, computed in halves {} and made larger again {}.",
            counted(of(MitigationKind::Shrink), "time", "times"),
            counted(of(MitigationKind::Split), "time", "times"),
            counted(of(MitigationKind::Recover), "time", "times"),
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn the_ceiling_stands_and_every_mitigation_is_a_mark() {
        let telemetry = sample::collection().telemetry;
        let mitigations: Vec<_> = telemetry.mitigation_events.iter().collect();
        let figure = memory(&telemetry.samples.iter().collect::<Vec<_>>(), &[], &mitigations, &Series::default())
            .expect("a chart")
            .expect("a chart");
        assert_eq!(figure.wide.matches("stroke=\"#D03B3B\"").count(), 1);
        assert_eq!(figure.wide.matches("<circle").count(), mitigations.len());
        assert_eq!(figure.notes[0], "The ceiling is 12.0 GiB.");
    }

    #[test]
    fn without_pressure_the_note_says_that_no_ceiling_is_known() {
        let telemetry = sample::collection().telemetry;
        let figure = memory(&telemetry.samples.iter().collect::<Vec<_>>(), &[], &[], &Series::default())
            .expect("a chart")
            .expect("a chart");
        assert_eq!(figure.notes, ["No ceiling is recorded: nothing had to be done about memory."]);
        assert!(!figure.wide.contains("#D03B3B"));
        assert_eq!(figure.legend, [Legend { label: "in use, the fullest device".into(), class: "line".into() }]);
    }

    #[test]
    fn without_anything_there_is_no_chart() {
        assert_eq!(memory(&[], &[], &[], &Series::default()).expect("no chart"), None);
    }

    #[test]
    fn the_fullest_device_of_a_moment_counts() {
        let at = |second: u32| moment(&format!("2026-11-25T10:00:{second:02}Z")).expect("a moment");
        let used = [(at(0), 5), (at(0), 9), (at(30), 4)];
        let time = TimeAxis::over(used.map(|(at, _)| at)).expect("moments");
        assert_eq!(fullest(&used, &time), [(0.0, 9), (30.0, 4)]);
    }
}
