//! The overview at the top of the report: labels and key figures.

use crds::summary::ProcessingSummary;

use crate::{
    facts,
    format::{bytes, count, counted, seconds, share, short},
};

/// A label with the state of one aspect of the run.
pub struct Chip {
    /// A class of the style sheet: `good`, `warn`, `bad` or `plain`.
    pub class: &'static str,
    pub text: String,
}

/// A key figure of the run.
pub struct Tile {
    pub label: &'static str,
    pub value: String,
    pub note: String,
}

/// The labels at the top of the report: gate, fallbacks, warnings.
pub fn chips(run: &ProcessingSummary, fallbacks: usize) -> Vec<Chip> {
    let (class, text) = match &run.gate {
        Some(gate) if gate.passed => ("good", "Gate passed".to_owned()),
        Some(_) => ("bad", "Gate failed".to_owned()),
        None => ("plain", "No gate".to_owned()),
    };
    let fallbacks = match fallbacks {
        0 => Chip { class: "good", text: "No fallbacks".into() },
        some => Chip { class: "warn", text: counted(some as u64, "fallback", "fallbacks") },
    };
    let warnings = match run.warnings.len() {
        0 => Chip { class: "good", text: "No warnings".into() },
        some => Chip { class: "warn", text: counted(some as u64, "warning", "warnings") },
    };
    vec![Chip { class, text }, fallbacks, warnings]
}

/// The key figures at the top of the report.
pub fn tiles(run: &ProcessingSummary) -> Vec<Tile> {
    let passes = &run.dense_run.passes;
    let chunks: u64 = passes.iter().map(|pass| pass.chunks).sum();
    let truncated: u64 = passes.iter().map(|pass| pass.truncated_chunks).sum();
    let truncated_share = if chunks > 0 { share(truncated as f64 / chunks as f64) } else { "–".into() };
    let skipped = match run.skipped_chunks {
        0 => "none skipped".into(),
        skipped => format!("{} without text skipped", count(skipped)),
    };
    let tile = |label, value, note| Tile { label, value, note };
    let mut tiles = vec![
        tile("Chunks", short(run.chunk_count), skipped),
        tile("Tokens", short(passes.iter().map(|pass| pass.tokens).sum()), "in the dense passes".into()),
        tile(
            "Tokens per second",
            facts::tokens_per_second(run),
            format!("in {} of dense passes", seconds(passes.iter().map(|pass| pass.seconds).sum())),
        ),
        tile("Truncated", truncated_share, "of chunks, over all dense passes".into()),
    ];
    if run.sparse_run.enabled {
        let coverage = run.sparse_run.coverage.map_or_else(|| "–".into(), share);
        tiles.push(tile("Sparse coverage", coverage, "of rows have a vector from a model".into()));
    }
    tiles.push(tile(
        "Output size",
        bytes(run.export_run.total_bytes),
        counted(run.export_run.files.len() as u64, "file", "files"),
    ));
    tiles
}
