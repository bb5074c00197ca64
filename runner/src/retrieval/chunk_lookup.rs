//! Looks up chunks in the files of a collection: the ids and texts of candidates, and the ordinals of relevant ids.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    sync::Arc,
};

use arrow_array::{RecordBatch, StringArray, cast::AsArray, types::UInt64Type};
use crds::contract::FailureReason;
use parquet::arrow::{ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder};

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
    /// If a file is missing or cannot be read, or the run is interrupted.
    pub fn read(
        store: &Store,
        files: &[&str],
        ordinals: &BTreeSet<u64>,
        queries: &[Query],
        interrupt: &Interrupt,
    ) -> Result<Self> {
        let relevant: BTreeSet<&str> =
            queries.iter().flat_map(|query| query.relevant.keys()).map(String::as_str).collect();
        let mut lookup = Self::default();
        for path in files {
            interrupt.check()?;
            let file = store.open_file(path)?.ok_or_else(|| {
                let message = format!("{} is missing; run again to embed its shard again", store.uri_of(path));
                StageError::new(FailureReason::StoreUnavailable, message)
            })?;
            scan(file, ordinals, &relevant, &mut lookup).map_err(|error| store.error("read", path, error))?;
        }
        Ok(lookup)
    }

    /// The grades of a query's relevant chunks, by ordinal; without the ids that the collection does not have.
    pub fn grades(&self, query: &Query) -> BTreeMap<u64, f64> {
        let grade = |(id, grade): (&String, &f64)| Some((*self.relevant.get(id)?, *grade));
        query.relevant.iter().filter_map(grade).collect()
    }
}

fn scan(
    file: File,
    candidates: &BTreeSet<u64>,
    relevant: &BTreeSet<&str>,
    lookup: &mut ChunkLookup,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let roots = reader.schema().fields().iter().enumerate();
    let roots = roots.filter(|(_, field)| ["id", "ordinal", "text"].contains(&field.name().as_str()));
    let mask = ProjectionMask::roots(reader.parquet_schema(), roots.map(|(index, _)| index).collect::<Vec<_>>());
    for batch in reader.with_projection(mask).build()? {
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
