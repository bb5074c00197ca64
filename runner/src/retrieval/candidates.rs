//! The candidates of every query: found in a shard, stored beside its vectors, merged over the shards of a collection.

use std::{collections::BTreeMap, fs::File, io, sync::Arc};

use arrow_array::{
    Float32Array, RecordBatch, UInt16Array, UInt32Array, UInt64Array,
    cast::AsArray,
    types::{Float32Type, UInt16Type, UInt32Type, UInt64Type},
};
use arrow_schema::{DataType, Field, Schema};
use crds::contract::FailureReason;
use parquet::arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder};
use serde::{Deserialize, Serialize};

use super::{
    exact::{self, SearchOptions},
    top_k::{Candidate, TopK},
};
use crate::{
    pass::{DenseOutput, SparseOutput},
    process::error::{Result, StageError},
    spill::{Chunks, Vectors},
    store::Store,
    vectors::{
        Rows,
        fusion::{self, VectorFusion},
    },
};

/// The source of a list of candidates.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retriever {
    /// `dense`, `sparse` or `fused`.
    pub stage: String,
    /// The model; none for the fused vector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// The candidates of one retriever: a list per query.
#[derive(Clone, Debug, PartialEq)]
pub struct CandidateLists {
    /// Their retriever.
    pub retriever: Retriever,
    /// A list per query, the best first.
    pub lists: Vec<Vec<Candidate>>,
}

/// The file of a shard's candidates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CandidateFile {
    /// Its path, from the root of the output.
    pub path: String,
    /// The retrievers; the column `retriever` of the file is an index into this list.
    pub retrievers: Vec<Retriever>,
    /// The number of queries.
    pub queries: u32,
}

/// The fused vectors of a shard.
pub struct FusedVectors<'a> {
    /// The fusion; the vectors of the queries are fused in the same way.
    pub fusion: &'a VectorFusion,
    /// One vector per chunk.
    pub vectors: &'a Vectors,
}

/// Finds the best chunks of a shard for every query, with every retriever that has vectors of the chunks and of the queries.
/// `first` is the ordinal of the first chunk.
pub fn find(
    chunks: &Chunks,
    first: u64,
    dense: &[DenseOutput],
    fused: Option<&FusedVectors<'_>>,
    sparse: &[SparseOutput],
    options: SearchOptions<'_>,
) -> Result<Vec<CandidateLists>> {
    let named = |stage: &str, model: Option<&str>| Retriever { stage: stage.into(), model: model.map(Into::into) };
    let count = chunks.count();
    let mut found = Vec::new();
    for output in dense {
        let lists = exact::dense(&output.column.vectors, count, first, &output.queries, options)?;
        found.push(CandidateLists { retriever: named("dense", Some(&output.column.name)), lists });
    }
    if let Some(fused) = fused {
        let models: Vec<Rows> = dense.iter().map(|output| output.queries.clone()).collect();
        let queries = fused.fusion.fuse(&models);
        let lists = exact::dense(fused.vectors, count, first, &queries, options)?;
        found.push(CandidateLists { retriever: named(fusion::COLUMN, None), lists });
    }
    for output in sparse {
        if let (Some(column), Some(queries)) = (&output.column, &output.queries) {
            let lists = exact::sparse(&column.vectors, count, first, queries, options)?;
            found.push(CandidateLists { retriever: named("sparse", Some(&column.name)), lists });
        }
    }
    Ok(found)
}

/// Writes the candidates of a shard.
pub fn write(store: &Store, path: &str, found: &[CandidateLists]) -> Result<CandidateFile> {
    let (mut retrievers, mut queries) = (Vec::<u16>::new(), Vec::<u32>::new());
    let (mut ordinals, mut scores) = (Vec::<u64>::new(), Vec::<f32>::new());
    for (number, found) in (0u16..).zip(found) {
        for (query, list) in (0u32..).zip(&found.lists) {
            for candidate in list {
                retrievers.push(number);
                queries.push(query);
                ordinals.push(candidate.ordinal);
                scores.push(candidate.score);
            }
        }
    }
    let field = |name: &str, of: DataType| Field::new(name, of, false);
    let schema = Arc::new(Schema::new(vec![
        field("retriever", DataType::UInt16),
        field("query", DataType::UInt32),
        field("ordinal", DataType::UInt64),
        field("score", DataType::Float32),
    ]));
    let upload = store.upload(path)?;
    let encoding = |error: parquet::errors::ParquetError| {
        StageError::new(FailureReason::Internal, format!("cannot encode {}", store.uri_of(path))).caused_by(error)
    };
    let batch = RecordBatch::try_new(
        Arc::clone(&schema),
        vec![
            Arc::new(UInt16Array::from(retrievers)),
            Arc::new(UInt32Array::from(queries)),
            Arc::new(UInt64Array::from(ordinals)),
            Arc::new(Float32Array::from(scores)),
        ],
    )
    .map_err(|error| encoding(error.into()))?;
    let mut writer = ArrowWriter::try_new(upload, schema, None).map_err(encoding)?;
    writer.write(&batch).map_err(encoding)?;
    let upload = writer.into_inner().map_err(encoding)?;
    upload.finish().map_err(|error| store.error("write", path, error))?;
    Ok(CandidateFile {
        path: path.to_owned(),
        retrievers: found.iter().map(|found| found.retriever.clone()).collect(),
        queries: found.first().map_or(0, |found| found.lists.len() as u32),
    })
}

