//! JSON Lines: one record per line; blank lines, CRLF and a byte order mark are allowed.

use std::{io::Read, ops::ControlFlow};

use serde_json::value::RawValue;

use super::{
    reader::{Progress, SliceReader, is_too_large},
    record,
    visit::{Flow, Visit},
};

/// Visits the records of a JSON Lines file.
pub fn visit(reader: impl Read, visit: &mut Visit<'_>) -> Flow {
    let progress = Progress::new(visit.limits.record);
    let mut reader = SliceReader::new(reader, visit.interrupt, &progress).map_err(|error| visit.unreadable(error))?;
    let mut ordinal = 0;
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let line = progress.line();
        progress.next_record();
        match reader.read_line(&mut bytes) {
            Ok(0) => return Ok(ControlFlow::Continue(())),
            Ok(_) => {}
            Err(error) if is_too_large(&error) => {
                return Err(visit.record_too_large(format_args!(", line {line}")));
            }
            Err(error) => return Err(visit.unreadable(error)),
        }
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        let current = ordinal;
        ordinal += 1;
        if current < visit.from {
            continue;
        }
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| visit.invalid_file(format_args!(", line {line}: not UTF-8 text")))?;
        let value: &RawValue = serde_json::from_str(text).map_err(|error| {
            visit.invalid_file(format_args!(", line {line}: not valid JSON: {}", message_of(&error)))
        })?;
        let record = record::from_json(value, current, Some(line), visit.fields)
            .map_err(|defect| visit.defect(format_args!(", line {line}"), defect))?;
        if (visit.deliver)(record)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
}

/// The message of the parser without its line number: it counts within its input, which is one line of the file.
fn message_of(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let message = text.split(" at line ").next().unwrap_or(&text);
    format!("{message} at column {}", error.column())
}
