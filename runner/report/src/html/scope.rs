//! The collections of a report, and the names that tell them apart.

use crds::summary::ProcessingSummary;

/// The summaries of the collections, or of the run if there are none. Each has its name if there are several, otherwise
/// an empty one.
pub fn scoped<'a>(
    run: &'a ProcessingSummary,
    collections: &'a [ProcessingSummary],
) -> impl Iterator<Item = (&'a str, &'a ProcessingSummary)> {
    let summaries = if collections.is_empty() { std::slice::from_ref(run) } else { collections };
    let several = summaries.len() > 1;
    summaries.iter().map(move |summary| (summary.collection.as_deref().filter(|_| several).unwrap_or(""), summary))
}