/// The best `k` candidates of every retriever and query over the files of all shards.
pub fn merge(store: &Store, files: &[&CandidateFile], k: usize) -> Result<Vec<CandidateLists>> {
    // In the order of the first file that has them.
    let mut order: Vec<Retriever> = Vec::new();
    let mut best: BTreeMap<Retriever, TopK> = BTreeMap::new();
    for file in files {
        for retriever in &file.retrievers {
            if !best.contains_key(retriever) {
                order.push(retriever.clone());
                best.insert(retriever.clone(), TopK::new(file.queries as usize, k));
            }
        }
        let opened = store.open_file(&file.path)?.ok_or_else(|| {
            let message = format!("{} is missing; change spec.rerunToken to embed again", store.uri_of(&file.path));
            StageError::new(FailureReason::StoreUnavailable, message)
        })?;
        read(opened, file, &mut best).map_err(|error| store.error("read", &file.path, error))?;
    }
    let lists = |retriever: Retriever| {
        let lists = best.remove(&retriever).map(TopK::into_lists).unwrap_or_default();
        CandidateLists { retriever, lists }
    };
    Ok(order.into_iter().map(lists).collect())
}

fn read(
    opened: File,
    file: &CandidateFile,
    best: &mut BTreeMap<Retriever, TopK>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mismatch = || io::Error::other("the file does not match its commit marker");
    for batch in ParquetRecordBatchReaderBuilder::try_new(opened)?.build()? {
        let batch = batch?;
        let column = |name: &str| batch.column_by_name(name).ok_or_else(mismatch);
        let retrievers = column("retriever")?.as_primitive_opt::<UInt16Type>().ok_or_else(mismatch)?;
        let queries = column("query")?.as_primitive_opt::<UInt32Type>().ok_or_else(mismatch)?;
        let ordinals = column("ordinal")?.as_primitive_opt::<UInt64Type>().ok_or_else(mismatch)?;
        let scores = column("score")?.as_primitive_opt::<Float32Type>().ok_or_else(mismatch)?;
        for row in 0..batch.num_rows() {
            let retriever = file.retrievers.get(retrievers.value(row) as usize).ok_or_else(mismatch)?;
            let query = queries.value(row);
            if query >= file.queries {
                return Err(mismatch().into());
            }
            let candidate = Candidate { ordinal: ordinals.value(row), score: scores.value(row) };
            best.get_mut(retriever).ok_or_else(mismatch)?.offer(query as usize, candidate);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crds::contract::Place;

    use super::*;
    use crate::store::{self, Access};

    fn found(model: &str, lists: &[&[(u64, f32)]]) -> CandidateLists {
        let list = |list: &&[(u64, f32)]| list.iter().map(|&(ordinal, score)| Candidate { ordinal, score }).collect();
        CandidateLists {
            retriever: Retriever { stage: "dense".into(), model: Some(model.into()) },
            lists: lists.iter().map(list).collect(),
        }
    }

    #[test]
    fn lists_of_shards_become_the_lists_of_the_collection() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = Place { path: folder.path().to_string_lossy().into(), uri: "file:///out".into() };
        let store = store::open(&place, Access::Write).expect("a store");
        let one = [found("a", &[&[(1, 0.9), (0, 0.1)], &[]]), found("b", &[&[(1, 3.0)], &[(0, 2.0)]])];
        let other = [found("a", &[&[(7, 0.5)], &[(8, 0.2)]]), found("b", &[&[], &[(9, 2.0)]])];
        let files = [write(&store, "s0", &one).expect("written"), write(&store, "s1", &other).expect("written")];
        let merged = merge(&store, &[&files[0], &files[1]], 2).expect("merged");
        let expected =
            [found("a", &[&[(1, 0.9), (7, 0.5)], &[(8, 0.2)]]), found("b", &[&[(1, 3.0)], &[(0, 2.0), (9, 2.0)]])];
        assert_eq!(merged, expected);
        store.delete("s1").expect("deleted");
        let error = merge(&store, &[&files[0], &files[1]], 2).expect_err("gone").sentence();
        assert!(error.contains("file:///out/s1 is missing"), "{error}");
    }
}
