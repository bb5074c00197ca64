//! What has changed since a complete revision was planned: its sources by a listing, its queries by their digest.

use super::Run;
use crate::{
    plan::{Plan, source_changes},
    retrieval::queries::QueryFile,
};

/// The largest number of bytes of the sentence, which the termination message of a pod contains.
const MAX_BYTES: usize = 1000;

/// What has changed since the plan, with what to do; `None` if nothing has.
pub fn since(plan: &Plan, run: &Run) -> Option<String> {
    let changes: Vec<String> = source_changes(plan, &run.config, run.toggles.limits, &run.interrupt)
        .into_iter()
        .chain(query_changes(plan, run))
        .collect();
    (!changes.is_empty()).then(|| cut(changes.join("; ")))
}

fn query_changes(plan: &Plan, run: &Run) -> Option<String> {
    let planned = plan.queries_sha256.as_ref()?;
    let place = run.config.rerank.as_ref()?.queries.as_ref()?;
    match QueryFile::read(place) {
        Ok(file) if file.sha256 == *planned => None,
        Ok(_) => Some(format!(
            "the queries in {} have changed since revision {} was planned; set spec.rerunToken to use the present ones",
            place.uri,
            plan.revision.short()
        )),
        // The revision is complete without its queries.
        Err(error) => {
            tracing::warn!("cannot compare the queries with those that were planned: {}", error.sentence());
            None
        }
    }
}

/// The sentence without what is too long: names of files may have any length.
fn cut(mut sentence: String) -> String {
    if sentence.len() > MAX_BYTES {
        let end = (0..=MAX_BYTES).rev().find(|&end| sentence.is_char_boundary(end)).unwrap_or(0);
        sentence.truncate(end);
        sentence.push('…');
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_sentence_is_cut_between_characters() {
        assert_eq!(cut("short".into()), "short");
        let long = cut("ä".repeat(MAX_BYTES));
        assert!(long.len() <= MAX_BYTES + "…".len() && long.ends_with("ä…"), "{long}");
    }
}
