//! What a summary says, as tables: the same for every form. No layout.

use std::collections::BTreeSet;

use crds::summary::{
    ExportRun, Fallback, FeatureToggles, FusionRun, GateOutcome, LeaseEvent, ProcessingSummary, Quality, QueryOrigin,
    RerankRun, SparseRun,
};

use crate::{
    format::{bytes, count, counted, digest, part, rate, score, seconds, share},
    table::Table,
};

/// More rows than this are told in a sentence: nobody reads a thousand rows, and the summary has them all.
const MOST_ROWS: usize = 200;

/// A toggle with who decided it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toggle {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// The layer that decided it.
    pub layer: String,
    /// The variable, file or field in which the value stands.
    pub source: String,
    /// The value that it would have had, where the layer is not the default.
    pub default: Option<String>,
}

impl Toggle {
    /// `sparse: false (override via env; default true)`.
    pub fn sentence(&self) -> String {
        let Self { key, value, layer, .. } = self;
        match &self.default {
            Some(default) => format!("{key}: {value} (override via {layer}; default {default})"),
            None if self.is_default() => format!("{key}: {value} (default)"),
            None => format!("{key}: {value} (via {layer})"),
        }
    }

    /// Whether nobody said otherwise.
    pub fn is_default(&self) -> bool {
        self.layer == "default"
    }
}

/// Every toggle: the four stages, then whatever else was resolved.
pub fn toggles(toggles: &FeatureToggles) -> Vec<Toggle> {
    let stages = [
        ("exclusive", toggles.exclusive),
        ("sparse", toggles.sparse),
        ("rerank", toggles.rerank),
        ("metrics", toggles.metrics),
    ];
    let mut told: BTreeSet<&str> = stages.iter().map(|(key, _)| *key).collect();
    let others = toggles.provenance.iter().map(|said| said.key.as_str()).filter(|key| told.insert(*key));
    let others: Vec<&str> = others.collect();
    let toggle = |key: &str, value: Option<bool>| {
        let said_by = |layer: &str| toggles.provenance.iter().rfind(|said| said.key == key && said.layer == layer);
        let last = toggles.provenance.iter().rfind(|said| said.key == key);
        let layer = toggles.sources.get(key).cloned().or_else(|| last.map(|said| said.layer.clone()));
        let layer = layer.unwrap_or_else(|| "default".into());
        let default = said_by("default").filter(|_| layer != "default");
        Toggle {
            key: key.to_owned(),
            value: value.map(|value| value.to_string()).or(last.map(|said| said.value.clone())).unwrap_or_default(),
            source: said_by(&layer).map(|said| said.source.clone()).unwrap_or_default(),
            default: default.map(|said| said.value.clone()),
            layer,
        }
    };
    let stages = stages.into_iter().map(|(key, value)| toggle(key, Some(value)));
    stages.chain(others.into_iter().map(|key| toggle(key, None))).collect()
}

/// One row per dense model.
pub fn dense(summary: &ProcessingSummary) -> Table {
    let titles =
        ["model", "#width", "stored", "#chunks", "#tokens", "#tokens/s", "#cut", "#tokens lost", "#time", "#peak"];
    Table::new(titles).of(summary.dense_run.passes.iter().map(|pass| {
        vec![
            pass.model.clone(),
            count(pass.dimensions.into()),
            pass.precision.clone(),
            count(pass.chunks),
            count(pass.tokens),
            rate(pass.tokens, pass.seconds),
            count(pass.truncated_chunks),
            count(pass.tokens_lost),
            seconds(pass.seconds),
            peak(pass.peak_bytes),
        ]
    }))
}

