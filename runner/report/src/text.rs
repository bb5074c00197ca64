//! A summary as aligned text, for a terminal or a pipe: no colours, no line over 100 characters.

use std::fmt::Write as _;

use crds::summary::ProcessingSummary;

use crate::{
    facts,
    format::{counted, share},
    table::{Table, WIDTH, visible, wrapped},
};

const INDENT: usize = 2;

/// The summary as text. Every line ends with a line break.
pub fn text(summary: &ProcessingSummary) -> String {
    let mut text = Text::default();
    text.head(summary);
    text.toggles(summary);
    text.section("Devices");
    text.devices(summary);
    text.section("Dense");
    text.dense(summary);
    text.section("Sparse");
    text.line(&facts::sparse_outcome(&summary.sparse_run));
    text.table(&facts::sparse(&summary.sparse_run));
    if let Some(fusion) = &summary.fusion_run {
        text.section("Fusion");
        text.facts(facts::fusion(fusion));
    }
    text.section("Rerank");
    text.line(&facts::rerank_outcome(&summary.rerank_run));
    if summary.rerank_run.enabled {
        text.facts(facts::rerank(&summary.rerank_run));
    }
    text.section("Quality");
    text.quality(summary);
    text.section("Fallbacks");
    text.table_or(&facts::fallbacks(summary), "none: every stage ran as requested");
    text.section("Gate");
    text.line(&summary.gate.as_ref().map_or_else(|| "none configured".into(), facts::gate));
    text.section("Files");
    text.files(summary);
    text.section("Warnings");
    text.warnings(summary);
    text.0
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, summary: &ProcessingSummary) {
        let run = &summary.run;
        let name = if run.name.is_empty() { "run" } else { &run.name };
        let namespace = if run.namespace.is_empty() { String::new() } else { format!(" in {}", run.namespace) };
        self.wrap(&format!("{name}{namespace}, revision {}", run.revision), 0);
        if let Some(collection) = &summary.collection {
            self.wrap(&format!("collection {collection}"), 0);
        }
        let skipped = match summary.skipped_chunks {
            0 => String::new(),
            skipped => format!(", {} without text skipped", counted(skipped, "chunk", "chunks")),
        };
        self.wrap(&format!("{} embedded{skipped}", counted(summary.chunk_count, "chunk", "chunks")), 0);
        self.wrap(
            &format!(
                "written {} by embedrun {}, schema {}",
                summary.generated_at, run.runner_version, summary.schema_version
            ),
            0,
        );
    }

    fn toggles(&mut self, summary: &ProcessingSummary) {
        self.section("Feature toggles");
        let rows = facts::toggles(&summary.feature_toggles).into_iter().map(|toggle| {
            let source = if toggle.is_default() { String::new() } else { toggle.source.clone() };
            vec![toggle.sentence(), source]
        });
        self.table(&Table::new(["", ""]).of(rows));
    }

    fn devices(&mut self, summary: &ProcessingSummary) {
        let device = &summary.device_run;
        self.facts(vec![("requested", device.requested.clone()), ("used", facts::devices_used(device))]);
    }

    fn dense(&mut self, summary: &ProcessingSummary) {
        self.table_or(&facts::dense(summary), "no dense model ran");
        for pass in summary.dense_run.passes.iter().filter(|pass| pass.truncated_chunks > 0 && pass.chunks > 0) {
            let truncated = share(pass.truncated_chunks as f64 / pass.chunks as f64);
            self.line(&format!("{}: {truncated} of the chunks are longer than {} tokens", pass.model, pass.max_tokens));
        }
    }

    fn quality(&mut self, summary: &ProcessingSummary) {
        match &summary.quality {
            Some(quality) if !quality.lists.is_empty() => {
                self.line(&facts::judged_queries(quality));
                self.table(&facts::quality(quality));
            }
            _ if !summary.collections.is_empty() => {
                self.line("measured per collection: see the collection summaries");
            }
            _ => self.line("not measured: the queries have no relevance judgements"),
        }
    }

    fn files(&mut self, summary: &ProcessingSummary) {
        let export = &summary.export_run;
        self.facts(vec![("destination", export.destination.clone()), ("size", facts::export_size(export))]);
        self.table(&facts::files(export));
        if let Some(note) = facts::omitted_files(export) {
            self.line(&note);
        }
        self.table(&facts::collections(summary));
    }

    fn warnings(&mut self, summary: &ProcessingSummary) {
        if summary.warnings.is_empty() {
            self.line("none");
        }
        for warning in &summary.warnings {
            self.line(warning);
        }
    }

    fn section(&mut self, title: &str) {
        let _ = write!(self.0, "\n{title}\n");
    }

    fn facts(&mut self, facts: Vec<(&'static str, String)>) {
        let rows = facts.into_iter().map(|(label, value)| vec![label.to_owned(), value]);
        self.table(&Table::new(["", ""]).of(rows));
    }

    /// Writes nothing for a table without rows.
    fn table(&mut self, table: &Table) {
        if !table.rows.is_empty() {
            self.0.push_str(&table.lines(INDENT));
        }
    }

    fn table_or(&mut self, table: &Table, without_rows: &str) {
        if table.rows.is_empty() {
            self.line(without_rows);
        } else {
            self.table(table);
        }
    }

    fn line(&mut self, line: &str) {
        self.wrap(line, INDENT);
    }

    fn wrap(&mut self, line: &str, indent: usize) {
        for line in wrapped(&visible(line), WIDTH - indent) {
            let _ = writeln!(self.0, "{:indent$}{line}", "");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{sample, table::WIDTH};

    #[test]
    fn a_full_summary_is_shown_in_full() {
        assert_eq!(text(&sample::run()), include_str!("../tests/sample/run.txt"));
    }

    #[test]
    fn a_stage_that_did_not_run_says_so() {
        let text = text(&sample::empty());
        for sentence in [
            "  no dense model ran\n",
            "Sparse\n  not requested\n",
            "Rerank\n  not requested\n",
            "Quality\n  not measured: the queries have no relevance judgements\n",
            "Fallbacks\n  none: every stage ran as requested\n",
            "Gate\n  none configured\n",
            "Warnings\n  none\n",
        ] {
            assert!(text.contains(sentence), "{sentence:?} is not in\n{text}");
        }
    }

    #[test]
    fn no_line_is_wide_and_no_character_controls_the_terminal() {
        let hostile = format!("\u{1b}[2J{}\u{7}", "wide ".repeat(60));
        let text = text(&sample::hostile(&hostile));
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
    }
}
