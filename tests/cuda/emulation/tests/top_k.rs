//! Lists of the best candidates, against sorting all candidates.

use emulation::{
    Buffer, Real, run,
    test::{Random, random},
};
use half::{bf16, f16};
use kernels::cuda::{
    Address, Element,
    top_k::{Lists, MAX_CANDIDATES, Scores},
};

/// Merges tiles in this `order`. `tiles` has the number of documents of each tile; a tile's documents follow those of
/// the tile before it.
fn found<T: Real>(scores: &[Vec<T>], most: usize, tiles: &[usize], order: &[usize], first: u32) -> Vec<(u32, u32)> {
    let queries = scores.len();
    let (values, ordinals) = (Buffer::<f32>::new(queries * most), Buffer::<u32>::new(queries * most));
    let lists = Lists { values: values.address(), ordinals: ordinals.address(), queries, most };
    run(&lists.start().expect("a launch"));
    for (at, tile) in order.iter().enumerate() {
        let start: usize = tiles[..*tile].iter().sum();
        let documents = tiles[*tile];
        // Rows that can be read as vectors, and rows that cannot.
        let stride = if at % 2 == 0 { documents.next_multiple_of(8) } else { documents + 3 };
        let padded = scores.iter().flat_map(|row| {
            let padding = vec![T::of(100.0); stride - documents];
            row[start..start + documents].iter().copied().chain(padding)
        });
        let buffer = Buffer::of(&padded.collect::<Vec<T>>());
        let of =
            Scores { element: T::ELEMENT, scores: buffer.address(), documents, stride, first: first + start as u32 };
        run(&lists.merge(of).expect("a launch"));
    }
    values.read().into_iter().map(f32::to_bits).zip(ordinals.read()).collect()
}

fn expected<T: Real>(scores: &[Vec<T>], most: usize, first: u32) -> Vec<(u32, u32)> {
    let list = |row: &Vec<T>| {
        let mut all: Vec<(f32, u32)> = row.iter().map(|score| score.to_f32()).zip(first..).collect();
        let place = |score: f32| (!score.is_nan(), if score.is_nan() { 0.0 } else { score });
        all.sort_by(|(a, i), (b, j)| {
            let ((a_number, a), (b_number, b)) = (place(*a), place(*b));
            a_number.cmp(&b_number).then(b.total_cmp(&a)).then(i.cmp(j))
        });
        all.truncate(most);
        all.resize(most, (f32::NEG_INFINITY, u32::MAX));
        all.into_iter().map(|(score, ordinal)| (if score.is_nan() { 0x7fff_ffff } else { score.to_bits() }, ordinal))
    };
    scores.iter().flat_map(list).collect()
}

fn check<T: Real>(scores: &[Vec<T>], most: usize, tiles: &[usize], first: u32) {
    let of = format!("{:?}, at most {most} of {tiles:?}", T::ELEMENT);
    let expected = expected(scores, most, first);
    let forwards: Vec<usize> = (0..tiles.len()).collect();
    let backwards: Vec<usize> = forwards.iter().rev().copied().collect();
    assert!(found(scores, most, tiles, &forwards, first) == expected, "{of}");
    assert!(found(scores, most, tiles, &backwards, first) == expected, "{of}, backwards");
}

fn drawn<T: Real>(queries: usize, documents: usize) -> Vec<Vec<T>> {
    (0..queries).map(|query| random(query as u64, documents)).collect()
}

fn every_length<T: Real>() {
    for most in [1, 2, 3, 10, 64, 100, 1000, MAX_CANDIDATES] {
        for tiles in [&[1][..], &[5, 3], &[129, 1024, 700], &[5000], &[2, 4099, 17]] {
            check::<T>(&drawn(3, tiles.iter().sum()), most, tiles, 7);
        }
    }
}

#[test]
fn every_length_of_f32() {
    every_length::<f32>();
}

#[test]
fn every_length_of_f16() {
    every_length::<f16>();
}

#[test]
fn every_length_of_bf16() {
    every_length::<bf16>();
}

#[test]
fn equal_scores_go_by_ordinal() {
    let mut draw = Random::new(1);
    let scores = (0..4).map(|kinds| (0..3000).map(|_| draw.below(kinds + 1) as f32).collect()).collect::<Vec<_>>();
    for most in [1, 5, 100, 1024] {
        check::<f32>(&scores, most, &[700, 2000, 300], 0);
    }
}

#[test]
fn ascending_and_descending_scores() {
    let rising: Vec<f32> = (0..6000).map(|at| at as f32).collect();
    let falling: Vec<f32> = rising.iter().map(|score| -score).collect();
    let scores = [rising, falling];
    for most in [1, 7, 1024] {
        check::<f32>(&scores, most, &[6000], 0);
        check::<f32>(&scores, most, &[1000, 5000], 0);
    }
}

#[test]
fn nan_comes_first_and_infinities_and_zeros_are_in_their_place() {
    let mut scores = drawn::<f32>(2, 2000);
    let nan = [f32::NAN, -f32::NAN];
    scores[0][50..52].copy_from_slice(&nan);
    scores[0][1500..1506].copy_from_slice(&[f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, f32::NAN, 2.0]);
    scores[1].fill(f32::NEG_INFINITY);
    scores[1][7..9].copy_from_slice(&[-0.0, 0.0]);
    for most in [1, 4, 9, 1024] {
        check::<f32>(&scores, most, &[1000, 1000], 3);
    }
    check::<f32>(&scores, 1024, &[500, 500, 1000], 3);
}

#[test]
fn the_last_ordinals() {
    check::<f16>(&drawn(2, 300), 20, &[100, 200], u32::MAX - 300);
}

#[test]
fn no_queries_or_documents_need_no_launch() {
    let lists = Lists { values: Address(256), ordinals: Address(512), queries: 0, most: 5 };
    let of = Scores { element: Element::F32, scores: Address(1024), documents: 5, stride: 5, first: 0 };
    assert_eq!((lists.start(), lists.merge(of)), (None, None));
    let lists = Lists { queries: 3, ..lists };
    assert_eq!(lists.merge(Scores { documents: 0, ..of }), None);
}
