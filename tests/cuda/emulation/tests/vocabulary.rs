//! Scores of a vocabulary to sparse vectors, against plain arithmetic.

use emulation::{
    Buffer, Real, run,
    test::{Random, assert_close, random},
};
use half::{bf16, f16};
use kernels::cuda::{
    Address,
    pooling::PackedSequences,
    vocabulary::{Entries, EntryCounts, Selection, Tile, count, offsets, write},
};

const LENGTHS: [usize; 7] = [1, 2, 15, 16, 17, 129, 3];

fn starts(lengths: &[usize]) -> Vec<i32> {
    let mut starts = vec![0];
    for length in lengths {
        starts.push(starts[starts.len() - 1] + *length as i32);
    }
    starts
}

fn larger(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) }
}

/// All tiles of a vocabulary, each with its own buffer of scores.
fn tiles<T: Real>(entries: usize, tile: usize, biased: bool, logarithm: bool, broken: Option<(usize, f32)>) {
    let sequences = starts(&LENGTHS);
    let tokens = LENGTHS.iter().sum::<usize>();
    let mut scores: Vec<T> = random::<T>(1, tokens * entries).iter().map(|x| T::of(x.to_f32() * 4.0)).collect();
    if let Some((at, value)) = broken {
        scores[at] = T::of(value);
    }
    let bias: Vec<f32> = random::<f32>(2, entries).iter().map(|x| x * 3.0 - 3.0).collect();
    let (starts_buffer, bias_buffer) = (Buffer::of(&sequences), Buffer::of(&bias));
    let out = Buffer::<f32>::new(LENGTHS.len() * entries);
    for first in (0..entries).step_by(tile) {
        let width = tile.min(entries - first);
        // Rows that can be read as vectors, and rows without a gap.
        let stride = if first % 2 == 0 { width.next_multiple_of(8) } else { width };
        let gap = vec![T::of(f32::NAN); stride - width];
        let rows = scores.chunks(entries).map(|row| [&row[first..first + width], &gap[..]].concat());
        let part = rows.collect::<Vec<_>>().concat();
        let part = Buffer::of(&part);
        let ranges = PackedSequences { starts: starts_buffer.address(), count: LENGTHS.len() };
        let bias = if biased { bias_buffer.address() } else { Address::ABSENT };
        let tile = Tile { element: T::ELEMENT, first, width, stride, entries, logarithm };
        run(&tile.launch(part.address(), ranges, bias, out.address()).expect("a launch"));
    }
    let expected = sequences.windows(2).flat_map(|range| {
        let score = |token: i32, entry: usize| scores[token as usize * entries + entry].to_f32();
        (0..entries).map(move |entry| (range[0]..range[1]).map(|token| score(token, entry)).fold(f32::MIN, larger))
    });
    let expected = expected.enumerate().map(|(at, score)| {
        let score = score + if biased { bias[at % entries] } else { 0.0 };
        match logarithm {
            true if score.is_nan() => score,
            true => score.max(0.0).ln_1p(),
            false => score,
        }
    });
    let of = format!("{:?}, {entries} entries by {tile}, {biased} {logarithm} {broken:?}", T::ELEMENT);
    assert_close(&out.read(), &expected.collect::<Vec<_>>(), 2e-6, &of);
}

fn every_tile<T: Real>() {
    for (entries, tile) in [(1, 1), (20, 20), (33, 8), (300, 256), (1000, 384), (1000, 1000), (1030, 515), (77, 19)] {
        tiles::<T>(entries, tile, true, true, None);
        tiles::<T>(entries, tile, false, false, None);
    }
}

#[test]
fn every_tile_of_f32() {
    every_tile::<f32>();
}

#[test]
fn every_tile_of_f16() {
    every_tile::<f16>();
}

#[test]
fn every_tile_of_bf16() {
    every_tile::<bf16>();
}

#[test]
fn nan_and_infinity_show() {
    for value in [f32::NAN, f32::INFINITY] {
        for at in [0, 40 * 64 + 7, 182 * 64 + 63] {
            tiles::<f16>(64, 64, true, true, Some((at, value)));
            tiles::<f32>(64, 33, true, true, Some((at, value)));
        }
    }
}

/// The selected entries by ascending index, as on the CPU.
fn kept(weights: &[f32], threshold: f32, most: Option<usize>) -> Vec<(u32, f32)> {
    let mut entries: Vec<(u32, f32)> =
        (0..).zip(weights.iter().copied()).filter(|(_, weight)| *weight > threshold).collect();
    if let Some(most) = most.filter(|most| *most < entries.len()) {
        entries.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        entries.truncate(most);
        entries.sort_unstable_by_key(|(index, _)| *index);
    }
    entries
}