/// Where the models come from and how they were used.
pub fn models(summary: &ProcessingSummary) -> Table {
    let dense = summary.dense_run.passes.iter().map(|pass| {
        let prompt = pass.document_prompt.as_ref().map(|prompt| format!(", before every chunk {prompt:?}"));
        let quantization = pass.quantization.as_ref().map(|how| format!(", {how}"));
        let use_ = format!(
            "{}, {} tokens at most, {}{}{}",
            pass.pooling,
            count(pass.max_tokens.into()),
            pass.dtype,
            quantization.unwrap_or_default(),
            prompt.unwrap_or_default()
        );
        vec![pass.model.clone(), use_, pass.source.clone(), digest(&pass.weights_sha256)]
    });
    let sparse = summary.sparse_run.passes.iter().map(|pass| {
        let kept = pass.top_k.map_or_else(|| "every term".into(), |top| format!("{} terms", count(top.into())));
        let use_ = format!("{kept} above {} of {}, {}", pass.threshold, count(pass.vocabulary.into()), pass.dtype);
        vec![pass.model.clone(), use_, pass.source.clone(), digest(&pass.weights_sha256)]
    });
    let rerank = summary.rerank_run.model.iter().map(|model| {
        let use_ = format!("cross-encoder, {}", model.dtype);
        vec![model.model.clone(), use_, model.source.clone(), digest(&model.weights_sha256)]
    });
    Table::new(["model", "use", "source", "weights"]).of(dense.chain(sparse).chain(rerank))
}

/// One row per sparse model.
pub fn sparse(run: &SparseRun) -> Table {
    let titles =
        ["model", "#chunks", "#by the model", "#by metadata", "#terms/chunk", "#tokens/s", "#cut", "#time", "#peak"];
    Table::new(titles).of(run.passes.iter().map(|pass| {
        let per_chunk = if pass.chunks > 0 { pass.entries as f64 / pass.chunks as f64 } else { 0.0 };
        vec![
            pass.model.clone(),
            count(pass.chunks),
            count(pass.model_chunks),
            count(pass.metadata_chunks),
            format!("{per_chunk:.1}"),
            rate(pass.tokens, pass.seconds),
            count(pass.truncated_chunks),
            seconds(pass.seconds),
            peak(pass.peak_bytes),
        ]
    }))
}

/// What became of the sparse stage, in a sentence.
pub fn sparse_outcome(run: &SparseRun) -> String {
    let outcome = outcome(run.enabled, run.executed, run.fallback.as_ref());
    match run.coverage {
        Some(coverage) => format!("{outcome}; a model made the vector of {} of the rows", share(coverage)),
        None => outcome,
    }
}

/// What became of the rerank stage, in a sentence.
pub fn rerank_outcome(run: &RerankRun) -> String {
    outcome(run.enabled, run.executed, run.fallback.as_ref())
}

fn outcome(enabled: bool, executed: bool, fallback: Option<&Fallback>) -> String {
    match (enabled, executed, fallback) {
        (false, _, None) => "not asked for".into(),
        // By a file or the environment, while the spec gives its model.
        (false, _, Some(fallback)) => format!("switched off ({})", fallback.reason),
        (true, true, None) => "done".into(),
        (true, true, Some(fallback)) => format!("done in part ({})", fallback.reason),
        (true, false, Some(fallback)) => format!("not done ({})", fallback.reason),
        (true, false, None) => "not done".into(),
    }
}

/// The fused vector, by label.
pub fn fusion(run: &FusionRun) -> Vec<(&'static str, String)> {
    let models: Vec<String> =
        run.models.iter().map(|fused| format!("{} {}", fused.model, share(fused.share))).collect();
    vec![
        ("column", run.column.clone()),
        ("method", run.method.clone()),
        ("models", models.join(", ")),
        ("width", count(run.dimensions.into())),
        ("time", seconds(run.seconds)),
    ]
}

