//! The commit of a shard: a marker, written last and at most once, that names the files that count.
//!
//! ```text
//! <sha256>.parquet              written as a part first; the name is the digest, so that two attempts write the same file
//! _COMMITTED.json               generation 1: names the files
//! _SUPERSEDED.json              if it exists, generation 1 does not count any more, and the shard is embedded again
//! _COMMITTED.2.json             generation 2, and so on
//! ```
//!
//! Every one of these small files is written with put-if-absent and never changed or deleted, so the [`generation`] that
//! counts is the same for all who look. A store may do what it was asked and answer with an error, or do it twice and
//! answer "exists": [`write`] reads the marker back and believes only that. No attempt deletes a file that a marker may
//! name; finalize deletes the files that no marker names when the revision is complete.
//!
//! [`check`] looks at the committed files, and [`survey`] at the shards of a whole revision.

mod check;
mod generation;
mod marker;
mod survey;
mod write;

#[cfg(test)]
mod faulty;
#[cfg(test)]
mod tests;

pub use self::{
    check::{Depth, defect, first_defect},
    generation::{Cause, Generation, supersede},
    marker::{Commit, CommittedFile},
    survey::survey,
    write::Outcome,
};
