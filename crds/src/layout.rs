//! The paths in the output store, relative to the location that `spec.output` names.
//!
//! ```text
//! runs/<revision>/plan.json
//! runs/<revision>/plan_time.json                               when it was taken up again, after another revision
//! runs/<revision>/<collection>/shard-00042/<attempt>.parquet
//! runs/<revision>/<collection>/shard-00042/<attempt>.candidates.parquet
//! runs/<revision>/<collection>/shard-00042/_COMMITTED.json     written last: names the attempt that counts
//! runs/<revision>/<collection>/rankings.jsonl
//! runs/<revision>/<collection>/processing_summary.json
//! runs/<revision>/report.html                                  the summaries, for people
//! runs/<revision>/processing_summary.json                      written last: the revision is complete
//! current/<collection>                                         the pointer: the revision that readers should use
//! ```

use crate::identity::Revision;

/// The name of a summary file.
pub const SUMMARY: &str = "processing_summary.json";

/// The folder of a revision.
pub fn revision(revision: &Revision) -> String {
    format!("runs/{revision}")
}

/// The plan of a revision.
pub fn plan(revision: &Revision) -> String {
    format!("runs/{revision}/plan.json")
}

/// The time at which a planned revision was taken up again, after another one had been published.
pub fn plan_time(revision: &Revision) -> String {
    format!("runs/{revision}/plan_time.json")
}

/// The folder of a collection in a revision.
pub fn collection(revision: &Revision, collection: &str) -> String {
    format!("runs/{revision}/{collection}")
}

/// The folder of a shard.
pub fn shard(revision: &Revision, collection: &str, shard: u32) -> String {
    format!("runs/{revision}/{collection}/shard-{shard:05}")
}

/// The vectors that one attempt wrote for a shard.
pub fn shard_data(revision: &Revision, collection: &str, shard: u32, attempt: &str) -> String {
    format!("runs/{revision}/{collection}/shard-{shard:05}/{attempt}.parquet")
}

/// The commit marker of a shard.
pub fn shard_commit(revision: &Revision, collection: &str, shard: u32) -> String {
    format!("runs/{revision}/{collection}/shard-{shard:05}/_COMMITTED.json")
}

/// The candidates of every query that one attempt found in a shard.
pub fn shard_candidates(revision: &Revision, collection: &str, shard: u32, attempt: &str) -> String {
    format!("runs/{revision}/{collection}/shard-{shard:05}/{attempt}.candidates.parquet")
}

/// The candidates of every query of a collection: merged, and reranked if a reranker ran.
pub fn rankings(revision: &Revision, collection: &str) -> String {
    format!("runs/{revision}/{collection}/rankings.jsonl")
}

/// The summary of a collection.
pub fn collection_summary(revision: &Revision, collection: &str) -> String {
    format!("runs/{revision}/{collection}/{SUMMARY}")
}

/// The summary of a run. If it exists, the revision is complete.
pub fn run_summary(revision: &Revision) -> String {
    format!("runs/{revision}/{SUMMARY}")
}

/// The report of a run, for people.
pub fn report(revision: &Revision) -> String {
    format!("runs/{revision}/report.html")
}

/// The [pointer](crate::pointer) of a collection: the file that names the revision that readers should use.
pub fn current(collection: &str) -> String {
    format!("current/{collection}")
}