/// The rerank stage, by label.
pub fn rerank(run: &RerankRun) -> Vec<(&'static str, String)> {
    let mut facts = vec![("queries", format!("{} from {}", count(run.queries), origin(run.queries_from)))];
    if run.queries_from == QueryOrigin::None {
        facts[0].1 = "none".into();
    }
    facts.extend(run.model.as_ref().map(|model| ("model", model.model.clone())));
    facts.extend(run.device.as_ref().map(|device| match run.device_fallback {
        Some(reason) => ("device", format!("{device} ({reason})")),
        None => ("device", device.clone()),
    }));
    facts.extend(run.candidate_fusion.as_ref().map(|fusion| {
        ("candidates", {
            format!(
                "{} a query by {fusion}, {} are kept",
                count(run.candidates_per_query.into()),
                count(run.top_k.into())
            )
        })
    }));
    if run.executed {
        facts
            .push(("pairs", format!("{} scored, {} were cut", count(run.pairs), part(run.truncated_pairs, run.pairs))));
        let median = run.median_query_seconds.map(|time| format!(", {} a query (median)", seconds(time)));
        let latency = format!("{}{}", seconds(run.seconds), median.unwrap_or_default());
        facts.push(("latency", latency));
    }
    // A cross-encoder and a retriever score on scales of their own: the two stand side by side, not subtracted.
    if let (Some(before), Some(after)) = (run.mean_top_score_before, run.mean_top_score_after) {
        let scores = format!("{} before (retriever), {} after (cross-encoder)", score(before), score(after));
        facts.push(("mean top score", scores));
    }
    facts.extend(run.top_changed.map(|changed| ("another best hit", format!("{} of the queries", share(changed)))));
    facts.extend(run.rankings.as_ref().map(|file| ("rankings", file.clone())));
    facts
}

fn origin(origin: QueryOrigin) -> &'static str {
    match origin {
        QueryOrigin::None => "nowhere",
        QueryOrigin::Spec => "the file of the spec",
        QueryOrigin::Headings => "headings of the collection (no judgements)",
    }
}

/// Every fallback with its reason, source and count.
pub fn fallbacks(summary: &ProcessingSummary) -> Table {
    let row = |stage: &str, fallback: &Fallback, message: Option<&str>| {
        vec![
            stage.to_owned(),
            fallback.reason.to_string(),
            fallback.source.to_string(),
            count(fallback.count),
            message.unwrap_or_default().to_owned(),
        ]
    };
    let device = summary.device_run.fallback_reason.map(|reason| {
        let used = format!("asked for {}, used {}", summary.device_run.requested, summary.device_run.used.join(", "));
        let count = counted(summary.device_run.fallback_count, "time", "times");
        vec!["device".into(), reason.to_string(), "runtime".into(), count, used]
    });
    let dense = summary
        .dense_run
        .fallbacks
        .iter()
        .map(|left| row(&format!("dense, {}", left.model), &left.fallback, Some(&left.message)));
    let sparse = &summary.sparse_run;
    let rerank = &summary.rerank_run;
    let stages = [
        ("sparse", &sparse.fallback, &sparse.fallback_message),
        ("rerank", &rerank.fallback, &rerank.fallback_message),
    ];
    let stages = stages.into_iter().filter_map(|(stage, fallback, message)| {
        fallback.as_ref().map(|fallback| row(stage, fallback, message.as_deref()))
    });
    Table::new(["stage", "reason", "source", "#count", "message"]).of(device.into_iter().chain(dense).chain(stages))
}

/// The metrics that any list has, in a stable order.
pub fn metrics(quality: &Quality) -> Vec<&str> {
    let names: BTreeSet<&str> = quality.lists.iter().flat_map(|list| list.metrics.keys()).map(String::as_str).collect();
    names.into_iter().collect()
}

/// One row per list of candidates.
pub fn quality(quality: &Quality) -> Table {
    let metrics = metrics(quality);
    let titles: Vec<String> =
        ["list", "model"].into_iter().map(str::to_owned).chain(metrics.iter().map(|name| format!("#{name}"))).collect();
    Table::new(titles.iter().map(String::as_str)).of(quality.lists.iter().map(|list| {
        let values =
            metrics.iter().map(|name| list.metrics.get(*name).map_or_else(|| "–".into(), |value| score(*value)));
        [list.stage.clone(), list.model.clone().unwrap_or_default()].into_iter().chain(values).collect()
    }))
}

