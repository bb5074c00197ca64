//! Exact retrieval in one shard: the best chunks of every query.
//!
//! Dense vectors are compared in their stored form, which is what readers get, and by the similarity of their model.
//! Cosines and dot products are matrix products of a block of rows with all queries; distances, which few models are made
//! for, are computed one by one. Sparse vectors are compared by dot product over an index of the queries' terms. Memory is
//! bounded by a block and the lists.

use std::collections::HashMap;

use candle_core::Device;
use crds::v1alpha1::{Precision, Similarity};
use kernels::matmul::{self, Packed};

use super::top_k::{Candidate, TopK};
use crate::{
    model::ModelError,
    ops::Nearest,
    process::{error::Result, interrupt::Interrupt},
    spill::{SparseVectors, Vectors},
    vectors::{
        Rows, SparseVector, quantize,
        similarity::{self, unit},
    },
};

/// Rows of a block on a CPU.
const BLOCK: usize = 512;
/// Rows of a block on a device, if their scores fit into [`DEVICE_SCORES`].
const DEVICE_BLOCK: usize = 16_384;
/// Scores of a block on a device: 256 MiB. Below [`BLOCK`] rows a product is not worth its launches.
const DEVICE_SCORES: usize = 64 << 20;
/// Queries that a block of rows is compared with at a time.
const QUERIES: usize = 512;

/// The options of a search.
#[derive(Clone, Copy, Debug)]
pub struct SearchOptions<'a> {
    /// The number of candidates per query.
    pub k: usize,
    /// The device that compares dense vectors.
    pub device: &'a Device,
    /// Stops the search.
    pub interrupt: &'a Interrupt,
}

/// The dense vectors of a shard, as they are stored and compared.
#[derive(Clone, Copy)]
pub struct DenseVectors<'a> {
    /// One vector per chunk.
    pub vectors: &'a Vectors,
    /// The precision in which readers get them.
    pub precision: Precision,
    /// The similarity that their model was made for.
    pub similarity: Similarity,
}

impl DenseVectors<'_> {
    /// The rows as they are compared: in their stored form, and for a cosine of length 1.
    fn comparable(self, rows: Rows) -> Rows {
        self.of_length(quantize::stored(rows, self.precision))
    }

    /// The rows, for a cosine of length 1, so that a dot product is the score.
    fn of_length(self, rows: Rows) -> Rows {
        if self.similarity == Similarity::Cosine { unit(rows) } else { rows }
    }
}

/// The best of `count` vectors for every query, by the similarity of the vectors; `first` is the ordinal of the first
/// vector. One list per query, the best first.
///
/// # Errors
/// If the vectors cannot be read, the device fails, or the run is interrupted.
pub fn dense(
    dense: DenseVectors<'_>,
    count: u64,
    first: u64,
    queries: &Rows,
    search: SearchOptions<'_>,
) -> Result<Vec<Vec<Candidate>>> {
    let SearchOptions { k, device, interrupt } = search;
    let vectors = dense.vectors;
    let width = vectors.dimensions();
    if matches!(dense.similarity, Similarity::Euclidean | Similarity::Manhattan) {
        return by_distance(dense, count, first, queries, search);
    }
    let queries = dense.of_length(queries.clone());
    let failed = |error| ModelError::device("retrieval", error);
    if let Some(nearest) = Nearest::new(queries.values(), width, k, device).map_err(failed)? {
        return on_device(nearest, dense, count, first, interrupt);
    }
    let mut top_k = TopK::new(queries.len(), k);
    let packed: Vec<(usize, Packed)> = (0..)
        .step_by(QUERIES)
        .zip(queries.values().chunks(QUERIES * width))
        .map(|(from, rows)| (from, Packed::transposed(rows, rows.len() / width, width, width)))
        .collect();
    let mut reader = vectors.reader();
    let mut scores = vec![0.0; BLOCK * QUERIES.min(queries.len())];
    let mut row = 0;
    while row < count {
        interrupt.check()?;
        let rows = BLOCK.min((count - row) as usize);
        let block = dense.comparable(reader.read(rows)?);
        for (from, packed) in &packed {
            let columns = packed.columns();
            let a = matmul::Rows { values: block.values(), count: rows, stride: width };
            matmul::product(a, packed, matmul::Epilogue::default(), &mut scores[..rows * columns], columns);
            for (ordinal, scores) in (first + row..).zip(scores.chunks_exact(columns).take(rows)) {
                for (query, score) in (*from..).zip(scores) {
                    top_k.offer(query, Candidate { ordinal, score: *score });
                }
            }
        }
        row += rows as u64;
    }
    Ok(top_k.into_lists())
}

