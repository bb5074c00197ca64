//! The longest table of a report. The summary itself has all rows.

use crate::format::counted;

/// The most rows of a table.
pub const MAX_ROWS: usize = 200;

/// A sentence about the rows beyond [`MAX_ROWS`] of a table of `total` rows; `None` if there are none.
pub fn omitted(total: usize, one: &str, many: &str) -> Option<String> {
    let omitted = total.checked_sub(MAX_ROWS).filter(|omitted| *omitted > 0)?;
    Some(format!("{} not shown; the summary lists all", counted(omitted as u64, one, many)))
}