/// What the judgements are, in a sentence.
pub fn judged(quality: &Quality) -> String {
    let queries = format!("means over {}", counted(quality.judged_queries, "judged query", "judged queries"));
    match quality.unknown_relevant {
        0 => queries,
        unknown => format!(
            "{queries}; the collection does not have {} that are judged relevant",
            counted(unknown, "chunk", "chunks")
        ),
    }
}

/// What the gate said, in a sentence.
pub fn gate(gate: &GateOutcome) -> String {
    let minimum = gate.minimum.map(|minimum| format!("at least {} is asked for", score(minimum)));
    let drop = gate.maximum_drop.map(|drop| match gate.previous {
        Some(previous) => format!("at most {} below the {} of the revision in use", score(drop), score(previous)),
        None => format!("at most {} below the revision in use, of which there is none", score(drop)),
    });
    let asked: Vec<String> = minimum.into_iter().chain(drop).collect();
    let verdict = if gate.passed { "passed" } else { "held back: readers stay on the revision before" };
    let asked = if asked.is_empty() { String::new() } else { format!(" ({})", asked.join("; ")) };
    format!("{verdict}. {} is {}{asked}", gate.metric, score(gate.value))
}

/// The files that count.
pub fn files(export: &ExportRun) -> Table {
    Table::new(["file", "#rows", "#size", "sha256"]).of(export
        .files
        .iter()
        .take(MOST_ROWS)
        .map(|file| vec![file.path.clone(), count(file.rows), bytes(file.bytes), digest(&file.sha256)]))
}

/// What [`files`] leaves out, in a sentence.
pub fn files_left_out(export: &ExportRun) -> Option<String> {
    left_out(export.files.len(), "file", "files")
}

/// Where the summaries of the collections lie.
pub fn collections(summary: &ProcessingSummary) -> Table {
    Table::new(["collection", "#chunks", "summary", "sha256"]).of(summary.collections.iter().map(|pointer| {
        vec![pointer.name.clone(), count(pointer.chunk_count), pointer.summary.clone(), digest(&pointer.sha256)]
    }))
}

/// Which model held which device.
pub fn leases(leases: &[&LeaseEvent]) -> Table {
    let titles =
        ["shard", "stage", "model", "device", "taken", "given back", "memory of", "#before", "#peak", "#after"];
    Table::new(titles).of(leases.iter().take(MOST_ROWS).map(|lease| {
        vec![
            lease.shard.map_or_else(|| "–".into(), |shard| shard.to_string()),
            lease.stage.clone(),
            lease.model.clone(),
            lease.device.clone(),
            lease.acquired_at.clone(),
            lease.released_at.clone(),
            lease.memory_source.clone(),
            bytes(lease.bytes_before),
            bytes(lease.bytes_peak),
            bytes(lease.bytes_after),
        ]
    }))
}

/// What [`leases`] leaves out, in a sentence.
pub fn leases_left_out(leases: &[&LeaseEvent]) -> Option<String> {
    left_out(leases.len(), "lease", "leases")
}

fn left_out(all: usize, one: &str, many: &str) -> Option<String> {
    let more = all.checked_sub(MOST_ROWS).filter(|more| *more > 0)?;
    Some(format!("{} more in the summary", counted(more as u64, one, many)))
}

/// Time per span, and the final values of the metrics.
pub fn spans(summary: &ProcessingSummary) -> Table {
    Table::new(["span", "#count", "#time"]).of(summary
        .telemetry
        .spans
        .iter()
        .map(|span| vec![span.name.clone(), count(span.count), seconds(span.seconds)]))
}