/// [`dense`] with the kernels of a device.
fn on_device(
    mut nearest: Nearest,
    dense: DenseVectors<'_>,
    count: u64,
    first: u64,
    interrupt: &Interrupt,
) -> Result<Vec<Vec<Candidate>>> {
    let failed = |error| ModelError::device("retrieval", error);
    let mut reader = dense.vectors.reader();
    let mut row = 0;
    while row < count {
        interrupt.check()?;
        let rows = device_block(nearest.queries()).min((count - row) as usize);
        nearest = nearest.offer(dense.comparable(reader.read(rows)?).values()).map_err(failed)?;
        row += rows as u64;
    }
    let candidate = |(number, score): (u32, f32)| Candidate { ordinal: first + u64::from(number), score };
    let lists = nearest.into_lists().map_err(failed)?;
    Ok(lists.into_iter().map(|list| list.into_iter().map(candidate).collect()).collect())
}

/// [`dense`] by a distance.
fn by_distance(
    dense: DenseVectors<'_>,
    count: u64,
    first: u64,
    queries: &Rows,
    SearchOptions { k, interrupt, .. }: SearchOptions<'_>,
) -> Result<Vec<Vec<Candidate>>> {
    let mut top_k = TopK::new(queries.len(), k);
    let mut reader = dense.vectors.reader();
    let mut row = 0;
    while row < count {
        interrupt.check()?;
        let block = dense.comparable(reader.read(BLOCK.min((count - row) as usize))?);
        for (ordinal, vector) in (first + row..).zip(block.iter()) {
            for (query, query_vector) in queries.iter().enumerate() {
                let score = similarity::score(dense.similarity, query_vector, vector);
                top_k.offer(query, Candidate { ordinal, score });
            }
        }
        row += block.len() as u64;
    }
    Ok(top_k.into_lists())
}

/// Rows of a block on a device, for a number of queries.
fn device_block(queries: usize) -> usize {
    (DEVICE_SCORES / queries.max(1)).clamp(BLOCK, DEVICE_BLOCK)
}

