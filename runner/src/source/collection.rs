//! The source of one collection: a folder or a single file.

use std::io::{BufRead, BufReader};

use crds::{
    contract::{CollectionConfig, FailureReason},
    v1alpha1::Format,
};

use sha2::{Digest, Sha256};

use super::{
    chunk::{Chunk, stable_id},
    chunks_json, json_lines,
    listing::{self, Listing},
    markdown,
    record::Record,
    text_file,
    visit::{Flow, RecordLocation, SourceRecord, Visit},
};
use crate::{
    process::error::{Result, StageError},
    store::{self, Store},
};

/// The source of one collection.
#[derive(Debug)]
pub struct Source {
    store: Store,
    collection: CollectionConfig,
    /// The file, if the source is a single file.
    single: Option<String>,
}

impl Source {
    /// Opens the source of a collection: a folder or a single file.
    pub fn open(collection: &CollectionConfig) -> Result<Self> {
        let (store, single) = store::open_source(&collection.source).map_err(|error| {
            let message = format!("cannot read the source of collection {:?}", collection.name);
            StageError::new(error.reason, message).caused_by(error)
        })?;
        Ok(Self { store, collection: collection.clone(), single })
    }

    /// The files of the collection.
    pub fn list(&self) -> Result<Listing> {
        match &self.single {
            Some(file) => Ok(Listing { files: self.store.find(file)?.into_iter().collect(), ignored: Vec::new() }),
            None => listing::list(&self.store, self.collection.format),
        }
    }

    /// The URI of a file, as in the spec.
    pub fn uri_of(&self, file: &str) -> String {
        self.store.uri_of(file)
    }

    /// Whether the times of files are those of their content: the files of a ConfigMap are written anew for every pod.
    pub fn keeps_times(&self) -> bool {
        !self.collection.source.uri.starts_with("configmap://")
    }

    /// The sha256 of the bytes of a file, in hexadecimal; `None` if it does not exist.
    pub fn sha256(&self, file: &str) -> Result<Option<String>> {
        let Some(reader) = self.store.read(file)? else { return Ok(None) };
        let mut reader = BufReader::with_capacity(1 << 16, reader);
        let mut hash = Sha256::new();
        loop {
            let bytes = reader.fill_buf().map_err(|error| self.store.error("read", file, error))?;
            if bytes.is_empty() {
                return Ok(Some(hex::encode(hash.finalize())));
            }
            hash.update(bytes);
            let length = bytes.len();
            reader.consume(length);
        }
    }

    /// Whether a file exists.
    pub fn has(&self, file: &str) -> Result<bool> {
        Ok(self.store.read(file)?.is_some())
    }

    /// Visits the records of `file` in order, from record `from` on, until the visitor stops.
    ///
    /// # Errors
    /// If the file is missing, unreadable or invalid, or the visitor fails; the error names the file and the line or record.
    pub fn visit<'a>(&'a self, file: &'a str, from: u64, visitor: &mut dyn FnMut(SourceRecord<'a>) -> Flow) -> Flow {
        let Some(reader) = self.store.read(file)? else {
            let message = format!("{} is missing", self.uri_of(file));
            return Err(StageError::new(FailureReason::SourceNotFound, message));
        };
        let uri = self.uri_of(file);
        let mut deliver = |record: Record| {
            let location = RecordLocation { store: &self.store, file, record: record.ordinal, line: record.line };
            let id = record.id.unwrap_or_else(|| stable_id(&self.collection.name, file, record.ordinal));
            let empty = record.text.trim().is_empty();
            let chunk = (!empty).then_some(Chunk { id, text: record.text, metadata: record.metadata });
            visitor(SourceRecord { location, chunk })
        };
        let mut visit = Visit { uri: &uri, path: file, fields: &self.collection.fields, from, deliver: &mut deliver };
        match listing::format_of(file, self.collection.format) {
            Some(Format::ChunksJson) => chunks_json::visit(reader, &mut visit),
            Some(Format::JsonLines) => json_lines::visit(reader, &mut visit),
            Some(Format::Markdown) => markdown::visit(reader, &mut visit),
            Some(Format::Text) => text_file::visit(reader, &mut visit),
            Some(Format::Auto | Format::Parquet | Format::Csv) | None => Err(StageError::new(
                FailureReason::InvalidFile,
                format!("{uri}: unknown extension; set the format of the collection, or use {}", listing::EXTENSIONS),
            )),
        }
    }
}
