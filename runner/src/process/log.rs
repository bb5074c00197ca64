//! The log: on the standard error, for people on a terminal and as JSON lines elsewhere.

use std::io::{IsTerminal, stderr};

use clap::ValueEnum;
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use super::{progress::AboveBars, telemetry::Collector};

/// The form of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

/// The variable that holds the filter, for example `info,runner::source=debug`.
pub const FILTER: &str = "EMBEDRUN_LOG";

impl LogFormat {
    /// What suits the standard error.
    pub fn detect() -> Self {
        if stderr().is_terminal() { Self::Text } else { Self::Json }
    }
}

/// Starts the log, and sends the spans to the collector where there is one. A filter that cannot be read is an error that names it.
pub fn init(format: LogFormat, quiet: bool, collector: Option<&Collector>) -> Result<(), String> {
    let default = if quiet { "warn" } else { "info" };
    let filter = match std::env::var(FILTER) {
        Ok(text) => EnvFilter::try_new(&text).map_err(|error| format!("{FILTER}={text}: {error}"))?,
        Err(_) => EnvFilter::new(default),
    };
    let layer = tracing_subscriber::fmt::layer().with_writer(AboveBars::default).with_target(false);
    let layer = match format {
        LogFormat::Json => layer.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
        LogFormat::Text => layer.with_ansi(stderr().is_terminal()).without_time().compact().boxed(),
    };
    // Spans go to a collector whatever the log is filtered by.
    let traces = collector.map(Collector::layer);
    tracing_subscriber::registry().with(layer.with_filter(filter)).with(traces).init();
    Ok(())
}
