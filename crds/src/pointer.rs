//! The pointer of a collection, `current/<collection>`: the revision that readers should use, and the run that published
//! it.
//!
//! ```json
//! {"version": 2, "revision": "7f3a91c04d…", "run": {"namespace": "search", "name": "handbook", "uid": "…"},
//!  "planned_at": "2026-11-28T09:45:51Z"}
//! ```
//!
//! Only the run that owns a pointer moves it, and only to a revision that was planned later: a second run with the same
//! output does not move the readers of the first, and a slow finalize stage does not move them back. In earlier releases
//! the file was one line, the revision.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{contract::RunRef, identity::Revision};

/// The version of the pointer file; version 1 is the line of earlier releases.
pub const POINTER_VERSION: u32 = 2;

/// The pointer of a collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// The revision that readers should use.
    pub revision: Revision,
    /// Who published it; `None` in files of earlier releases.
    pub claim: Option<Claim>,
}

/// The claim of a run to a pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The run.
    pub run: RunRef,
    /// When the run last planned the revision.
    pub planned_at: Timestamp,
}

/// Why a run may not move a pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// Another run owns the pointer.
    OtherRun(RunRef),
    /// The owner planned the published revision later.
    LaterPlan(Revision, Timestamp),
}

/// A file that is not a pointer.
#[derive(Debug, thiserror::Error)]
pub enum PointerError {
    /// The file is empty, or has more than one line.
    #[error("it is neither JSON nor one line with a revision")]
    Malformed,
    /// The file is not the JSON of a pointer.
    #[error("it is not a pointer: {0}")]
    Json(#[from] serde_json::Error),
    /// A later release wrote the file.
    #[error("it has version {found}, this release reads versions up to {POINTER_VERSION}")]
    Version {
        /// The version of the file.
        found: u64,
    },
}

/// The file.
#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    revision: Revision,
    run: RunRef,
    planned_at: Timestamp,
}

impl Pointer {
    /// Reads the file, in its present form or in that of earlier releases.
    ///
    /// # Errors
    /// If the file is not a pointer, or a later release wrote it.
    pub fn parse(bytes: &[u8]) -> Result<Self, PointerError> {
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim();
        if !text.starts_with('{') {
            let is_revision = !text.is_empty() && !text.contains(char::is_whitespace);
            return if is_revision {
                Ok(Self { revision: Revision::from_recorded(text), claim: None })
            } else {
                Err(PointerError::Malformed)
            };
        }
        let value: serde_json::Value = serde_json::from_str(text)?;
        if let Some(found) = value["version"].as_u64().filter(|version| *version > POINTER_VERSION.into()) {
            return Err(PointerError::Version { found });
        }
        let File { revision, run, planned_at, .. } = serde_json::from_value(value)?;
        Ok(Self { revision, claim: Some(Claim { run, planned_at }) })
    }

    /// Why a run with this `claim` may not point readers to `revision`; `None` if it may.
    pub fn conflict(&self, revision: &Revision, claim: &Claim) -> Option<Conflict> {
        let current = self.claim.as_ref()?;
        if !current.run.is_same_run(&claim.run) {
            return Some(Conflict::OtherRun(current.run.clone()));
        }
        let is_later = self.revision != *revision && current.planned_at >= claim.planned_at;
        is_later.then(|| Conflict::LaterPlan(self.revision.clone(), current.planned_at))
    }
}

impl Claim {
    /// The bytes of a pointer to `revision` with this claim.
    pub fn pointer_to(&self, revision: &Revision) -> Vec<u8> {
        let file = File {
            version: POINTER_VERSION,
            revision: revision.clone(),
            run: self.run.clone(),
            planned_at: self.planned_at,
        };
        let mut bytes = serde_json::to_vec(&file).expect("a pointer has string keys");
        bytes.push(b'\n');
        bytes
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherRun(run) => write!(f, "run {run} owns it"),
            Self::LaterPlan(revision, planned_at) => {
                write!(f, "it names revision {}, which was planned later ({planned_at})", revision.short())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(text: &str) -> Revision {
        Revision::from_recorded(text)
    }

    fn claim(name: &str, uid: &str, second: i64) -> Claim {
        let run = RunRef { namespace: "search".into(), name: name.into(), uid: uid.into() };
        Claim { run, planned_at: Timestamp::from_second(second).expect("a time") }
    }

    fn pointer(to: &str, claim: &Claim) -> Pointer {
        Pointer::parse(&claim.pointer_to(&revision(to))).expect("a pointer")
    }

    #[test]
    fn the_bytes_of_a_pointer_are_pinned() {
        let bytes = claim("handbook", "1b2c", 1_800_000_000).pointer_to(&revision("7f3a91c04d"));
        assert_eq!(
            String::from_utf8_lossy(&bytes),
            concat!(
                r#"{"version":2,"revision":"7f3a91c04d","run":{"namespace":"search","name":"handbook","uid":"1b2c"},"#,
                r#""planned_at":"2027-01-15T08:00:00Z"}"#,
                "\n"
            )
        );
        let read = Pointer::parse(&bytes).expect("a pointer");
        assert_eq!(read.claim, Some(claim("handbook", "1b2c", 1_800_000_000)));
    }

    #[test]
    fn the_line_of_earlier_releases_is_read() {
        let read = Pointer::parse(b"7f3a91c04d\n").expect("a pointer");
        assert_eq!(read, Pointer { revision: revision("7f3a91c04d"), claim: None });
        assert_eq!(read.conflict(&revision("b"), &claim("any", "", 0)), None);
    }

    #[test]
    fn a_file_that_is_no_pointer_is_an_error() {
        for text in ["", "\n", "two words", "a\nb", "{", "{}", "{\"version\": 2, \"revision\": \"a\"}"] {
            assert!(Pointer::parse(text.as_bytes()).is_err(), "{text}");
        }
        let later = Pointer::parse(b"{\"version\": 3, \"novelty\": 1}").expect_err("a later version").to_string();
        assert!(later.contains("version 3"), "{later}");
    }

    #[test]
    fn only_the_owner_moves_a_pointer() {
        let current = pointer("a", &claim("prod", "1", 10));
        let conflict = current.conflict(&revision("b"), &claim("dev", "2", 20)).expect("another run");
        assert_eq!(conflict.to_string(), "run search/prod owns it");
        // Also to the revision that it names: the next revision of the other run would be refused.
        assert!(current.conflict(&revision("a"), &claim("dev", "2", 20)).is_some());
        assert_eq!(current.conflict(&revision("b"), &claim("prod", "1", 20)), None);
    }

    #[test]
    fn a_run_that_was_created_again_owns_the_pointer_of_its_name() {
        let current = pointer("a", &claim("prod", "1", 10));
        assert_eq!(current.conflict(&revision("b"), &claim("prod", "2", 20)), None);
        assert!(current.conflict(&revision("b"), &claim("prod", "0", 9)).is_some(), "a leftover of the deleted run");
    }

    #[test]
    fn a_pointer_moves_forward_in_time_only() {
        let current = pointer("b", &claim("prod", "1", 10));
        let conflict = current.conflict(&revision("a"), &claim("prod", "1", 9)).expect("an older plan");
        assert_eq!(conflict.to_string(), "it names revision b, which was planned later (1970-01-01T00:00:10Z)");
        assert!(current.conflict(&revision("a"), &claim("prod", "1", 10)).is_some());
        assert_eq!(current.conflict(&revision("b"), &claim("prod", "1", 9)), None, "it is there already");
    }
}
