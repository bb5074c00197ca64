//! The log on the standard error: text on a terminal, JSON lines elsewhere.

use std::io::{IsTerminal, stderr};

use clap::ValueEnum;
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use super::{printable::PrintableLines, progress::AboveBars, telemetry::Collector};

/// The format of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Text for people.
    Text,
}

/// The environment variable with the log filter, for example `info,runner::source=debug`.
pub const FILTER: &str = "EMBEDRUN_LOG";

impl LogFormat {
    /// [`LogFormat::Text`] if the standard error is a terminal, otherwise [`LogFormat::Json`].
    pub fn detect() -> Self {
        if stderr().is_terminal() { Self::Text } else { Self::Json }
    }
}

/// Starts the log, and sends the spans to the collector if there is one. With `quiet`, only warnings and errors are
/// logged, unless [`FILTER`] is set.
///
/// # Errors
/// If the filter in [`FILTER`] is invalid.
pub fn init(format: LogFormat, quiet: bool, collector: Option<&Collector>) -> Result<(), String> {
    let default = if quiet { "warn" } else { "info" };
    let filter = match std::env::var(FILTER) {
        Ok(text) => {
            EnvFilter::try_new(&text).map_err(|error| format!("invalid log filter {FILTER}={text}: {error}"))?
        }
        Err(_) => EnvFilter::new(default),
    };
    let layer = tracing_subscriber::fmt::layer().with_target(false);
    let layer = match format {
        LogFormat::Json => {
            let layer = layer.with_writer(AboveBars::default).json().flatten_event(true);
            layer.with_current_span(true).with_span_list(false).boxed()
        }
        LogFormat::Text => {
            // Of a message the layer shows escape sequences itself, so that those it writes are its own colors.
            let colors = stderr().is_terminal();
            let writer = move || PrintableLines::new(AboveBars, colors);
            layer.with_writer(writer).with_ansi(colors).without_time().compact().boxed()
        }
    };
    // The filter applies to the log only: the collector gets all spans.
    let traces = collector.map(Collector::layer);
    tracing_subscriber::registry().with(layer.with_filter(filter)).with(traces).init();
    Ok(())
}