fn selected(weights: &[f32], entries: usize, threshold: f32, most: Option<usize>) {
    let rows = weights.len() / entries;
    let buffer = Buffer::of(weights);
    let (counts, cuts, finite) = (Buffer::<u32>::new(rows), Buffer::<u32>::new(2 * rows), Buffer::<u32>::new(rows));
    let offset = Buffer::<i64>::new(rows + 1);
    let selection = Selection { weights: buffer.address(), rows, entries, threshold, most };
    let counted = EntryCounts { counts: counts.address(), cuts: cuts.address(), finite: finite.address() };
    run(&count(selection, counted).expect("a launch"));
    run(&offsets(rows, counts.address(), offset.address()).expect("a launch"));

    let of = format!("{rows} rows of {entries}, above {threshold}, at most {most:?}");
    let expected: Vec<Vec<(u32, f32)>> = weights.chunks(entries).map(|row| kept(row, threshold, most)).collect();
    let lengths: Vec<u32> = expected.iter().map(|row| row.len() as u32).collect();
    assert_eq!(counts.read(), lengths, "{of}");
    let sums = lengths.iter().scan(0, |sum, length| {
        *sum += i64::from(*length);
        Some(*sum)
    });
    assert_eq!(offset.read(), [0].into_iter().chain(sums).collect::<Vec<_>>(), "{of}");
    let is_finite = |row: &[f32]| u32::from(row.iter().all(|weight| weight.is_finite()));
    assert_eq!(finite.read(), weights.chunks(entries).map(is_finite).collect::<Vec<_>>(), "{of}");

    let expected: Vec<(u32, f32)> = expected.into_iter().flatten().collect();
    // With capacity for all entries, and for half of them.
    for capacity in [expected.len(), expected.len() / 2] {
        let (indices, values) = (Buffer::<u32>::new(capacity), Buffer::<f32>::new(capacity));
        let to = Entries { indices: indices.address(), values: values.address(), capacity };
        let Some(launch) = write(selection, cuts.address(), offset.address(), to) else {
            assert_eq!(capacity, 0, "{of}");
            continue;
        };
        run(&launch);
        let found = indices.read().into_iter().zip(values.read().into_iter().map(f32::to_bits));
        let bits = expected[..capacity].iter().map(|(index, value)| (*index, value.to_bits()));
        assert_eq!(found.collect::<Vec<_>>(), bits.collect::<Vec<_>>(), "{of}");
    }
}

/// Weights, most of them 0 and many equal.
fn weights(seed: u64, rows: usize, entries: usize, dense: usize) -> Vec<f32> {
    let mut draw = Random::new(seed);
    let mut weight = || if draw.below(100) < dense { draw.below(40) as f32 / 16.0 } else { 0.0 };
    (0..rows * entries).map(|_| weight()).collect()
}

#[test]
fn entries_above_a_threshold_are_kept() {
    for (rows, entries) in [(1, 1), (3, 20), (5, 33), (2, 1024), (3, 1025), (4, 5000), (600, 7)] {
        for dense in [0, 3, 60, 100] {
            for threshold in [0.0, 1.0, 100.0] {
                selected(&weights(1, rows, entries, dense), entries, threshold, None);
            }
        }
    }
}

#[test]
fn the_largest_weights_are_kept() {
    for (rows, entries) in [(1, 1), (3, 20), (5, 33), (3, 1025), (4, 5000)] {
        for most in [0, 1, 2, 17, 256, 1000, 4999, 5000, 9000] {
            selected(&weights(2, rows, entries, 60), entries, 0.0, Some(most));
            // All different, and below 0 too.
            selected(&random(3, rows * entries), entries, -0.5, Some(most));
            // All equal.
            selected(&vec![0.75; rows * entries], entries, 0.0, Some(most));
        }
    }
}

#[test]
fn weights_that_are_not_finite_are_reported() {
    let mut weights = weights(4, 6, 2000, 10);
    (weights[5], weights[2 * 2000 + 1999], weights[4 * 2000]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
    selected(&weights, 2000, 0.0, None);
    selected(&weights, 2000, 0.0, Some(3));
}

#[test]
fn signed_zeros_are_ordered() {
    let weights = [0.0, -0.0, 0.0, -0.0, -1.0];
    for most in 0..5 {
        selected(&weights, 5, -0.5, Some(most));
    }
}
