//! Errors of reading and rendering a summary.

use std::io;

use crds::summary::SCHEMA_VERSION;
use plotters::drawing::DrawingAreaErrorKind;

/// A summary that cannot be read or rendered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes are not JSON, or not the JSON of a summary.
    #[error("{name} is not a processing summary: {cause}")]
    NotASummary {
        /// The file.
        name: String,
        /// The parse error with its position.
        #[source]
        cause: serde_json::Error,
    },
    /// The version of the schema is not a number.
    #[error("{name} is not a processing summary: its schema_version is {found:?}")]
    NoVersion {
        /// The file.
        name: String,
        /// The value of `schema_version`.
        found: String,
    },
    /// The summary has another major version.
    #[error("{name} has schema version {found}, this runner reads {}.x", major())]
    OtherVersion {
        /// The file.
        name: String,
        /// The version of the summary.
        found: String,
    },
    /// Drawing a chart failed.
    #[error("cannot draw a chart")]
    Chart(#[from] DrawingAreaErrorKind<io::Error>),
    /// Rendering the page failed.
    #[error("cannot render the report")]
    Page(#[from] askama::Error),
}

fn major() -> &'static str {
    SCHEMA_VERSION.split_once('.').map_or(SCHEMA_VERSION, |(major, _)| major)
}
