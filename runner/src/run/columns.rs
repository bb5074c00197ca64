//! The columns of the committed files: those of a collection must be the same in every shard.

use crds::contract::FailureReason;

use super::commit::Commit;
use crate::{
    export::{self, StoredColumn},
    process::error::{Result, StageError},
    store::Store,
};

/// Checks that the files of all shards have the same columns: names, types and widths.
///
/// # Errors
/// If a file is missing or unreadable, or the columns of two shards differ; the error names both and the column.
pub fn check(store: &Store, commits: &[Commit]) -> Result<()> {
    let mut first: Option<(&Commit, Vec<StoredColumn>)> = None;
    for commit in commits {
        let file = store.open_file(&commit.file)?.ok_or_else(|| {
            let message = format!("{} of shard {} is missing", store.uri_of(&commit.file), commit.shard);
            StageError::new(FailureReason::StoreUnavailable, message)
        })?;
        let columns = export::stored_columns(file).map_err(|error| store.error("read", &commit.file, error))?;
        match &first {
            None => first = Some((commit, columns)),
            Some((first, expected)) => {
                if let Some(difference) = difference((first.shard, expected), (commit.shard, &columns)) {
                    return Err(differ(first, commit, &difference));
                }
            }
        }
    }
    Ok(())
}

/// The first column that differs, with what each shard has; `None` if the columns are the same.
fn difference((first, expected): (u32, &[StoredColumn]), (shard, found): (u32, &[StoredColumn])) -> Option<String> {
    let named = |columns: &[StoredColumn], name: &str| columns.iter().find(|column| column.name == name).cloned();
    for column in expected {
        let StoredColumn { name, kind } = column;
        match named(found, name) {
            None => return Some(format!("column {name:?} is {kind} in shard {first} and missing in shard {shard}")),
            Some(other) if other.kind != *kind => {
                return Some(format!("column {name:?} is {kind} in shard {first} and {} in shard {shard}", other.kind));
            }
            Some(_) => {}
        }
    }
    let further = found.iter().find(|column| named(expected, &column.name).is_none())?;
    let StoredColumn { name, kind } = further;
    Some(format!("column {name:?} is {kind} in shard {shard} and missing in shard {first}"))
}

fn differ(first: &Commit, second: &Commit, difference: &str) -> StageError {
    let left_out: Vec<&str> = [first, second]
        .iter()
        .flat_map(|commit| commit.dense_fallbacks.iter().chain(&commit.sparse_fallbacks))
        .map(|fallback| fallback.model.as_str())
        .collect();
    let cause = if left_out.is_empty() {
        "they were embedded with different toggles, models or releases".to_owned()
    } else {
        format!("an optional model failed in one of them only ({})", left_out.join(", "))
    };
    let message = format!(
        "the shards {} and {} of collection {:?} have different columns: {difference}; {cause}: change spec.rerunToken \
         to embed everything again",
        first.shard, second.shard, second.collection
    );
    StageError::new(FailureReason::InvalidConfiguration, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(columns: &[(&str, &str)]) -> Vec<StoredColumn> {
        columns.iter().map(|(name, kind)| StoredColumn { name: (*name).into(), kind: (*kind).into() }).collect()
    }

    #[test]
    fn names_types_and_widths_are_compared() {
        let expected = columns(&[("id", "Utf8"), ("m", "32 × Float32")]);
        let differing = |found: &[(&str, &str)]| difference((0, &expected), (3, &columns(found)));
        assert_eq!(differing(&[("id", "Utf8"), ("m", "32 × Float32")]), None);
        for (found, words) in [
            (&[("id", "Utf8")][..], "column \"m\" is 32 × Float32 in shard 0 and missing in shard 3"),
            (
                &[("id", "Utf8"), ("m", "16 × Float32")],
                "column \"m\" is 32 × Float32 in shard 0 and 16 × Float32 in shard 3",
            ),
            (
                &[("id", "Utf8"), ("m", "32 × Float32"), ("s", "Utf8")],
                "column \"s\" is Utf8 in shard 3 and missing in shard 0",
            ),
        ] {
            assert_eq!(differing(found).as_deref(), Some(words));
        }
    }
}
