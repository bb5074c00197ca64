//! Plain text: one chunk per file.

use std::io::Read;

use serde_json::json;

use super::{
    record::Record,
    visit::{Flow, Visit},
};

/// Visits the only record of a text file.
pub fn visit(reader: impl Read, visit: &mut Visit<'_>) -> Flow {
    if visit.from > 0 {
        return Ok(std::ops::ControlFlow::Continue(()));
    }
    let text = visit.read_text(reader)?;
    let metadata = json!({"path": visit.path}).to_string();
    (visit.deliver)(Record { ordinal: 0, line: Some(1), id: None, text, metadata })
}
