//! Looks up chunks in the files of a collection: the ids and texts of candidates, and the ordinals of relevant ids.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    sync::Arc,
};

use arrow_array::{RecordBatch, StringArray, cast::AsArray, types::UInt64Type};
use crds::contract::FailureReason;
use parquet::arrow::{
    ProjectionMask,
    arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder},
};

use super::queries::Query;
use crate::{
    process::{
        error::{Result, StageError},
        interrupt::Interrupt,
    },
    store::Store,
};

/// The id and the text of a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CandidateChunk {
    /// Its id.
    pub id: String,
    /// Its text.
    pub text: Arc<str>,
}

/// The ids and texts of candidates, and the ordinals of judged chunks.
#[derive(Clone, Debug, Default)]
pub struct ChunkLookup {
    /// The candidates, by ordinal.
    pub chunks: HashMap<u64, CandidateChunk>,
    /// The ordinals of the relevant chunks, by id.
    pub relevant: HashMap<String, u64>,
}

impl ChunkLookup {
    /// Reads the `files` of a collection once: looks up the chunks with these `ordinals`, and the ids that the queries
    /// mark as relevant.
    ///
    /// # Errors
    /// If a file is missing or cannot be read, a chunk is in none of them, or the run is interrupted.
    pub fn read(
        store: &Store,
        files: &[&str],
        ordinals: &BTreeSet<u64>,
        queries: &[Query],
        interrupt: &Interrupt,
    ) -> Result<Self> {
        let relevant = relevant_ids(queries);
        let mut lookup = Self::default();
        for path in files {
            interrupt.check()?;
            let file = open(store, path)?;
            scan(file, ordinals, &relevant, &mut lookup).map_err(|error| store.error("read", path, error))?;
        }
        match ordinals.iter().find(|ordinal| !lookup.chunks.contains_key(ordinal)) {
            None => Ok(lookup),
            Some(ordinal) => {
                let message = format!(
                    "candidate chunk {ordinal} is in none of the {} files of its collection ({}): the files and their \
                     candidates do not belong together; change spec.rerunToken to embed again",
                    files.len(),
                    files.first().map_or_else(String::new, |path| store.uri_of(path))
                );
                Err(StageError::new(FailureReason::StoreUnavailable, message))
            }
        }
    }

    /// The grades of a query's relevant chunks, by ordinal; without the ids that the collection does not have.
    pub fn grades(&self, query: &Query) -> BTreeMap<u64, f64> {
        let grade = |(id, grade): (&String, &f64)| Some((*self.relevant.get(id)?, *grade));
        query.relevant.iter().filter_map(grade).collect()
    }
}

/// The ids that queries mark as relevant.
fn relevant_ids(queries: &[Query]) -> BTreeSet<&str> {
    queries.iter().flat_map(|query| query.relevant.keys()).map(String::as_str).collect()
}

/// The ids that the queries mark as relevant and that are chunks of these `files`.
///
/// # Errors
/// If a file is missing or cannot be read, or the run is interrupted.
pub fn present_ids(
    store: &Store,
    files: &[&str],
    queries: &[Query],
    interrupt: &Interrupt,
) -> Result<BTreeSet<String>> {
    let relevant = relevant_ids(queries);
    let mut present = BTreeSet::new();
    for path in files {
        interrupt.check()?;
        scan_ids(open(store, path)?, &relevant, &mut present).map_err(|error| store.error("read", path, error))?;
    }
    Ok(present)
}

fn open(store: &Store, path: &str) -> Result<File> {
    store.open_file(path)?.ok_or_else(|| {
        let message = format!("{} is missing; change spec.rerunToken to embed again", store.uri_of(path));
        StageError::new(FailureReason::StoreUnavailable, message)
    })
}

/// The reader of some columns of a file.
fn columns(file: File, names: &[&str]) -> Result<ParquetRecordBatchReader, parquet::errors::ParquetError> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let roots = reader.schema().fields().iter().enumerate();
    let roots = roots.filter(|(_, field)| names.contains(&field.name().as_str()));
    let mask = ProjectionMask::roots(reader.parquet_schema(), roots.map(|(index, _)| index).collect::<Vec<_>>());
    reader.with_projection(mask).build()
}

fn scan_ids(
    file: File,
    relevant: &BTreeSet<&str>,
    present: &mut BTreeSet<String>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    for batch in columns(file, &["id"])? {
        let batch: RecordBatch = batch?;
        let ids: &StringArray =
            batch.column_by_name("id").and_then(|column| column.as_string_opt()).ok_or("no column id")?;
        present.extend(ids.iter().flatten().filter(|id| relevant.contains(id)).map(ToOwned::to_owned));
    }
    Ok(())
}

fn scan(
    file: File,
    candidates: &BTreeSet<u64>,
    relevant: &BTreeSet<&str>,
    lookup: &mut ChunkLookup,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    for batch in columns(file, &["id", "ordinal", "text"])? {
        let batch: RecordBatch = batch?;
        let text = |name: &str| -> Result<&StringArray, String> {
            let column = batch.column_by_name(name).and_then(|column| column.as_string_opt());
            column.ok_or_else(|| format!("no column {name}"))
        };
        let (ids, texts) = (text("id")?, text("text")?);
        let ordinals = batch.column_by_name("ordinal").and_then(|column| column.as_primitive_opt::<UInt64Type>());
        let ordinals = ordinals.ok_or("no column ordinal")?;
        for row in 0..batch.num_rows() {
            let (id, ordinal) = (ids.value(row), ordinals.value(row));
            if candidates.contains(&ordinal) {
                let chunk = CandidateChunk { id: id.to_owned(), text: texts.value(row).into() };
                lookup.chunks.insert(ordinal, chunk);
            }
            if relevant.contains(id) {
                lookup.relevant.insert(id.to_owned(), ordinal);
            }
        }
    }
    Ok(())
}
