//! Whether sources have changed since they were planned, by a listing: sizes and times of files, not their content.

use crds::contract::RunnerConfig;

use super::document::{Plan, PlannedCollection, PlannedFile};
use crate::{
    config::toggles::SourceLimits,
    process::{error::Result, interrupt::Interrupt, message::printable},
    source::{Listing, Source},
    store::ListedFile,
};

/// The largest number of collections, and of files of a kind of change, that a message names.
const NAMED: usize = 3;
/// The largest number of characters of a file's name in a message.
const NAME_LENGTH: usize = 60;

/// The plan's entry for a listed file, without chunks.
pub(super) fn planned_file(source: &Source, listed: &ListedFile) -> Result<PlannedFile> {
    let ListedFile { path, size, modified } = listed.clone();
    let file = PlannedFile { path, chunks: 0, skipped: 0, size: Some(size), modified: None, sha256: None };
    if source.keeps_times() {
        return Ok(PlannedFile { modified, ..file });
    }
    let sha256 = source.sha256(&file.path)?;
    Ok(PlannedFile { sha256, ..file })
}

/// How the sources differ from those that were planned, as one sentence with what to do; `None` if they do not, or
/// cannot be listed.
pub fn source_changes(
    plan: &Plan,
    config: &RunnerConfig,
    limits: SourceLimits,
    interrupt: &Interrupt,
) -> Option<String> {
    let mut changes = Vec::new();
    for planned in &plan.collections {
        let Some(collection) = config.collections.iter().find(|collection| collection.name == planned.name) else {
            continue;
        };
        match Source::open(collection, limits, interrupt).and_then(|source| changes_of(&source, planned)) {
            Ok(found) if found.is_empty() => {}
            Ok(found) => changes.push(format!("collection {:?} ({found})", planned.name)),
            // The revision is complete without its sources.
            Err(error) => tracing::warn!(
                collection = planned.name,
                "cannot compare the source with the one that was planned: {}",
                error.sentence()
            ),
        }
    }
    if changes.is_empty() {
        return None;
    }
    Some(format!(
        "the source has changed since revision {} was planned: {}; set spec.sourceRevision to embed its present content",
        plan.revision.short(),
        shortened(&changes, "; ")
    ))
}

/// How a source differs from the one that was planned; empty if it does not.
fn changes_of(source: &Source, planned: &PlannedCollection) -> Result<String> {
    let Listing { files, .. } = source.list()?;
    let listed = files.iter().map(|file| planned_file(source, file)).collect::<Result<Vec<_>>>()?;
    Ok(difference(&planned.files, &listed))
}

/// The files that changed, came and went. Both lists are sorted by path.
fn difference(planned: &[PlannedFile], listed: &[PlannedFile]) -> String {
    let find = |files: &[PlannedFile], path: &str| {
        files.binary_search_by(|file| file.path.as_str().cmp(path)).ok().map(|index| files[index].clone())
    };
    let (mut changed, mut added, mut removed) = (Vec::new(), Vec::new(), Vec::new());
    for file in planned {
        match find(listed, &file.path) {
            None => removed.push(file.path.clone()),
            Some(now) if differs(file, &now) => changed.push(file.path.clone()),
            Some(_) => {}
        }
    }
    added.extend(listed.iter().filter(|file| find(planned, &file.path).is_none()).map(|file| file.path.clone()));
    let kinds = [("changed", changed), ("added", added), ("removed", removed)];
    let clauses = kinds.iter().filter(|(_, names)| !names.is_empty());
    clauses.map(|(kind, names)| format!("{} {kind}: {}", names.len(), named(names))).collect::<Vec<_>>().join("; ")
}

/// Whether two entries of the same path differ in what both know.
fn differs(planned: &PlannedFile, now: &PlannedFile) -> bool {
    fn unequal<T: PartialEq>(one: Option<&T>, other: Option<&T>) -> bool {
        one.zip(other).is_some_and(|(one, other)| one != other)
    }
    unequal(planned.size.as_ref(), now.size.as_ref())
        || unequal(planned.modified.as_ref(), now.modified.as_ref())
        || unequal(planned.sha256.as_ref(), now.sha256.as_ref())
}

fn named(names: &[String]) -> String {
    let cut = |name: &String| match name.char_indices().nth(NAME_LENGTH) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.clone(),
    };
    shortened(&names.iter().map(|name| cut(&printable(name).into_owned())).collect::<Vec<_>>(), ", ")
}

fn shortened(items: &[String], separator: &str) -> String {
    let shown = items[..items.len().min(NAMED)].join(separator);
    match items.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn file(path: &str, size: u64, second: i64) -> PlannedFile {
        let modified = Timestamp::from_second(second).ok();
        PlannedFile { path: path.into(), chunks: 1, skipped: 0, size: Some(size), modified, sha256: None }
    }

    #[test]
    fn files_that_changed_came_and_went_are_named() {
        let planned = [file("a", 1, 1), file("b", 2, 2), file("c", 3, 3), file("d", 4, 4)];
        assert_eq!(difference(&planned, &planned), "");
        let listed = [file("a", 1, 9), file("b", 9, 2), file("bb", 1, 1), file("c", 3, 3)];
        assert_eq!(difference(&planned, &listed), "2 changed: a, b; 1 added: bb; 1 removed: d");
    }

    #[test]
    fn what_an_earlier_plan_did_not_record_is_not_compared() {
        let planned = [PlannedFile { size: None, modified: None, ..file("a", 0, 0) }];
        assert_eq!(difference(&planned, &[file("a", 1, 1)]), "");
        assert_eq!(difference(&planned, &[]), "1 removed: a");
    }

    #[test]
    fn many_and_long_names_are_shortened() {
        let listed: Vec<PlannedFile> =
            (0..9).map(|number| file(&format!("{number}{}", "ä".repeat(99)), 1, 1)).collect();
        let text = difference(&[], &listed);
        assert!(text.starts_with("9 added: 0ä") && text.ends_with("… and 6 more"), "{text}");
        assert!(text.chars().count() < 220, "{text}");
    }
}
