//! Tokens per second over time, by model.

use crds::summary::Sample;
use jiff::SignedDuration;
use plotters::prelude::*;

use super::{
    canvas::{Axes, headroom, svg},
    figure::Figure,
    series::Series,
    time::{TimeAxis, moment, unreadable_times},
};
use crate::{error::Error, format::axis};

const HEIGHT: u32 = 240;
/// More bins would be narrower than a line.
const MAX_BINS: usize = 120;

/// One step line per model, summed over shards that run in parallel. `None` if there are no samples.
pub fn throughput(samples: &[&Sample], series: &Series) -> Result<Option<Figure>, Error> {
    let spans: Vec<Span> = samples.iter().filter_map(|sample| Span::of(sample, series)).collect();
    let moments: Vec<_> = spans.iter().flat_map(|span| [span.begin, span.end]).collect();
    let Some(time) = TimeAxis::over(moments) else { return Ok(None) };
    let bins = spans.len().clamp(1, MAX_BINS);
    let rates: Vec<Vec<Option<f64>>> =
        (0..series.len()).map(|index| rates(spans.iter().filter(|span| span.series == index), &time, bins)).collect();
    let highest = rates.iter().flatten().flatten().copied().fold(0.0, f64::max);
    let width = time.end / bins as f64;
    let draw = |pixels| {
        let axes = Axes { x: 0.0..time.end, y: 0.0..headroom(highest), x_tick: &axis, y_tick: Some(&axis) };
        svg((pixels, HEIGHT), &axes, |canvas| {
            for (index, rates) in rates.iter().enumerate() {
                let colour = Series::colour(index);
                for steps in stretches(rates, width) {
                    let mut area = steps.clone();
                    area.push((steps[steps.len() - 1].0, 0.0));
                    area.insert(0, (steps[0].0, 0.0));
                    canvas.draw_series([Polygon::new(area, colour.mix(0.14))])?;
                    canvas.draw_series([PathElement::new(steps, colour.stroke_width(2))])?;
                }
            }
            Ok(())
        })
    };
    let mut figure = Figure::drawn(time.title(), draw)?;
    figure.legend = series.legend(|index| rates[index].iter().any(Option::is_some));
    figure.notes.extend(unreadable_times(samples.len() - spans.len()));
    Ok(Some(figure))
}

/// A sample with parsed times.
struct Span {
    series: usize,
    begin: jiff::Timestamp,
    end: jiff::Timestamp,
    tokens: f64,
}

impl Span {
    fn of(sample: &Sample, series: &Series) -> Option<Self> {
        let end = moment(&sample.at)?;
        let duration = SignedDuration::from_millis(i64::try_from(sample.millis).ok()?.max(1));
        let begin = end.checked_sub(duration).ok()?;
        let series = series.find(&sample.stage, &sample.model)?;
        Some(Self { series, begin, end, tokens: sample.tokens as f64 })
    }
}

/// Tokens per second in every bin; `None` for a bin without samples. The tokens of a sample are spread evenly over its
/// time.
fn rates<'a>(spans: impl Iterator<Item = &'a Span>, time: &TimeAxis, bins: usize) -> Vec<Option<f64>> {
    let width = time.end / bins as f64;
    let mut rates = vec![None; bins];
    for span in spans {
        let (begin, end) = (time.at(span.begin), time.at(span.end));
        let first = ((begin / width) as usize).min(bins - 1);
        let last = ((end / width).ceil() as usize).clamp(first + 1, bins);
        for (bin, rate) in rates.iter_mut().enumerate().take(last).skip(first) {
            let overlap = end.min((bin + 1) as f64 * width) - begin.max(bin as f64 * width);
            // The edges of neighbours coincide up to rounding.
            if overlap > width * 1e-9 {
                let tokens = span.tokens * overlap / (end - begin);
                *rate = Some(rate.unwrap_or(0.0) + tokens / time.seconds(width));
            }
        }
    }
    rates
}

/// The steps of every run of bins without a gap.
fn stretches(rates: &[Option<f64>], width: f64) -> Vec<Vec<(f64, f64)>> {
    let mut stretches: Vec<Vec<(f64, f64)>> = Vec::new();
    let mut open = false;
    for (bin, rate) in rates.iter().enumerate() {
        if let Some(rate) = rate {
            if !open {
                stretches.push(Vec::new());
            }
            let steps = stretches.last_mut().expect("a stretch is open");
            steps.extend([(bin as f64 * width, *rate), ((bin + 1) as f64 * width, *rate)]);
        }
        open = rate.is_some();
    }
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: &str, millis: u64, tokens: u64) -> Sample {
        let (stage, model) = ("dense".to_owned(), "minilm".to_owned());
        Sample { shard: Some(0), stage, model, at: at.into(), millis, tokens, used_bytes: 0 }
    }

    fn series() -> Series {
        let mut series = Series::default();
        series.index("dense", "minilm");
        series
    }

    fn binned(samples: &[Sample], bins: usize) -> Vec<Option<f64>> {
        let spans: Vec<Span> = samples.iter().filter_map(|sample| Span::of(sample, &series())).collect();
        let moments: Vec<_> = spans.iter().flat_map(|span| [span.begin, span.end]).collect();
        rates(spans.iter(), &TimeAxis::over(moments).expect("moments"), bins)
    }

    #[test]
    fn tokens_are_spread_over_the_time_of_their_sample() {
        let samples = [sample("2026-11-25T10:00:04Z", 4000, 400), sample("2026-11-25T10:00:08Z", 4000, 800)];
        assert_eq!(binned(&samples, 4), [Some(100.0), Some(100.0), Some(200.0), Some(200.0)]);
    }

    #[test]
    fn parallel_shards_are_summed_and_a_pause_is_a_gap() {
        let samples = [
            sample("2026-11-25T10:00:02Z", 2000, 200),
            sample("2026-11-25T10:00:02Z", 2000, 300),
            sample("2026-11-25T10:00:06Z", 2000, 200),
        ];
        let rates = binned(&samples, 3);
        assert_eq!(rates, [Some(250.0), None, Some(100.0)]);
        assert_eq!(stretches(&rates, 2.0), [vec![(0.0, 250.0), (2.0, 250.0)], vec![(4.0, 100.0), (6.0, 100.0)]]);
    }

    #[test]
    fn without_samples_there_is_no_chart_and_unreadable_times_are_noted() {
        assert_eq!(throughput(&[], &series()).expect("no chart"), None);
        let (good, bad) = (sample("2026-11-25T10:00:02Z", 2000, 200), sample("noon", 1, 1));
        let figure = throughput(&[&good, &bad], &series()).expect("a chart").expect("a chart");
        assert_eq!(figure.notes, ["Not in the chart: 1 event with an unreadable time."]);
        assert_eq!(figure.legend.len(), 1);
    }
}
