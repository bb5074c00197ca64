//! A summary as one HTML file that needs nothing else: no script, no font, no request.

use askama::Template;
use crds::summary::{Example, LeaseEvent, MitigationEvent, ProcessingSummary, Quality, Sample};

use crate::{
    Error, chart,
    chart::{Figure, Series},
    facts::{self, Toggle},
    format::{bytes, count, counted, part, score, seconds, share, short},
    table::Table,
};

/// The report of a run; `collections` are the summaries of its collections, which have what that of the run leaves to
/// them. Without them the report is that of `run` alone, which may then be a collection.
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
    leases_left_out: Option<String>,
    toggles: Vec<Toggle>,
    used: String,
    size: String,
    files: Table,
    files_left_out: Option<String>,
    collections: Table,
    spans: Table,
    metrics: Table,
}

/// The state of the run in a word or two.
struct Chip {
    class: &'static str,
    text: String,
}

/// A figure that counts.
struct Tile {
    label: &'static str,
    value: String,
    note: String,
}

/// The lengths of the texts as a model sees them.
struct Histogram {
    model: String,
    svg: String,
    note: String,
}

/// The quality of the lists of a collection.
struct QualityGroup<'a> {
    /// The collection; empty where there is only one.
    scope: &'a str,
    judged: String,
    metrics: Vec<&'a str>,
    rows: Vec<QualityRow<'a>>,
}

struct QualityRow<'a> {
    stage: &'a str,
    model: &'a str,
    /// One for each metric.
    cells: Vec<Option<Bar>>,
}

/// A value between 0 and 1 with the length of its bar.
struct Bar {
    text: String,
    percent: String,
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
            leases_left_out: facts::leases_left_out(&events.leases),
            toggles: facts::toggles(&run.feature_toggles),
            used: if run.device_run.used.is_empty() { "none".into() } else { run.device_run.used.join(", ") },
            size: size(run),
            files: facts::files(&run.export_run),
            files_left_out: facts::files_left_out(&run.export_run),
            collections: facts::collections(run),
            spans: facts::spans(run),
            metrics: facts::metric_values(run),
        })
    }
}

/// What happened when. The summary of a run leaves the samples to those of its collections.
struct Events<'a> {
    samples: Vec<&'a Sample>,
    leases: Vec<&'a LeaseEvent>,
    mitigations: Vec<&'a MitigationEvent>,
}

impl<'a> Events<'a> {
    fn of(run: &'a ProcessingSummary, collections: &'a [ProcessingSummary]) -> Self {
        Self {
            samples: own_or_all(run, collections, |summary| &summary.telemetry.samples),
            leases: own_or_all(run, collections, |summary| &summary.telemetry.lease_events),
            mitigations: own_or_all(run, collections, |summary| &summary.telemetry.mitigation_events),
        }
    }

    /// The models of the run in the order of the spec, then any other that an event names.
    fn series(&self, run: &ProcessingSummary) -> Series {
        let mut series = Series::default();
        let dense = run.dense_run.passes.iter().map(|pass| ("dense", &pass.model));
        let sparse = run.sparse_run.passes.iter().map(|pass| ("sparse", &pass.model));
        let rerank = run.rerank_run.model.iter().map(|model| ("rerank", &model.model));
        let leases = self.leases.iter().map(|lease| (lease.stage.as_str(), &lease.model));
        let samples = self.samples.iter().map(|sample| (sample.stage.as_str(), &sample.model));
        for (stage, model) in dense.chain(sparse).chain(rerank).chain(leases).chain(samples) {
            series.index(stage, model);
        }
        series
    }
}

/// What the run has, or else what its collections have.
fn own_or_all<'a, T>(
    run: &'a ProcessingSummary,
    collections: &'a [ProcessingSummary],
    of: impl Fn(&'a ProcessingSummary) -> &'a Vec<T>,
) -> Vec<&'a T> {
    let own = of(run);
    if own.is_empty() { collections.iter().flat_map(of).collect() } else { own.iter().collect() }
}

/// The summaries that have what belongs to a collection, with its name where there are several.
fn scoped<'a>(
    run: &'a ProcessingSummary,
    collections: &'a [ProcessingSummary],
) -> impl Iterator<Item = (&'a str, &'a ProcessingSummary)> {
    let summaries = if collections.is_empty() { std::slice::from_ref(run) } else { collections };
    let several = summaries.len() > 1;
    summaries.iter().map(move |summary| (summary.collection.as_deref().filter(|_| several).unwrap_or(""), summary))
}

fn chips(run: &ProcessingSummary, fallbacks: usize) -> Vec<Chip> {
    let (class, text) = match &run.gate {
        Some(gate) if gate.passed => ("good", "Gate passed".to_owned()),
        Some(_) => ("bad", "Held back by the gate".to_owned()),
        None => ("plain", "No gate".to_owned()),
    };
    let fallbacks = match fallbacks {
        0 => Chip { class: "good", text: "No fallback".into() },
        some => Chip { class: "warn", text: counted(some as u64, "fallback", "fallbacks") },
    };
    let warnings = match run.warnings.len() {
        0 => Chip { class: "good", text: "No warning".into() },
        some => Chip { class: "warn", text: counted(some as u64, "warning", "warnings") },
    };
    vec![Chip { class, text }, fallbacks, warnings]
}

