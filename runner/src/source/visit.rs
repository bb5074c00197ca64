//! The interface of visitors of records, and helpers that the readers of all formats share.

use std::{
    fmt,
    io::{self, Read},
    ops::ControlFlow,
};

use crds::contract::FailureReason;

use super::{
    chunk::Chunk,
    reader::{Progress, SliceReader, is_too_large},
    record::{Defect, Record},
    uri::Uris,
};
use crate::{
    config::toggles::SourceLimits,
    process::{
        error::{Result, StageError},
        interrupt::Interrupt,
    },
    store::source_error,
};

/// A record that is passed to a visitor.
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
    pub(super) uris: &'a Uris,
    /// The path of the file, from the root of the source.
    pub file: &'a str,
    /// The number of the record in its file, from 0.
    pub record: u64,
    pub(super) line: Option<u64>,
}

impl fmt::Display for RecordLocation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uri = self.uris.of(self.file);
        match self.line {
            Some(line) => write!(f, "{uri}, line {line}"),
            None => write!(f, "{uri}, record {}", self.record + 1),
        }
    }
}

/// The result of a visitor: continue, stop, or fail.
pub type Flow = Result<ControlFlow<()>>;

/// One pass over the records of one file.
pub(super) struct Visit<'a> {
    /// The URI of the file, for messages.
    pub(super) uri: &'a str,
    /// Its path from the root of the source.
    pub(super) path: &'a str,
    pub(super) fields: &'a crds::v1alpha1::FieldMapping,
    pub(super) limits: SourceLimits,
    pub(super) interrupt: &'a Interrupt,
    /// The first record to visit.
    pub(super) from: u64,
    pub(super) deliver: &'a mut dyn FnMut(Record) -> Flow,
}

impl Visit<'_> {
    /// The error of a failed read, which may be that of an interrupt.
    pub(super) fn unreadable(&self, error: io::Error) -> StageError {
        error.downcast::<StageError>().unwrap_or_else(|error| source_error(format!("cannot read {}", self.uri), error))
    }

    /// The error of a part of the file that is larger than `limit`, which the toggle `key` sets.
    pub(super) fn too_large(&self, at: impl fmt::Display, limit: u64, key: &str, variable: &str) -> StageError {
        self.invalid_file(format_args!(
            "{at}: larger than {}; split it, or raise the toggle {key} ({variable})",
            quantity(limit)
        ))
    }

    pub(super) fn invalid_file(&self, message: impl fmt::Display) -> StageError {
        StageError::new(FailureReason::InvalidFile, format!("{}{message}", self.uri))
    }

    pub(super) fn invalid_record(&self, message: impl fmt::Display) -> StageError {
        StageError::new(FailureReason::InvalidRecord, format!("{}{message}", self.uri))
    }

    /// The error of a value `at` a location that is not a record.
    pub(super) fn defect(&self, at: impl fmt::Display, defect: Defect) -> StageError {
        match defect {
            Defect::Json(reason, byte) => {
                self.invalid_file(format_args!("{at}: not valid JSON: {reason} at byte {} of the record", byte + 1))
            }
            Defect::Record(message) => self.invalid_record(format_args!("{at}: {message}")),
        }
    }

    /// Reads a file as text, without a byte order mark.
    pub(super) fn read_text(&self, reader: impl Read) -> Result<String> {
        let progress = Progress::new(self.limits.text);
        let mut bytes = Vec::new();
        let read =
            SliceReader::new(reader, self.interrupt, &progress).and_then(|mut reader| reader.read_to_end(&mut bytes));
        match read {
            Err(error) if is_too_large(&error) => {
                let at = format!(", line {}", progress.line());
                return Err(self.too_large(at, self.limits.text, "max_text", "EMBEDRUN_MAX_TEXT"));
            }
            read => read.map_err(|error| self.unreadable(error))?,
        };
        String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..valid].split(|byte| *byte == b'\n').count();
            self.invalid_file(format_args!(", line {line}: not UTF-8 text"))
        })
    }

    /// The error of a record that is larger than the limit.
    pub(super) fn record_too_large(&self, at: impl fmt::Display) -> StageError {
        self.too_large(at, self.limits.record, "max_record", "EMBEDRUN_MAX_RECORD")
    }
}

/// A number of bytes in the largest unit that divides it.
fn quantity(bytes: u64) -> String {
    let (shift, unit) = [(30, " GiB"), (20, " MiB"), (10, " KiB")]
        .into_iter()
        .find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift))
        .unwrap_or((0, " bytes"));
    format!("{}{unit}", bytes >> shift)
}
