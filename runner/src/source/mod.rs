//! The sources: the files of a collection in a stable order, read as a stream of chunks.
//!
//! Memory does not grow with a file: records are read one at a time and handed to a visitor. Only Markdown and
//! text files, which are small, are held whole.

mod chunks_json;
mod json_lines;
mod listing;
mod markdown;
mod record;
mod text_file;

use std::{
    fmt,
    io::{BufReader, Read},
    ops::ControlFlow,
};

use crds::{
    contract::{CollectionConfig, FailureReason},
    v1alpha1::Format,
};
use sha2::{Digest, Sha256};

use crate::{
    error::{Cause, Result, StageError},
    store::{self, Store},
};

pub use listing::Listing;
use record::Record;

/// The unit that gets a vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The user's id, or a stable one made of collection, file and ordinal.
    pub id: String,
    /// The text, untouched.
    pub text: String,
    /// The metadata as JSON.
    pub metadata: String,
}

/// A record as the visitor of a source sees it.
#[derive(Debug)]
pub struct Found<'a> {
    /// Where it stands.
    pub spot: Spot<'a>,
    /// The chunk; none where the record has no text but white space.
    pub chunk: Option<Chunk>,
}

/// Where a record stands.
#[derive(Clone, Copy, Debug)]
pub struct Spot<'a> {
    source: &'a Source,
    /// The path of the file, from the root of the source.
    pub file: &'a str,
    /// The number of the record in its file, from 0.
    pub record: u64,
    line: Option<u64>,
}

impl fmt::Display for Spot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uri = self.source.store.uri_of(self.file);
        match self.line {
            Some(line) => write!(f, "{uri}, line {line}"),
            None => write!(f, "{uri}, record {}", self.record + 1),
        }
    }
}

/// What a visitor of records answers: go on, or that it has enough.
pub type Flow = Result<ControlFlow<()>>;

/// The source of one collection.
#[derive(Debug)]
pub struct Source {
    store: Store,
    collection: CollectionConfig,
    /// The file, where the source is a single one.
    single: Option<String>,
}

impl Source {
    /// Opens the source of a collection: a folder or a single file.
    pub fn open(collection: &CollectionConfig) -> Result<Self> {
        let (store, single) = store::open_source(&collection.source).map_err(|error| {
            let message = format!("the source of collection {:?} cannot be read", collection.name);
            StageError::new(error.reason, message).caused_by(error)
        })?;
        Ok(Self { store, collection: collection.clone(), single })
    }

    /// The files that this collection is made of.
    pub fn list(&self) -> Result<Listing> {
        match &self.single {
            Some(file) => Ok(Listing { files: vec![file.clone()], ignored: Vec::new() }),
            None => listing::list(&self.store, self.collection.format),
        }
    }

    /// The user's name of a file.
    pub fn uri_of(&self, file: &str) -> String {
        self.store.uri_of(file)
    }

    /// Whether a file is there.
    pub fn has(&self, file: &str) -> Result<bool> {
        Ok(self.store.read(file)?.is_some())
    }

    /// Visits the records of `file` in order, from record `from` on, until the visitor has enough.
    pub fn visit<'a>(&'a self, file: &'a str, from: u64, visitor: &mut dyn FnMut(Found<'a>) -> Flow) -> Flow {
        let Some(reader) = self.store.read(file)? else {
            let message = format!("{} is gone", self.uri_of(file));
            return Err(StageError::new(FailureReason::SourceNotFound, message));
        };
        let uri = self.uri_of(file);
        let mut deliver = |record: Record| {
            let spot = Spot { source: self, file, record: record.ordinal, line: record.line };
            let id = record.id.unwrap_or_else(|| stable_id(&self.collection.name, file, record.ordinal));
            let empty = record.text.trim().is_empty();
            let chunk = (!empty).then_some(Chunk { id, text: record.text, metadata: record.metadata });
            visitor(Found { spot, chunk })
        };
        let mut visit = Visit { uri: &uri, path: file, fields: &self.collection.fields, from, deliver: &mut deliver };
        match listing::format_of(file, self.collection.format) {
            Some(Format::ChunksJson) => chunks_json::visit(reader, &mut visit),
            Some(Format::JsonLines) => json_lines::visit(reader, &mut visit),
            Some(Format::Markdown) => markdown::visit(reader, &mut visit),
            Some(Format::Text) => text_file::visit(reader, &mut visit),
            Some(Format::Auto | Format::Parquet | Format::Csv) | None => Err(StageError::new(
                FailureReason::InvalidFile,
                format!(
                    "{uri}: no format is known for this name; set the format of the collection, or use {}",
                    listing::EXTENSIONS
                ),
            )),
        }
    }
}

/// One reading of one file.
struct Visit<'a> {
    /// The user's name of the file.
    uri: &'a str,
    /// Its path from the root of the source.
    path: &'a str,
    fields: &'a crds::v1alpha1::FieldMapping,
    from: u64,
    deliver: &'a mut dyn FnMut(Record) -> Flow,
}

impl Visit<'_> {
    fn unreadable(&self, cause: impl Into<Cause>) -> StageError {
        StageError::new(FailureReason::SourceNotFound, format!("{} cannot be read", self.uri)).caused_by(cause)
    }

    fn invalid_file(&self, message: impl fmt::Display) -> StageError {
        StageError::new(FailureReason::InvalidFile, format!("{}{message}", self.uri))
    }

    fn invalid_record(&self, message: impl fmt::Display) -> StageError {
        StageError::new(FailureReason::InvalidRecord, format!("{}{message}", self.uri))
    }

    /// A small file as text, without a byte order mark.
    fn read_text(&self, mut reader: impl Read) -> Result<String> {
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

/// A buffered reader behind the byte order mark, if there is one.
fn without_bom(reader: impl Read) -> std::io::Result<impl std::io::BufRead> {
    const BOM: [u8; 3] = [0xef, 0xbb, 0xbf];
    let mut start = Vec::with_capacity(BOM.len());
    let mut reader = BufReader::with_capacity(1 << 18, reader);
    reader.by_ref().take(BOM.len() as u64).read_to_end(&mut start)?;
    if start == BOM {
        start.clear();
    }
    Ok(std::io::Cursor::new(start).chain(reader))
}

/// The id of a chunk that has none of its own: the same for the same place in the same collection, in the form of a
/// UUID (version 8, RFC 9562), which vector databases take.
fn stable_id(collection: &str, file: &str, ordinal: u64) -> String {
    let digest = Sha256::digest(format!("{collection}\0{file}\0{ordinal}").as_bytes());
    let mut bytes: [u8; 16] = digest[..16].try_into().expect("a sha256 has 32 bytes");
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests;