/// The best of `count` sparse vectors for every query, by dot product, divided by the lengths of both for a cosine; `first`
/// is the ordinal of the first vector. A chunk that shares no term with a query is not among its candidates.
///
/// # Errors
/// If the vectors cannot be read, or the run is interrupted.
pub fn sparse(
    vectors: &SparseVectors,
    similarity: Similarity,
    count: u64,
    first: u64,
    queries: &[SparseVector],
    search: SearchOptions<'_>,
) -> Result<Vec<Vec<Candidate>>> {
    let SearchOptions { k, interrupt, .. } = search;
    let mut index: HashMap<u32, Vec<(usize, f32)>> = HashMap::new();
    for (query, vector) in queries.iter().enumerate() {
        for (term, weight) in vector.indices.iter().zip(&vector.values) {
            index.entry(*term).or_default().push((query, *weight));
        }
    }
    let length = |vector: &SparseVector| if similarity == Similarity::Cosine { vector.length() } else { 1.0 };
    let lengths: Vec<f32> = queries.iter().map(length).collect();
    let mut top_k = TopK::new(queries.len(), k);
    let mut scores = vec![0.0f32; queries.len()];
    let mut touched = Vec::new();
    let mut reader = vectors.reader();
    for ordinal in first..first + count {
        interrupt.check()?;
        let (_, vector) = reader.read()?;
        for (term, weight) in vector.indices.iter().zip(&vector.values) {
            for (query, query_weight) in index.get(term).into_iter().flatten() {
                if scores[*query] == 0.0 {
                    touched.push(*query);
                }
                scores[*query] += weight * query_weight;
            }
        }
        let length = length(&vector);
        for query in touched.drain(..) {
            let score = std::mem::take(&mut scores[query]) / (length * lengths[query]);
            if score > 0.0 {
                top_k.offer(query, Candidate { ordinal, score });
            }
        }
    }
    Ok(top_k.into_lists())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        ops::device::emulate,
        spill::{SparseFile, SparseSource, VectorFile},
    };

    fn reference(scores: impl Iterator<Item = f32>, first: u64, count: usize) -> Vec<u64> {
        let mut all: Vec<Candidate> =
            (first..).zip(scores).map(|(ordinal, score)| Candidate { ordinal, score }).collect();
        all.sort_by(Candidate::better_first);
        all.truncate(count);
        all.into_iter().map(|candidate| candidate.ordinal).collect()
    }

    fn ordinals(list: &[Candidate]) -> Vec<u64> {
        list.iter().map(|candidate| candidate.ordinal).collect()
    }

    #[test]
    fn many_queries_make_the_blocks_of_a_device_smaller() {
        assert_eq!([0, 1, 4096, 8192, 100_000, 1_000_000].map(device_block), [16_384, 16_384, 16_384, 8192, 671, 512]);
    }

    #[test]
    fn a_cpu_a_device_and_a_full_comparison_find_the_same_chunks() -> Result<()> {
        use Precision::{Binary, F16, F32, Int8};
        use Similarity::{Cosine, Dot, Euclidean, Manhattan};
        let (count, width, queries) = (2 * BLOCK + 37, 24, QUERIES + 5);
        let value = |seed: usize| ((seed * 2_654_435_761) % 1_000_003) as f32 / 500_000.0 - 1.0;
        // Rows of different lengths, so that a dot product orders them otherwise than a cosine.
        let length = |row: usize| 1.0 + (row % 7) as f32;
        let rows = Rows::new(width, (0..count * width).map(|at| value(at) * length(at / width)).collect());
        let query_rows = Rows::new(width, (0..queries * width).map(|seed| value(seed + 7)).collect());
        let few = Rows::new(width, query_rows.values()[..3 * width].to_vec());
        let mut file = VectorFile::new(width)?;
        file.push(&rows)?;
        let (vectors, interrupt) = (file.vectors(), Interrupt::default());
        let search = SearchOptions { k: 5, device: &Device::Cpu, interrupt: &interrupt };
        let sorted = |mut ordinals: Vec<u64>| {
            // Scores that differ by rounding alone may change places.
            ordinals.sort_unstable();
            ordinals
        };
        let mut found = Vec::new();
        for (precision, similarity) in [
            (F32, Cosine),
            (F32, Dot),
            (F32, Euclidean),
            (F32, Manhattan),
            (Int8, Dot),
            (Binary, Cosine),
            (F16, Cosine),
        ] {
            let compared = DenseVectors { vectors: &vectors, precision, similarity };
            let lists = dense(compared, count as u64, 100, &query_rows, search)?;
            let by_kernels = emulate(|| dense(compared, count as u64, 100, &few, search))?;
            for (by_kernels, by_cpu) in by_kernels.iter().zip(&lists) {
                assert_eq!(sorted(ordinals(by_kernels)), sorted(ordinals(by_cpu)), "{precision:?} {similarity}");
            }
            let stored = quantize::stored(rows.clone(), precision);
            for query in [0, 1, QUERIES - 1, QUERIES, queries - 1] {
                let score = |row| similarity::score(similarity, row, query_rows.row(query));
                let expected = reference(stored.iter().map(score), 100, 5);
                assert_eq!(
                    sorted(ordinals(&lists[query])),
                    sorted(expected),
                    "{precision:?} {similarity} query {query}"
                );
                for candidate in &lists[query] {
                    let expected = score(stored.row((candidate.ordinal - 100) as usize));
                    assert!((candidate.score - expected).abs() < 1e-4, "{} and {expected}", candidate.score);
                }
            }
            found.push(lists.iter().map(|list| ordinals(list)).collect::<Vec<_>>());
        }
        // No two of them agree, so that each was computed as it is named; half floats alone may order as floats do.
        for (index, lists) in found[..6].iter().enumerate() {
            assert!(!found[..index].contains(lists), "{index}");
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn an_index_of_the_queries_finds_what_dot_products_find(
            weights in prop::collection::vec(prop::collection::vec(prop::option::of(0.1f32..2.0), 12), 1..30),
            query_weights in prop::collection::vec(prop::collection::vec(prop::option::of(0.1f32..2.0), 12), 1..5),
        ) {
            let vector = |weights: &Vec<Option<f32>>| {
                let entries = (0..).zip(weights).filter_map(|(id, weight)| weight.map(|weight| (id, weight)));
                SparseVector::of_entries(entries, 0.0, None)
            };
            let rows: Vec<SparseVector> = weights.iter().map(vector).collect();
            let queries: Vec<SparseVector> = query_weights.iter().map(vector).collect();
            let mut file = SparseFile::new().expect("a file");
            for row in &rows {
                file.push(SparseSource::Model, row).expect("written");
            }
            file.flush().expect("written");
            let file = file.vectors();
            let interrupt = Interrupt::default();
            let search = SearchOptions { k: 40, device: &Device::Cpu, interrupt: &interrupt };
            for similarity in [Similarity::Dot, Similarity::Cosine] {
                let lists = sparse(&file, similarity, rows.len() as u64, 0, &queries, search).expect("lists");
                for (query, list) in queries.iter().zip(&lists) {
                    prop_assert!(list.is_sorted_by(|left, right| left.better_first(right).is_lt()));
                    prop_assert_eq!(list.len(), rows.iter().filter(|row| row.dot(query) > 0.0).count());
                    for candidate in list {
                        let row = &rows[candidate.ordinal as usize];
                        let lengths =
                            if similarity == Similarity::Cosine { row.length() * query.length() } else { 1.0 };
                        prop_assert!((row.dot(query) / lengths - candidate.score).abs() < 1e-4);
                    }
                }
            }
        }
    }
}
