//! The candidates of a shard as a Parquet file, and the files of all shards merged into the candidates of a collection.
//!
//! The columns are `retriever` (an index into the retrievers of the commit marker), `query` (an index), `ordinal` (the
//! number of the chunk in its collection) and `score`; one row per candidate.

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
    candidates::{CandidateLists, Retriever},
    top_k::{Candidate, TopK},
};
use crate::{
    process::error::{Result, StageError},
    store::Store,
};

/// The file of a shard's candidates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CandidateFile {
    /// Its path, relative to the root of the output.
    pub path: String,
    /// Its size in bytes; markers of version 2 do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The sha256 of its bytes, in hexadecimal; markers of version 2 do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The retrievers; the column `retriever` of the file is an index into this list.
    pub retrievers: Vec<Retriever>,
    /// The number of queries.
    pub queries: u32,
}

/// Writes the candidates of a shard, first to `part`, then to the path that `name` makes of their sha256.
///
/// # Errors
/// If the store fails.
pub fn write(
    store: &Store,
    part: &str,
    name: impl FnOnce(&str) -> String,
    retrieved: &[CandidateLists],
) -> Result<CandidateFile> {
    let (mut retrievers, mut queries) = (Vec::<u16>::new(), Vec::<u32>::new());
    let (mut ordinals, mut scores) = (Vec::<u64>::new(), Vec::<f32>::new());
    for (retriever, CandidateLists { lists, .. }) in (0u16..).zip(retrieved) {
        for (query, list) in (0u32..).zip(lists) {
            for candidate in list {
                retrievers.push(retriever);
                queries.push(query);
                ordinals.push(candidate.ordinal);
                scores.push(candidate.score);
            }
        }
    }
    let field = |name: &str, data_type: DataType| Field::new(name, data_type, false);
    let schema = Arc::new(Schema::new(vec![
        field("retriever", DataType::UInt16),
        field("query", DataType::UInt32),
        field("ordinal", DataType::UInt64),
        field("score", DataType::Float32),
    ]));
    let upload = store.upload(part)?;
    let encoding_error = |error: parquet::errors::ParquetError| {
        StageError::new(FailureReason::Internal, format!("cannot encode {}", store.uri_of(part))).caused_by(error)
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
    .map_err(|error| encoding_error(error.into()))?;
    let mut writer = ArrowWriter::try_new(upload, schema, None).map_err(encoding_error)?;
    writer.write(&batch).map_err(encoding_error)?;
    let upload = writer.into_inner().map_err(encoding_error)?;
    let written = upload.finish().map_err(|error| store.error("write", part, error))?;
    let path = name(&written.sha256);
    store.rename(part, &path, written.bytes)?;
    Ok(CandidateFile {
        path,
        bytes: Some(written.bytes),
        sha256: Some(written.sha256),
        retrievers: retrieved.iter().map(|lists| lists.retriever.clone()).collect(),
        queries: retrieved.first().map_or(0, |candidates| candidates.lists.len() as u32),
    })
}

/// The best `k` candidates of every retriever and query over the files of all shards. The retrievers are in the order
/// of the first file that has them.
///
/// # Errors
/// If a file is missing, cannot be read, or does not match its commit marker.
pub fn merge(store: &Store, files: &[&CandidateFile], k: usize) -> Result<Vec<CandidateLists>> {
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
            let message = format!("{} is missing; run again to embed its shard again", store.uri_of(&file.path));
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

    fn candidates(model: &str, lists: &[&[(u64, f32)]]) -> CandidateLists {
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
        let first_shard =
            [candidates("a", &[&[(1, 0.9), (0, 0.1)], &[]]), candidates("b", &[&[(1, 3.0)], &[(0, 2.0)]])];
        let second_shard = [candidates("a", &[&[(7, 0.5)], &[(8, 0.2)]]), candidates("b", &[&[], &[(9, 2.0)]])];
        let file = |shard: &str, lists: &[CandidateLists]| {
            write(&store, &format!("{shard}.part"), |sha256| format!("{shard}-{sha256}"), lists).expect("written")
        };
        let files = [file("s0", &first_shard), file("s1", &second_shard)];
        assert!(files[0].sha256.as_ref().is_some_and(|sha256| files[0].path == format!("s0-{sha256}")));
        assert_eq!(store.size(&files[0].path).expect("a look"), files[0].bytes);
        assert_eq!(store.size("s0.part").expect("a look"), None);
        let merged = merge(&store, &[&files[0], &files[1]], 2).expect("merged");
        let expected = [
            candidates("a", &[&[(1, 0.9), (7, 0.5)], &[(8, 0.2)]]),
            candidates("b", &[&[(1, 3.0)], &[(0, 2.0), (9, 2.0)]]),
        ];
        assert_eq!(merged, expected);
        store.delete(&files[1].path).expect("deleted");
        let error = merge(&store, &[&files[0], &files[1]], 2).expect_err("a missing file").sentence();
        assert!(error.contains(&format!("file:///out/{} is missing", files[1].path)), "{error}");
    }
}
