//! JSON Lines: one record per line; blank lines, CRLF and a byte order mark are allowed.

use std::{
    io::{BufRead, Read},
    ops::ControlFlow,
};

use super::{
    record,
    visit::{Flow, Visit, without_bom},
};

pub fn visit(reader: impl Read, visit: &mut Visit<'_>) -> Flow {
    let mut reader = without_bom(reader).map_err(|error| visit.unreadable(error))?;
    let (mut line, mut ordinal) = (0, 0);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        if reader.read_until(b'\n', &mut bytes).map_err(|error| visit.unreadable(error))? == 0 {
            return Ok(ControlFlow::Continue(()));
        }
        line += 1;
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
        let value = serde_json::from_str(text)
            .map_err(|error| visit.invalid_file(format_args!(", line {line}: not JSON: {}", on_one_line(&error))))?;
        let record = record::from_json(value, current, Some(line), visit.fields)
            .map_err(|message| visit.invalid_record(format_args!(", line {line}: {message}")))?;
        if (visit.deliver)(record)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
}

/// The parser's message without its line number, which is always 1 because it parses single lines.
fn on_one_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let message = text.split(" at line ").next().unwrap_or(&text);
    format!("{message} at column {}", error.column())
}
