//! The paths in the output store, relative to the location that `spec.output` names.
//!
//! ```text
//! runs/<revision>/plan.json
//! runs/<revision>/plan_time.json                               when it was taken up again, after another revision
//! runs/<revision>/models/<kind>-<name>.json                    the files of a model, as it was loaded first
//! runs/<revision>/<collection>/shard-00042/<sha256>.parquet
//! runs/<revision>/<collection>/shard-00042/<sha256>.candidates.parquet
//! runs/<revision>/<collection>/shard-00042/_COMMITTED.json     written last: names the files that count
//! runs/<revision>/<collection>/shard-00042/_SUPERSEDED.json    if it exists, that marker does not count any more
//! runs/<revision>/<collection>/shard-00042/_COMMITTED.2.json   the next marker, and so on
//! runs/<revision>/<collection>/rankings.jsonl
//! runs/<revision>/<collection>/processing_summary.json
//! runs/<revision>/report.html                                  the summaries, for people
//! runs/<revision>/processing_summary.json                      written last: the revision is complete
//! current/<collection>                                         the pointer: the revision that readers should use
//! ```

use crate::identity::Revision;

/// The name of a summary file.
pub const SUMMARY: &str = "processing_summary.json";

/// The end of the name of a file that is not complete yet.
pub const PART: &str = ".part";

const COMMITTED: &str = "_COMMITTED";
const SUPERSEDED: &str = "_SUPERSEDED";

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

/// The files of a model as it was loaded first; the `kind` is `dense`, `sparse` or `reranker`.
pub fn model(revision: &Revision, kind: &str, name: &str) -> String {
    format!("runs/{revision}/models/{kind}-{name}.json")
}

/// The folder of a collection in a revision.
pub fn collection(revision: &Revision, collection: &str) -> String {
    format!("runs/{revision}/{collection}")
}

/// The folder of a shard.
pub fn shard(revision: &Revision, collection: &str, shard: u32) -> String {
    format!("runs/{revision}/{collection}/shard-{shard:05}")
}

/// A file of a shard while an attempt writes it: no marker ever names it.
pub fn shard_part(revision: &Revision, collection: &str, shard: u32, name: &str) -> String {
    format!("{}/{name}{PART}", self::shard(revision, collection, shard))
}

/// The rows of a shard; the name is the sha256 of the file.
pub fn shard_data(revision: &Revision, collection: &str, shard: u32, sha256: &str) -> String {
    format!("{}/{sha256}.parquet", self::shard(revision, collection, shard))
}

/// The candidates of every query in a shard; the name is the sha256 of the file.
pub fn shard_candidates(revision: &Revision, collection: &str, shard: u32, sha256: &str) -> String {
    format!("{}/{sha256}.candidates.parquet", self::shard(revision, collection, shard))
}

/// A commit marker of a shard. The first generation is 1; a marker counts unless it is superseded.
pub fn shard_commit(revision: &Revision, collection: &str, shard: u32, generation: u32) -> String {
    format!("{}/{COMMITTED}{}", self::shard(revision, collection, shard), of_generation(generation))
}

/// The file that supersedes the commit marker of a generation: the marker of the next one counts.
pub fn shard_superseded(revision: &Revision, collection: &str, shard: u32, generation: u32) -> String {
    format!("{}/{SUPERSEDED}{}", self::shard(revision, collection, shard), of_generation(generation))
}

/// Whether a path is that of a commit marker, or of a file that supersedes one.
pub fn is_marker(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.starts_with(COMMITTED) || name.starts_with(SUPERSEDED)
}

fn of_generation(generation: u32) -> String {
    if generation <= 1 { ".json".to_owned() } else { format!(".{generation}.json") }
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
