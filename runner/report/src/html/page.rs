//! The page: the template's data, and its rendering.

use askama::Template;
use crds::summary::{Example, ProcessingSummary};

use super::{
    events::Events,
    histograms::{Histogram, histograms},
    overview::{Chip, Tile, chips, tiles},
    quality::{QualityGroup, qualities},
    scope::scoped,
};
use crate::{
    chart::{self, Figure},
    error::Error,
    facts::{self, Toggle},
    table::Table,
};

/// The report of a run. `collections` are the summaries of its collections, which have the samples, examples and metrics
/// that the summary of the run omits. Without them the report shows `run` alone, which may be the summary of a collection.
///
/// # Errors
/// If a chart or the page cannot be rendered.
pub fn html(run: &ProcessingSummary, collections: &[ProcessingSummary]) -> Result<String, Error> {
    Ok(Page::new(run, collections)?.render()?)
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    summary: &'a ProcessingSummary,
    title: String,
    chips: Vec<Chip>,
    tiles: Vec<Tile>,
    gate: Option<(bool, String)>,
    fallbacks: Table,
    qualities: Vec<QualityGroup<'a>>,
    examples: Vec<(&'a str, &'a [Example])>,
    dense: Table,
    models: Table,
    histograms: Vec<Histogram>,
    sparse_outcome: String,
    sparse: Table,
    fusion: Vec<(&'static str, String)>,
    rerank_outcome: String,
    rerank: Vec<(&'static str, String)>,
    throughput: Option<Figure>,
    timeline: Option<Figure>,
    memory: Option<Figure>,
    leases: Table,
    omitted_leases: Option<String>,
    toggles: Vec<Toggle>,
    devices_used: String,
    size: String,
    files: Table,
    omitted_files: Option<String>,
    collections: Table,
    spans: Table,
    metrics: Table,
}

impl<'a> Page<'a> {
    fn new(run: &'a ProcessingSummary, collections: &'a [ProcessingSummary]) -> Result<Self, Error> {
        let events = Events::of(run, collections);
        let series = events.series(run);
        let fallbacks = facts::fallbacks(run);
        let name = if run.run.name.is_empty() { "run" } else { &run.run.name };
        Ok(Self {
            summary: run,
            title: run
                .collection
                .as_ref()
                .map_or_else(|| name.to_owned(), |collection| format!("{name} / {collection}")),
            chips: chips(run, fallbacks.rows.len()),
            tiles: tiles(run),
            gate: run.gate.as_ref().map(|gate| (gate.passed, facts::gate(gate))),
            fallbacks,
            qualities: qualities(run, collections),
            examples: scoped(run, collections)
                .map(|(scope, summary)| (scope, summary.examples.as_slice()))
                .filter(|(_, examples)| !examples.is_empty())
                .collect(),
            dense: facts::dense(run),
            models: facts::models(run),
            histograms: histograms(run)?,
            sparse_outcome: facts::sparse_outcome(&run.sparse_run),
            sparse: facts::sparse(&run.sparse_run),
            fusion: run.fusion_run.as_ref().map(facts::fusion).unwrap_or_default(),
            rerank_outcome: facts::rerank_outcome(&run.rerank_run),
            rerank: if run.rerank_run.enabled { facts::rerank(&run.rerank_run) } else { Vec::new() },
            throughput: chart::throughput(&events.samples, &series)?,
            timeline: chart::timeline(&events.leases, &series)?,
            memory: chart::memory(&events.samples, &events.leases, &events.mitigations, &series)?,
            leases: facts::leases(&events.leases),
            omitted_leases: facts::omitted_leases(&events.leases),
            toggles: facts::toggles(&run.feature_toggles),
            devices_used: facts::devices_used(&run.device_run),
            size: facts::export_size(&run.export_run),
            files: facts::files(&run.export_run),
            omitted_files: facts::omitted_files(&run.export_run),
            collections: facts::collections(run),
            spans: facts::spans(run),
            metrics: facts::metric_values(run),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    const SCRIPT: &str = "</td></style><script>alert(1)</script><img src=x onerror='alert(2)'>\"'&";

    fn full() -> String {
        html(&sample::run(), &[sample::collection()]).expect("a report")
    }

    #[test]
    fn no_text_of_a_summary_adds_an_element() {
        let plain = html(&sample::hostile("plain"), &[sample::hostile("plain")]).expect("a report");
        let hostile = html(&sample::hostile(SCRIPT), &[sample::hostile(SCRIPT)]).expect("a report");
        assert!(!hostile.contains("<script") && !hostile.contains("<img"), "{hostile}");
        assert_eq!(hostile.matches('<').count(), plain.matches('<').count());
        assert!(hostile.matches("&#60;script&#62;").count() > 20);
    }

    #[test]
    fn every_text_of_a_summary_is_shown() {
        let marked = sample::marked();
        let html = html(&marked.summary, std::slice::from_ref(&marked.summary)).expect("a report");
        assert!(marked.texts.len() > 90, "{}", marked.texts.len());
        let missing: Vec<_> = marked.texts.iter().filter(|text| !html.contains(text.as_str())).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn the_page_loads_nothing() {
        let html = full();
        for reference in ["src=", "href=", "url(", "@import", "<link", "<script"] {
            assert!(!html.contains(reference), "{reference}");
        }
        // The only URL is an XML namespace.
        assert_eq!(
            html.matches("http").count(),
            html.matches("http-equiv").count() + html.matches("http://www.w3.org/2000/svg").count()
        );
    }

    #[test]
    fn a_stage_that_did_not_run_says_so() {
        let html = html(&sample::empty(), &[]).expect("a report");
        for sentence in [
            "No dense model ran.",
            "No token lengths were recorded.",
            "No throughput was recorded.",
            "No device leases were recorded.",
            "No memory use was recorded.",
            "None: every stage ran as requested.",
            "Not measured: the queries have no relevance judgements.",
            "No example queries were run.",
            "No files were written.",
        ] {
            assert!(html.contains(sentence), "{sentence}");
        }
        assert!(!html.contains("<svg"));
    }

    #[test]
    fn a_full_summary_has_all_charts_and_rows() {
        let html = full();
        // Two histograms, and three charts in two widths.
        assert_eq!(html.matches("<svg").count(), 2 + 3 * 2);
        for text in ["ndcg@10", "Gate failed", "3 fallbacks", "DeviceFallback", "bge-large", "EMBEDDER_ENABLE_RERANK"] {
            assert!(html.contains(text), "{text}");
        }
    }

    #[test]
    fn a_collection_alone_has_a_report() {
        let html = html(&sample::collection(), &[]).expect("a report");
        assert!(html.contains("<h1>handbook / guides</h1>"), "{html}");
        assert!(html.contains("<svg"));
    }

    #[test]
    fn several_collections_are_named() {
        let (mut first, mut second) = (sample::collection(), sample::collection());
        first.collection = Some("first-collection".into());
        second.collection = Some("second-collection".into());
        let html = html(&sample::run(), &[first, second]).expect("a report");
        assert_eq!((html.matches("first-collection").count(), html.matches("second-collection").count()), (2, 2));
    }
}
