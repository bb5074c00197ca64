//! The interface between the readers of all formats and the visitors of their records.

use std::{
    fmt,
    io::{BufReader, Read},
    ops::ControlFlow,
};

use crds::contract::FailureReason;

use super::{chunk::Chunk, record::Record};
use crate::{
    process::error::{Cause, Result, StageError},
    store::Store,
};

/// A record as a visitor of a source gets it.
#[derive(Debug)]
pub struct SourceRecord<'a> {
    /// Its location.
    pub location: RecordLocation<'a>,
    /// The chunk; `None` if the text of the record is empty or only white space.
    pub chunk: Option<Chunk>,
}

/// The location of a record, for messages.
#[derive(Clone, Copy, Debug)]
pub struct RecordLocation<'a> {
    pub(super) store: &'a Store,
    /// The path of the file, from the root of the source.
    pub file: &'a str,
    /// The number of the record in its file, from 0.
    pub record: u64,
    pub(super) line: Option<u64>,
}

impl fmt::Display for RecordLocation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uri = self.store.uri_of(self.file);
        match self.line {
            Some(line) => write!(f, "{uri}, line {line}"),
            None => write!(f, "{uri}, record {}", self.record + 1),
        }
    }
}

/// What a visitor of records returns: continue, or stop because it has enough.
pub type Flow = Result<ControlFlow<()>>;

/// One pass over the records of one file.
pub(super) struct Visit<'a> {
    /// The user's name of the file.
    pub(super) uri: &'a str,
    /// Its path from the root of the source.
    pub(super) path: &'a str,
    pub(super) fields: &'a crds::v1alpha1::FieldMapping,
    pub(super) from: u64,
    pub(super) deliver: &'a mut dyn FnMut(Record) -> Flow,
}

impl Visit<'_> {
    pub(super) fn unreadable(&self, cause: impl Into<Cause>) -> StageError {
        StageError::new(FailureReason::SourceNotFound, format!("{} cannot be read", self.uri)).caused_by(cause)
    }

    pub(super) fn invalid_file(&self, message: impl fmt::Display) -> StageError {
        StageError::new(FailureReason::InvalidFile, format!("{}{message}", self.uri))
    }

    pub(super) fn invalid_record(&self, message: impl fmt::Display) -> StageError {
        StageError::new(FailureReason::InvalidRecord, format!("{}{message}", self.uri))
    }

    /// A small file as text, without a byte order mark.
    pub(super) fn read_text(&self, mut reader: impl Read) -> Result<String> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(|error| self.unreadable(error))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..valid].split(|byte| *byte == b'\n').count();
            self.invalid_file(format_args!(", line {line}: not UTF-8 text"))
        })?;
        Ok(text.strip_prefix('\u{feff}').map(ToOwned::to_owned).unwrap_or(text))
    }
}

/// A buffered reader that skips a byte order mark.
pub(super) fn without_bom(reader: impl Read) -> std::io::Result<impl std::io::BufRead> {
    const BOM: [u8; 3] = [0xef, 0xbb, 0xbf];
    let mut start = Vec::with_capacity(BOM.len());
    let mut reader = BufReader::with_capacity(1 << 18, reader);
    reader.by_ref().take(BOM.len() as u64).read_to_end(&mut start)?;
    if start == BOM {
        start.clear();
    }
    Ok(std::io::Cursor::new(start).chain(reader))
}
