//! The histogram of token lengths, and the limit above which a model truncates.

use crds::summary::{DensePass, LengthBucket};
use plotters::prelude::*;

use super::{
    canvas::{Axes, headroom, svg},
    palette::{INK, LIMIT, TRUNCATED},
    series::Series,
};
use crate::{error::Error, format::axis};

const SIZE: (u32, u32) = (360, 190);

/// One bar per bucket with chunks; all bars have the same width, whatever range a bucket spans. A line marks the limit of
/// the model.
pub fn lengths(pass: &DensePass) -> Result<String, Error> {
    let buckets = &pass.token_lengths;
    let highest = buckets.iter().map(|bucket| bucket.chunks).max().unwrap_or(0) as f64;
    let limit = limit_position(buckets, pass.max_tokens);
    let edge = |x: f64| edge_label(buckets, x);
    let axes =
        Axes { x: 0.0..buckets.len().max(1) as f64, y: 0.0..headroom(highest), x_tick: &edge, y_tick: Some(&axis) };
    svg(SIZE, &axes, |canvas| {
        let bars = buckets.iter().enumerate().filter(|(_, bucket)| bucket.chunks > 0);
        canvas.draw_series(bars.map(|(index, bucket)| {
            let left = index as f64;
            let colour = if limit.is_some_and(|limit| left >= limit) { TRUNCATED } else { Series::colour(0) };
            Rectangle::new([(left + 0.06, bucket.chunks as f64), (left + 0.94, 0.0)], colour.filled())
        }))?;
        if let Some(limit) = limit {
            canvas.draw_series([PathElement::new([(limit, 0.0), (limit, headroom(highest))], LIMIT)])?;
        }
        canvas.draw_series([PathElement::new([(0.0, 0.0), (buckets.len() as f64, 0.0)], INK)])?;
        Ok(())
    })
}

/// The position of the limit on the axis; `None` if every bucket ends before it.
fn limit_position(buckets: &[LengthBucket], max_tokens: u32) -> Option<f64> {
    let index = buckets.iter().position(|bucket| bucket.up_to >= max_tokens)?;
    let begin = index.checked_sub(1).map_or(0, |before| buckets[before].up_to);
    let width = f64::from(buckets[index].up_to.saturating_sub(begin)).max(1.0);
    let inside = f64::from(max_tokens.saturating_sub(begin)) / width;
    let position = index as f64 + inside;
    (position < buckets.len() as f64).then_some(position)
}

/// The label of a tick: bars lie between ticks, so a tick is the largest length of the bar to its left.
fn edge_label(buckets: &[LengthBucket], x: f64) -> String {
    let edge = x.round();
    if (x - edge).abs() > 1e-6 || edge < 0.0 {
        return String::new();
    }
    match (edge as usize).checked_sub(1) {
        None => "0".into(),
        Some(left) => buckets
            .get(left)
            .map(|bucket| bucket.up_to)
            .map_or_else(String::new, |up_to| if up_to == u32::MAX { "∞".into() } else { up_to.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets() -> Vec<LengthBucket> {
        [(64, 5), (128, 9), (256, 0), (512, 2)].map(|(up_to, chunks)| LengthBucket { up_to, chunks }).into()
    }

    #[test]
    fn the_limit_lies_on_an_edge_or_inside_a_bucket() {
        let buckets = buckets();
        assert_eq!(limit_position(&buckets, 128), Some(2.0));
        assert_eq!(limit_position(&buckets, 192), Some(2.5));
        assert_eq!(limit_position(&buckets, 512), None);
        assert_eq!(limit_position(&buckets, 1024), None);
    }

    #[test]
    fn ticks_are_labelled_with_the_edges() {
        let buckets = buckets();
        let labels: Vec<String> = [0.0, 1.0, 1.5, 4.0, 5.0].map(|x| edge_label(&buckets, x)).into();
        assert_eq!(labels, ["0", "64", "", "512", ""]);
    }

    #[test]
    fn every_bucket_with_chunks_is_a_bar() {
        let mut pass = crate::sample::run().dense_run.passes[0].clone();
        pass.token_lengths = buckets();
        pass.max_tokens = 128;
        let svg = lengths(&pass).expect("a chart");
        assert_eq!((svg.matches("fill=\"#2A78D6\"").count(), svg.matches("fill=\"#EC835A\"").count()), (2, 1));
        assert_eq!(svg.matches("stroke=\"#D03B3B\"").count(), 1);
    }
}
