//! Memory in use over time, with the ceiling.

use crds::summary::{LeaseEvent, MitigationEvent, MitigationKind, Sample};
use jiff::Timestamp;
use plotters::prelude::*;

use super::{
    canvas::{Axes, headroom, svg},
    figure::Figure,
    lease_span::LeaseSpan,
    palette::{INK, LIMIT, RECOVERED, TRUNCATED},
    series::{LegendEntry, Series},
    time::{TimeAxis, moment, unreadable_times},
};
use crate::{
    error::Error,
    format::{axis, byte_unit, bytes, counted},
};

const HEIGHT: u32 = 240;
const MAX_BINS: usize = 240;

/// Memory in use, the peaks of the leases, changes of the batch size under memory pressure, and the ceiling. `None` if the
/// summary has none of these.
pub fn memory(
    samples: &[&Sample],
    leases: &[&LeaseEvent],
    mitigations: &[&MitigationEvent],
    series: &Series,
) -> Result<Option<Figure>, Error> {
    let used: Vec<(Timestamp, u64)> =
        samples.iter().filter_map(|sample| Some((moment(&sample.at)?, sample.used_bytes))).collect();
    let peaks: Vec<LeaseSpan> = leases.iter().filter_map(|lease| LeaseSpan::of(lease, series)).collect();
    let events: Vec<(Timestamp, &MitigationEvent)> =
        mitigations.iter().filter_map(|event| Some((moment(&event.at)?, *event))).collect();
    let moments: Vec<_> = used
        .iter()
        .map(|(at, _)| *at)
        .chain(peaks.iter().flat_map(|peak| [peak.acquired, peak.released]))
        .chain(events.iter().map(|(at, _)| *at))
        .collect();
    let Some(time) = TimeAxis::over(moments) else { return Ok(None) };
    let ceilings = ceilings(mitigations);
    let highest = used
        .iter()
        .map(|(_, used)| *used)
        .chain(peaks.iter().map(|peak| peak.peak_bytes))
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
                let (left, right) = (time.at(peak.acquired), time.at(peak.released));
                let top = scaled(peak.peak_bytes);
                let (colour, right) = (Series::colour(peak.series), right.max(left + least));
                canvas.draw_series([Rectangle::new([(left, top), (right, 0.0)], colour.mix(0.14).filled())])?;
                canvas.draw_series([PathElement::new([(left, top), (right, top)], colour.stroke_width(2))])?;
            }
            let points: Vec<_> = line.iter().map(|(at, used)| (*at, scaled(*used))).collect();
            canvas.draw_series([PathElement::new(points, INK.stroke_width(2))])?;
            canvas.draw_series(events.iter().map(|(at, event)| {
                let colour = if event.kind == MitigationKind::Recover { RECOVERED } else { TRUNCATED };
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
    figure.legend.extend(mark_entries(!used.is_empty(), &ceilings, mitigations));
    figure.notes = notes(&ceilings, mitigations);
    let shown = used.len() + peaks.len() + events.len();
    figure.notes.extend(unreadable_times(samples.len() + leases.len() + mitigations.len() - shown));
    Ok(Some(figure))
}

/// The different ceilings of the mitigations.
fn ceilings(mitigations: &[&MitigationEvent]) -> Vec<u64> {
    let mut ceilings: Vec<u64> =
        mitigations.iter().map(|event| event.ceiling_bytes).filter(|ceiling| *ceiling > 0).collect();
    ceilings.sort_unstable();
    ceilings.dedup();
    ceilings
}

/// The fullest device of every bin, at the time of its largest sample. The ceiling applies to each device alone.
fn fullest(used: &[(Timestamp, u64)], time: &TimeAxis) -> Vec<(f64, u64)> {
    let mut bins: Vec<Option<(f64, u64)>> = vec![None; MAX_BINS];
    for (at, used) in used {
        let at = time.at(*at);
        let bin = ((at / time.end * MAX_BINS as f64) as usize).min(MAX_BINS - 1);
        if bins[bin].is_none_or(|(_, largest)| *used > largest) {
            bins[bin] = Some((at, *used));
        }
    }
    bins.into_iter().flatten().collect()
}

/// The legend entries of the marks other than leases, as far as they are drawn.
fn mark_entries(used: bool, ceilings: &[u64], mitigations: &[&MitigationEvent]) -> Vec<LegendEntry> {
    let recovered = |event: &&MitigationEvent| event.kind == MitigationKind::Recover;
    let entries = [
        (used, "in use on the fullest device", "line"),
        (!ceilings.is_empty(), "ceiling", "limit"),
        (!mitigations.iter().all(recovered), "batch size reduced", "cut"),
        (mitigations.iter().any(recovered), "batch size restored", "recovered"),
    ];
    let drawn = entries.into_iter().filter(|(drawn, _, _)| *drawn);
    drawn.map(|(_, label, class)| LegendEntry { label: label.into(), class: class.into() }).collect()
}

fn notes(ceilings: &[u64], mitigations: &[&MitigationEvent]) -> Vec<String> {
    let of = |kind| mitigations.iter().filter(|event| event.kind == kind).count() as u64;
    let ceiling = match ceilings {
        [] => "No ceiling was recorded: memory pressure never reduced the batch size.".into(),
        ceilings => {
            let sizes: Vec<String> = ceilings.iter().map(|ceiling| bytes(*ceiling)).collect();
            format!("The memory ceiling is {}.", sizes.join(" or "))
        }
    };
    let mut notes = vec![ceiling];
    if !mitigations.is_empty() {
        notes.push(format!(
            "The batch size was reduced {}, a batch was split in halves {}, and the batch size was restored {}.",
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
    fn the_ceiling_is_a_line_and_every_mitigation_a_mark() {
        let telemetry = sample::collection().telemetry;
        let mitigations: Vec<_> = telemetry.mitigation_events.iter().collect();
        let figure = memory(&telemetry.samples.iter().collect::<Vec<_>>(), &[], &mitigations, &Series::default())
            .expect("a chart")
            .expect("a chart");
        assert_eq!(figure.wide.matches("stroke=\"#D03B3B\"").count(), 1);
        assert_eq!(figure.wide.matches("<circle").count(), mitigations.len());
        assert_eq!(figure.notes[0], "The memory ceiling is 12.0 GiB.");
    }

    #[test]
    fn without_memory_pressure_no_ceiling_is_drawn() {
        let telemetry = sample::collection().telemetry;
        let figure = memory(&telemetry.samples.iter().collect::<Vec<_>>(), &[], &[], &Series::default())
            .expect("a chart")
            .expect("a chart");
        assert_eq!(figure.notes, ["No ceiling was recorded: memory pressure never reduced the batch size."]);
        assert!(!figure.wide.contains("#D03B3B"));
        assert_eq!(figure.legend, [LegendEntry { label: "in use on the fullest device".into(), class: "line".into() }]);
    }

    #[test]
    fn without_events_there_is_no_chart() {
        assert_eq!(memory(&[], &[], &[], &Series::default()).expect("no chart"), None);
    }

    #[test]
    fn only_the_fullest_device_of_a_moment_is_drawn() {
        let at = |second: u32| moment(&format!("2026-11-25T10:00:{second:02}Z")).expect("a moment");
        let used = [(at(0), 5), (at(0), 9), (at(30), 4)];
        let time = TimeAxis::over(used.map(|(at, _)| at)).expect("moments");
        assert_eq!(fullest(&used, &time), [(0.0, 9), (30.0, 4)]);
    }
}