fn tiles(run: &ProcessingSummary) -> Vec<Tile> {
    let passes = &run.dense_run.passes;
    let chunks: u64 = passes.iter().map(|pass| pass.chunks).sum();
    let cut: u64 = passes.iter().map(|pass| pass.truncated_chunks).sum();
    let cut_share = if chunks > 0 { share(cut as f64 / chunks as f64) } else { "–".into() };
    let skipped = match run.skipped_chunks {
        0 => "none left out".into(),
        skipped => format!("{} without text left out", count(skipped)),
    };
    let tile = |label, value, note| Tile { label, value, note };
    let mut tiles = vec![
        tile("Chunks", short(run.chunk_count), skipped),
        tile("Tokens", short(passes.iter().map(|pass| pass.tokens).sum()), "of the dense passes".into()),
        tile(
            "Tokens a second",
            facts::tokens_per_second(run),
            format!("{} of passes", seconds(passes.iter().map(|pass| pass.seconds).sum())),
        ),
        tile("Cut", cut_share, "of the chunks of a pass".into()),
    ];
    if run.sparse_run.enabled {
        let coverage = run.sparse_run.coverage.map_or_else(|| "–".into(), share);
        tiles.push(tile("Sparse coverage", coverage, "of the rows by a model".into()));
    }
    tiles.push(tile(
        "Written",
        bytes(run.export_run.total_bytes),
        counted(run.export_run.files.len() as u64, "file", "files"),
    ));
    tiles
}

fn size(run: &ProcessingSummary) -> String {
    let files = counted(run.export_run.files.len() as u64, "file", "files");
    format!("{} in {files}", bytes(run.export_run.total_bytes))
}

fn histograms(run: &ProcessingSummary) -> Result<Vec<Histogram>, Error> {
    let passes = run.dense_run.passes.iter().filter(|pass| !pass.token_lengths.is_empty());
    let histogram = |pass: &crds::summary::DensePass| {
        let note = match pass.truncated_chunks {
            0 => format!("Every chunk fits into {} tokens.", count(pass.max_tokens.into())),
            cut => format!(
                "{} of {} chunks are longer than {} tokens and were cut.",
                part(cut, pass.chunks),
                count(pass.chunks),
                count(pass.max_tokens.into())
            ),
        };
        Ok(Histogram { model: pass.model.clone(), svg: chart::lengths(pass)?, note })
    };
    passes.map(histogram).collect()
}

fn qualities<'a>(run: &'a ProcessingSummary, collections: &'a [ProcessingSummary]) -> Vec<QualityGroup<'a>> {
    let group = |(scope, quality): (&'a str, &'a Quality)| {
        let metrics = facts::metrics(quality);
        let bar = |value: &f64| Bar { text: score(*value), percent: format!("{:.1}", value.clamp(0.0, 1.0) * 100.0) };
        let row = |list: &'a crds::summary::ListQuality| QualityRow {
            stage: &list.stage,
            model: list.model.as_deref().unwrap_or(""),
            cells: metrics.iter().map(|name| list.metrics.get(*name).map(bar)).collect(),
        };
        QualityGroup { scope, judged: facts::judged(quality), rows: quality.lists.iter().map(row).collect(), metrics }
    };
    let own = run.quality.iter().map(|quality| ("", quality));
    let of_collections =
        scoped(run, collections).filter_map(|(scope, summary)| Some((scope, summary.quality.as_ref()?)));
    let of_collections: Vec<_> = of_collections.collect();
    let all = if of_collections.is_empty() { own.collect() } else { of_collections };
    all.into_iter().filter(|(_, quality)| !quality.lists.is_empty()).map(group).collect()
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
    fn whatever_a_text_is_it_adds_no_element() {
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
    fn nothing_is_asked_of_anyone() {
        let html = full();
        for reference in ["src=", "href=", "url(", "@import", "<link", "<script"] {
            assert!(!html.contains(reference), "{reference}");
        }
        // The one address is the name of a vocabulary.
        assert_eq!(
            html.matches("http").count(),
            html.matches("http-equiv").count() + html.matches("http://www.w3.org/2000/svg").count()
        );
    }

    #[test]
    fn what_was_not_done_is_said() {
        let html = html(&sample::empty(), &[]).expect("a report");
        for sentence in [
            "No model was run.",
            "No lengths were counted.",
            "No samples were taken.",
            "No lease was recorded.",
            "No use of memory was recorded.",
            "Every stage did what was asked.",
            "No judgements are given, so nothing was measured.",
            "No queries were asked.",
            "Nothing was written.",
        ] {
            assert!(html.contains(sentence), "{sentence}");
        }
        assert!(!html.contains("<svg"));
    }

    #[test]
    fn a_full_summary_has_its_charts_and_its_rows() {
        let html = full();
        // Two histograms, and three charts in two widths.
        assert_eq!(html.matches("<svg").count(), 2 + 3 * 2);
        for text in
            ["ndcg@10", "Held back by the gate", "3 fallbacks", "DeviceFallback", "bge-large", "EMBEDDER_ENABLE_RERANK"]
        {
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
    fn collections_are_named_where_there_are_several() {
        let (mut first, mut second) = (sample::collection(), sample::collection());
        first.collection = Some("first-collection".into());
        second.collection = Some("second-collection".into());
        let html = html(&sample::run(), &[first, second]).expect("a report");
        assert_eq!((html.matches("first-collection").count(), html.matches("second-collection").count()), (2, 2));
    }
}
