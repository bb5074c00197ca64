//! From candidates to chunks: their ids and texts, the judgements as ordinals, and the file of rankings.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    sync::Arc,
};

use arrow_array::{RecordBatch, StringArray, cast::AsArray, types::UInt64Type};
use crds::{contract::FailureReason, layout};
use parquet::arrow::{ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder};
use serde::Serialize;

use super::{Commit, Run};
use crate::{
    error::{Result, StageError},
    queries::Query,
};

/// A chunk that is a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CandidateChunk {
    /// Its id.
    pub id: String,
    /// Its text.
    pub text: Arc<str>,
}

/// What the shards say about candidates and judged chunks.
#[derive(Clone, Debug, Default)]
pub struct Looked {
    /// The candidates, by ordinal.
    pub chunks: HashMap<u64, CandidateChunk>,
    /// The ordinals of the relevant chunks, by id.
    pub relevant: HashMap<String, u64>,
}

impl Looked {
    /// The grades of a query's relevant chunks, by ordinal.
    pub fn grades(&self, query: &Query) -> BTreeMap<u64, f64> {
        let grade = |(id, grade): (&String, &f64)| Some((*self.relevant.get(id)?, *grade));
        query.relevant.iter().filter_map(grade).collect()
    }
}

/// Reads the shards once for the chunks `wanted` and for the ids that the queries call relevant.
pub fn look_up(run: &Run, commits: &[&Commit], wanted: &BTreeSet<u64>, queries: &[Query]) -> Result<Looked> {
    let relevant: BTreeSet<&str> = queries.iter().flat_map(|query| query.relevant.keys()).map(String::as_str).collect();
    let mut looked = Looked::default();
    for commit in commits {
        run.interrupt.check()?;
        let file = run.store.open_file(&commit.file)?.ok_or_else(|| {
            let message = format!("{} is gone; change spec.rerunToken to embed again", run.store.uri_of(&commit.file));
            StageError::new(FailureReason::StoreUnavailable, message)
        })?;
        scan(file, wanted, &relevant, &mut looked).map_err(|error| run.store.error("read", &commit.file, error))?;
    }
    Ok(looked)
}

fn scan(
    file: File,
    wanted: &BTreeSet<u64>,
    relevant: &BTreeSet<&str>,
    looked: &mut Looked,
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
            if wanted.contains(&ordinal) {
                let chunk = CandidateChunk { id: id.to_owned(), text: texts.value(row).into() };
                looked.chunks.insert(ordinal, chunk);
            }
            if relevant.contains(id) {
                looked.relevant.insert(id.to_owned(), ordinal);
            }
        }
    }
    Ok(())
}

/// A line of the file of rankings: a query and its best chunks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ranking {
    /// The query's id.
    pub query: String,
    /// Its text.
    pub text: String,
    /// The best chunks, the best first.
    pub results: Vec<Ranked>,
}

/// A chunk of a ranking.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ranked {
    /// Its id.
    pub id: String,
    /// Its score in the last list that was made.
    pub score: f32,
    /// Its rank before the rerank, from 1; absent where there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank_before: Option<u32>,
    /// Its score before the rerank.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score_before: Option<f32>,
}

/// Writes the rankings of a collection; the answer is the path.
pub fn write(run: &Run, collection: &str, rankings: &[Ranking]) -> Result<String> {
    let path = layout::rankings(&run.config.revision, collection);
    let mut bytes = Vec::new();
    for ranking in rankings {
        serde_json::to_writer(&mut bytes, ranking).expect("a ranking has string keys and finite numbers");
        bytes.push(b'\n');
    }
    run.store.put(&path, bytes)?;
    Ok(path)
}
