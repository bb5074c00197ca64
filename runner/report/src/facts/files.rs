//! The exported files, and the summaries of the collections.

use crds::summary::{ExportRun, ProcessingSummary};

use super::row_limit::{MAX_ROWS, omitted};
use crate::{
    format::{bytes, count, counted, digest},
    table::Table,
};

/// One row per committed file.
pub fn files(export: &ExportRun) -> Table {
    Table::new(["file", "#rows", "#size", "sha256"]).of(export
        .files
        .iter()
        .take(MAX_ROWS)
        .map(|file| vec![file.path.clone(), count(file.rows), bytes(file.bytes), digest(&file.sha256)]))
}

/// A sentence about the rows that [`files`] omits.
pub fn omitted_files(export: &ExportRun) -> Option<String> {
    omitted(export.files.len(), "file", "files")
}

/// The size of all files, and their number.
pub fn export_size(export: &ExportRun) -> String {
    format!("{} in {}", bytes(export.total_bytes), counted(export.files.len() as u64, "file", "files"))
}

/// One row per collection: the location of its summary.
pub fn collections(summary: &ProcessingSummary) -> Table {
    Table::new(["collection", "#chunks", "summary", "sha256"]).of(summary.collections.iter().map(|pointer| {
        vec![pointer.name.clone(), count(pointer.chunk_count), pointer.summary.clone(), digest(&pointer.sha256)]
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_long_list_of_files_is_cut_with_a_note() {
        let mut export = sample::run().export_run;
        let file = export.files[0].clone();
        export.files = vec![file; MAX_ROWS + 2];
        assert_eq!(files(&export).rows.len(), MAX_ROWS);
        assert_eq!(omitted_files(&export).as_deref(), Some("2 files not shown; the summary lists all"));
        export.files.truncate(MAX_ROWS);
        assert_eq!(omitted_files(&export), None);
    }
}