/// The final values of the metrics.
pub fn metric_values(summary: &ProcessingSummary) -> Table {
    Table::new(["metric", "#value"]).of(summary
        .telemetry
        .metrics
        .iter()
        .map(|(name, value)| vec![name.clone(), value.to_string()]))
}

/// Tokens of all passes a second of them.
pub fn tokens_per_second(summary: &ProcessingSummary) -> String {
    let passes = &summary.dense_run.passes;
    rate(passes.iter().map(|pass| pass.tokens).sum(), passes.iter().map(|pass| pass.seconds).sum())
}

fn peak(bytes_: u64) -> String {
    if bytes_ == 0 { "–".into() } else { bytes(bytes_) }
}

#[cfg(test)]
mod tests {
    use crds::summary::ToggleResolution;

    use super::*;
    use crate::sample;

    fn said(key: &str, value: &str, source: &str, layer: &str) -> ToggleResolution {
        ToggleResolution { key: key.into(), value: value.into(), source: source.into(), layer: layer.into() }
    }

    #[test]
    fn a_toggle_says_who_decided_it_and_what_it_would_have_been() {
        let sentences: Vec<String> = toggles(&sample::run().feature_toggles).iter().map(Toggle::sentence).collect();
        assert_eq!(
            sentences,
            [
                "exclusive: true (default)",
                "sparse: true (override via spec; default false)",
                "rerank: true (override via env; default false)",
                "metrics: true (default)",
            ]
        );
    }

    #[test]
    fn a_toggle_that_is_no_stage_is_told_too() {
        let mut toggles_ = sample::run().feature_toggles;
        toggles_.provenance.push(said("sparse_models", "splade", "EMBEDDER_SPARSE_MODELS", "env"));
        let told = toggles(&toggles_);
        assert_eq!(told[4].sentence(), "sparse_models: splade (via env)");
        assert_eq!(told[4].source, "EMBEDDER_SPARSE_MODELS");
    }

    #[test]
    fn every_fallback_is_a_row() {
        let table = fallbacks(&sample::run());
        let told: Vec<_> = table.rows.iter().map(|row| row[..4].join(" | ")).collect();
        assert_eq!(
            told,
            [
                "device | DeviceFallback | runtime | 1 time",
                "dense, bge-large | ModelUnavailable | load | 4",
                "sparse | OutOfMemory | runtime | 137",
            ]
        );
    }

    #[test]
    fn a_stage_that_the_environment_switched_off_is_a_fallback() {
        let mut summary = sample::empty();
        assert_eq!(sparse_outcome(&summary.sparse_run), "not asked for");
        summary.sparse_run.fallback = Some(Fallback {
            reason: crds::v1alpha1::FallbackReason::FeatureDisabled,
            source: crds::v1alpha1::FallbackSource::Toggle,
            count: 1,
        });
        assert_eq!(fallbacks(&summary).rows.len(), 1);
        assert_eq!(sparse_outcome(&summary.sparse_run), "switched off (FeatureDisabled)");
    }

    #[test]
    fn the_gate_says_what_it_asked_for() {
        let outcome = GateOutcome {
            metric: "ndcg@10".into(),
            value: 0.4,
            minimum: Some(0.35),
            maximum_drop: Some(0.02),
            previous: Some(0.43),
            passed: false,
        };
        assert_eq!(
            gate(&outcome),
            "held back: readers stay on the revision before. ndcg@10 is 0.4000 (at least 0.3500 is asked for; at most \
             0.0200 below the 0.4300 of the revision in use)"
        );
    }

    #[test]
    fn long_lists_of_files_are_cut_and_say_so() {
        let mut export = sample::run().export_run;
        let file = export.files[0].clone();
        export.files = vec![file; MOST_ROWS + 2];
        assert_eq!(files(&export).rows.len(), MOST_ROWS);
        assert_eq!(files_left_out(&export).as_deref(), Some("2 files more in the summary"));
        export.files.truncate(MOST_ROWS);
        assert_eq!(files_left_out(&export), None);
    }
}
