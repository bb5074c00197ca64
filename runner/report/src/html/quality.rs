//! Tables of retrieval quality with bars.

use crds::summary::{ListQuality, ProcessingSummary, Quality};

use super::scope::scoped;
use crate::{facts, format::score};

/// The quality of the candidate lists of a collection.
pub struct QualityGroup<'a> {
    /// The collection; empty if the run has only one.
    pub scope: &'a str,
    pub judged: String,
    pub metrics: Vec<&'a str>,
    pub rows: Vec<QualityRow<'a>>,
}

pub struct QualityRow<'a> {
    pub stage: &'a str,
    pub model: &'a str,
    /// One per metric; `None` if the list does not have it.
    pub cells: Vec<Option<Bar>>,
}

/// A value between 0 and 1 with the length of its bar.
pub struct Bar {
    pub text: String,
    pub percent: String,
}

/// The quality of every collection, or that of the run itself if no collection has one.
pub fn qualities<'a>(run: &'a ProcessingSummary, collections: &'a [ProcessingSummary]) -> Vec<QualityGroup<'a>> {
    let group = |(scope, quality): (&'a str, &'a Quality)| {
        let metrics = facts::metric_names(quality);
        let bar = |value: &f64| Bar { text: score(*value), percent: format!("{:.1}", value.clamp(0.0, 1.0) * 100.0) };
        let row = |list: &'a ListQuality| QualityRow {
            stage: &list.stage,
            model: list.model.as_deref().unwrap_or(""),
            cells: metrics.iter().map(|name| list.metrics.get(*name).map(bar)).collect(),
        };
        QualityGroup {
            scope,
            judged: facts::judged_queries(quality),
            rows: quality.lists.iter().map(row).collect(),
            metrics,
        }
    };
    let own = run.quality.iter().map(|quality| ("", quality));
    let of_collections =
        scoped(run, collections).filter_map(|(scope, summary)| Some((scope, summary.quality.as_ref()?)));
    let of_collections: Vec<_> = of_collections.collect();
    let all = if of_collections.is_empty() { own.collect() } else { of_collections };
    all.into_iter().filter(|(_, quality)| !quality.lists.is_empty()).map(group).collect()
}
