//! Reads summaries of every minor version of the current major version.

use crds::{
    summary::{Fallback, ProcessingSummary, RerankRun, SCHEMA_VERSION, SparseRun},
    v1alpha1::{FallbackReason, FallbackSource},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::Error;

/// Reads `processing_summary.json`. `name` is the name of the file in errors.
///
/// Later minor versions are accepted: they only add fields, which are ignored.
///
/// # Errors
/// [`Error::OtherVersion`] for another major version, [`Error::NoVersion`] and [`Error::NotASummary`] for anything else.
pub fn read(bytes: &[u8], name: &str) -> Result<ProcessingSummary, Error> {
    let not_a_summary = |cause| Error::NotASummary { name: name.to_owned(), cause };
    let Header { schema_version: found } = serde_json::from_slice(bytes).map_err(not_a_summary)?;
    let Some(version) = Version::parse(&found) else {
        return Err(Error::NoVersion { name: name.to_owned(), found });
    };
    if Some(version.major) != Version::parse(SCHEMA_VERSION).map(|ours| ours.major) {
        return Err(Error::OtherVersion { name: name.to_owned(), found: version.to_string() });
    }
    if version.minor == 0 {
        let mut document = serde_json::from_slice(bytes).map_err(not_a_summary)?;
        upgrade(&mut document).map_err(not_a_summary)?;
        serde_json::from_value(document).map_err(not_a_summary)
    } else {
        serde_json::from_slice(bytes).map_err(not_a_summary)
    }
}

/// The field that every version of the schema has.
#[derive(Deserialize)]
struct Header {
    schema_version: String,
}

#[derive(Clone, Copy)]
struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    /// `5.1`, or `v4.1` as the Python pipeline wrote it.
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.strip_prefix('v').unwrap_or(text).split_once('.')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Converts the stages of a document of version 5.0 to the form of 5.1.
fn upgrade(document: &mut Value) -> Result<(), serde_json::Error> {
    upgrade_stage(document, "sparse_run", SparseRun::default())?;
    upgrade_stage(document, "rerank_run", RerankRun::default())
}

/// In 5.0 a stage was `{enabled, executed, fallback_reason?, fallback_count}`. The fields that 5.1 added get the values of
/// a stage that never ran.
fn upgrade_stage(document: &mut Value, stage: &str, blank: impl Serialize) -> Result<(), serde_json::Error> {
    let Some(old) = document.get_mut(stage).and_then(Value::as_object_mut) else { return Ok(()) };
    let Value::Object(mut new) = serde_json::to_value(blank)? else { return Ok(()) };
    let fallback = old_fallback(old)?;
    new.append(old);
    if let Some(fallback) = fallback {
        new.insert("fallback".into(), serde_json::to_value(fallback)?);
    }
    *old = new;
    Ok(())
}

fn old_fallback(stage: &mut Map<String, Value>) -> Result<Option<Fallback>, serde_json::Error> {
    let reason = stage.remove("fallback_reason").filter(|reason| !reason.is_null());
    let count = stage.remove("fallback_count").and_then(|count| count.as_u64()).unwrap_or(0);
    let fallback = |reason| Fallback { reason, source: usual_source(reason), count };
    reason.map(|reason| serde_json::from_value(reason).map(fallback)).transpose()
}

/// The usual source of a reason, which 5.0 did not record.
fn usual_source(reason: FallbackReason) -> FallbackSource {
    match reason {
        FallbackReason::FeatureDisabled => FallbackSource::Toggle,
        FallbackReason::NoCandidates | FallbackReason::NoQueries => FallbackSource::Input,
        FallbackReason::ModelUnavailable => FallbackSource::Load,
        FallbackReason::DeviceFallback | FallbackReason::OutOfMemory | FallbackReason::ExecutionFailed => {
            FallbackSource::Runtime
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION_5_0: &str = include_str!("../tests/sample/summary-5.0.json");

    fn rejection(document: &str) -> String {
        let error = read(document.as_bytes(), "old.json").expect_err("rejected");
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("{error}{cause}")
    }

    #[test]
    fn a_summary_of_this_version_is_read_as_it_was_written() {
        let summary = crate::sample::run();
        let bytes = serde_json::to_vec(&summary).expect("a summary is JSON");
        assert_eq!(read(&bytes, "summary.json").expect("readable"), summary);
    }

    #[test]
    fn a_later_minor_version_is_read_without_the_fields_it_adds() {
        let mut document = serde_json::to_value(crate::sample::run()).expect("a summary is JSON");
        document["schema_version"] = "5.9".into();
        document["carbon_run"] = "grams".into();
        let read = read(document.to_string().as_bytes(), "summary.json").expect("readable");
        assert_eq!(read.run.name, "handbook");
    }

    #[test]
    fn version_5_0_is_read() {
        let summary = read(VERSION_5_0.as_bytes(), "summary.json").expect("readable");
        assert_eq!(summary.schema_version, "5.0");
        assert_eq!((summary.chunk_count, summary.skipped_chunks), (204, 3));
        assert_eq!(summary.dense_run.passes[0].tokens, 41_310);
        assert!(summary.dense_run.passes[0].token_lengths.is_empty());
        assert_eq!(summary.sparse_run, SparseRun::default());
    }

    #[test]
    fn a_fallback_of_version_5_0_keeps_its_reason_and_count() {
        let rerank = read(VERSION_5_0.as_bytes(), "summary.json").expect("readable").rerank_run;
        let fallback = Fallback { reason: FallbackReason::OutOfMemory, source: FallbackSource::Runtime, count: 2 };
        assert_eq!(rerank, RerankRun { enabled: true, fallback: Some(fallback), ..RerankRun::default() });
    }

    #[test]
    fn another_major_version_is_rejected_with_its_number() {
        let sentence = "old.json has schema version 4.1, this runner reads 5.x";
        assert_eq!(rejection(r#"{"schema_version": "4.1", "collection": "handbook"}"#), sentence);
        assert_eq!(rejection(r#"{"schema_version": "v4.1"}"#), sentence);
    }

    #[test]
    fn a_file_that_is_not_a_summary_is_rejected_with_the_cause() {
        for (document, cause) in [
            ("", "EOF while parsing a value at line 1 column 0"),
            ("PAR1", "expected value at line 1 column 1"),
            ("[]", "invalid length 0"),
            (r#"{"apiVersion": "embedrun.dev/v1alpha1"}"#, "missing field `schema_version`"),
            (r#"{"schema_version": "5.1"}"#, "missing field `generated_at`"),
            (r#"{"schema_version": "five"}"#, "its schema_version is \"five\""),
        ] {
            let rejection = rejection(document);
            assert!(rejection.starts_with("old.json is not a processing summary: "), "{rejection}");
            assert!(rejection.contains(cause), "{rejection}");
        }
    }
}
