//! Why a summary cannot be read or shown.

use std::io;

use crds::summary::SCHEMA_VERSION;
use plotters::drawing::DrawingAreaErrorKind;

/// Why a summary cannot be read or shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes are no JSON, or not that of a summary.
    #[error("{name} is no processing summary: {cause}")]
    NotASummary {
        /// The file.
        name: String,
        /// What is wrong with it, and where.
        #[source]
        cause: serde_json::Error,
    },
    /// The version of the schema is not a number.
    #[error("{name} is no processing summary: its schema_version is {found:?}")]
    NoVersion {
        /// The file.
        name: String,
        /// What stands there.
        found: String,
    },
    /// A summary of another major version.
    #[error("{name} has schema version {found}, this runner reads {}.x", major())]
    OtherVersion {
        /// The file.
        name: String,
        /// Its version.
        found: String,
    },
    /// A chart cannot be drawn.
    #[error("cannot draw a chart")]
    Chart(#[from] DrawingAreaErrorKind<io::Error>),
    /// The page cannot be put together.
    #[error("cannot put the report together")]
    Page(#[from] askama::Error),
}

fn major() -> &'static str {
    SCHEMA_VERSION.split_once('.').map_or(SCHEMA_VERSION, |(major, _)| major)
}
