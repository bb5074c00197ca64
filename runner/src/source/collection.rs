//! The source of one collection: a folder or a single file.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
};

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
    uri::Uris,
    visit::{Flow, RecordLocation, SourceRecord, Visit},
};
use crate::{
    config::toggles::SourceLimits,
    process::{
        error::{Result, StageError},
        interrupt::Interrupt,
    },
    store::{self, Fault, FileKind, OpenError, OpenSource},
};

/// The source of one collection.
#[derive(Debug)]
pub struct Source {
    opened: OpenSource,
    uris: Uris,
    collection: CollectionConfig,
    limits: SourceLimits,
    interrupt: Interrupt,
}

impl Source {
    /// Opens the source of a collection: a folder or a single file. Reading ends with the `interrupt`.
    ///
    /// # Errors
    /// If the source does not exist or cannot be read.
    pub fn open(collection: &CollectionConfig, limits: SourceLimits, interrupt: &Interrupt) -> Result<Self> {
        let opened = store::open_source(&collection.source).map_err(|error| {
            let message = format!("cannot read the source of collection {:?}", collection.name);
            StageError::new(error.reason, message).caused_by(error)
        })?;
        let uris = Uris { place: collection.source.clone(), single: opened.single.is_some() };
        Ok(Self { opened, uris, collection: collection.clone(), limits, interrupt: interrupt.clone() })
    }

    /// The files of the collection.
    ///
    /// # Errors
    /// If a folder cannot be listed, or the run is interrupted.
    pub fn list(&self) -> Result<Listing> {
        match &self.opened.single {
            Some(file) => {
                let state = match self.opened.folder.kind(&file.path) {
                    Ok(FileKind::File(state)) => state,
                    Ok(FileKind::Special(kind)) => return Err(self.open_error(&file.name, OpenError::Special(kind))),
                    Ok(FileKind::Folder(_)) => {
                        return Err(self.open_error(&file.name, io::Error::from(io::ErrorKind::IsADirectory).into()));
                    }
                    Err(error) => return Err(self.open_error(&file.name, error)),
                };
                Ok(Listing { files: vec![listing::listed(file.name.clone(), state)], ..Listing::default() })
            }
            None => listing::list(&self.opened.folder, self.collection.format, &self.uris, &self.interrupt),
        }
    }

    /// The URI of a file, as in the spec, for messages.
    pub fn uri_of(&self, file: &str) -> String {
        self.uris.of(file)
    }

    /// Whether the times of files are those of their content: the files of a ConfigMap are written anew for every pod.
    pub fn keeps_times(&self) -> bool {
        !self.collection.source.uri.starts_with("configmap://")
    }

    /// The sha256 of the bytes of a file, in hexadecimal; `None` if it does not exist.
    ///
    /// # Errors
    /// If it cannot be read, or is not a regular file of the source.
    pub fn sha256(&self, file: &str) -> Result<Option<String>> {
        let opened = match self.open_file(file) {
            Ok(opened) => opened,
            Err(OpenError::Io(error)) if Fault::of(&error) == Fault::NotFound => return Ok(None),
            Err(error) => return Err(self.open_error(file, error)),
        };
        let mut reader = BufReader::with_capacity(1 << 16, opened);
        let mut hash = Sha256::new();
        loop {
            self.interrupt.check()?;
            let bytes = reader.fill_buf().map_err(|error| self.open_error(file, error.into()))?;
            if bytes.is_empty() {
                return Ok(Some(hex::encode(hash.finalize())));
            }
            hash.update(bytes);
            let length = bytes.len();
            reader.consume(length);
        }
    }

    /// Whether a file exists.
    ///
    /// # Errors
    /// If it cannot be read, or is not a regular file of the source.
    pub fn has(&self, file: &str) -> Result<bool> {
        match self.open_file(file) {
            Ok(_) => Ok(true),
            Err(OpenError::Io(error)) if Fault::of(&error) == Fault::NotFound => Ok(false),
            Err(error) => Err(self.open_error(file, error)),
        }
    }

    fn open_error(&self, file: &str, error: OpenError) -> StageError {
        store::open_error(&self.uri_of(file), error)
    }

    fn open_file(&self, file: &str) -> Result<File, OpenError> {
        match &self.opened.single {
            Some(single) if single.name == file => self.opened.folder.file(&single.path),
            Some(_) => Err(io::Error::from(io::ErrorKind::NotFound).into()),
            None => self.opened.folder.file(file),
        }
    }

    /// Visits the records of `file` in order, from record `from` on, until the visitor stops.
    ///
    /// # Errors
    /// If the file is gone, unreadable or invalid, the run is interrupted, or the visitor fails; the error names the file and
    /// the line or record.
    pub fn visit<'a>(&'a self, file: &'a str, from: u64, visitor: &mut dyn FnMut(SourceRecord<'a>) -> Flow) -> Flow {
        let uri = self.uri_of(file);
        let reader = self.open_file(file).map_err(|error| match error {
            // It was listed, so the source is changing: another attempt lists it again.
            OpenError::Io(error) if Fault::of(&error) == Fault::NotFound => {
                let message = format!("{uri} is gone since the source was listed");
                StageError::new(FailureReason::SourceUnavailable, message)
            }
            error => store::open_error(&uri, error),
        })?;
        let mut deliver = |record: Record| {
            let location = RecordLocation { uris: &self.uris, file, record: record.ordinal, line: record.line };
            let id = record.id.unwrap_or_else(|| stable_id(&self.collection.name, file, record.ordinal));
            let empty = record.text.trim().is_empty();
            let chunk = (!empty).then_some(Chunk { id, text: record.text, metadata: record.metadata });
            visitor(SourceRecord { location, chunk })
        };
        let mut visit = Visit {
            uri: &uri,
            path: file,
            fields: &self.collection.fields,
            limits: self.limits,
            interrupt: &self.interrupt,
            from,
            deliver: &mut deliver,
        };
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
