//! Poolings against plain arithmetic.

use emulation::{
    Buffer, Real, run,
    test::{assert_close, floats, random, same},
};
use half::{bf16, f16};
use kernels::cuda::{
    Address, Element,
    pooling::{PackedSequences, Pool, Pooling, SelectedRow, finite, select_rows},
};

const LENGTHS: [usize; 7] = [1, 2, 15, 16, 17, 129, 3];
const POOLINGS: [Pooling; 6] =
    [Pooling::Cls, Pooling::Mean, Pooling::LastToken, Pooling::Max, Pooling::WeightedMean, Pooling::MeanSqrtLength];

fn starts(lengths: &[usize]) -> Vec<i32> {
    let mut starts = vec![0];
    for length in lengths {
        starts.push(starts[starts.len() - 1] + *length as i32);
    }
    starts
}

struct Case<T: Real> {
    pool: Pool,
    lengths: Vec<usize>,
    leading: Option<Vec<i32>>,
    x: Vec<T>,
}

impl<T: Real> Case<T> {
    fn new(pooling: Pooling, width: usize, dimensions: usize, normalise: bool) -> Self {
        let pool = Pool { element: T::ELEMENT, pooling, width, dimensions, normalise, leading: Address::ABSENT };
        let tokens: usize = LENGTHS.iter().sum();
        Self { pool, lengths: LENGTHS.to_vec(), leading: None, x: random(1, tokens * width) }
    }

    fn found(&self, shift: usize) -> Vec<f32> {
        let padded: Vec<T> = vec![T::of(0.0); shift].iter().chain(&self.x).copied().collect();
        let (x, starts) = (Buffer::of(&padded), Buffer::of(&starts(&self.lengths)));
        let leading = self.leading.as_ref().map(|leading| Buffer::of(leading));
        let out = Buffer::<f32>::new(self.lengths.len() * self.pool.dimensions);
        let pool = Pool { leading: leading.as_ref().map_or(Address::ABSENT, Buffer::address), ..self.pool };
        let sequences = PackedSequences { starts: starts.address(), count: self.lengths.len() };
        run(&pool.launch(x.address_of(shift), sequences, out.address()).expect("a launch"));
        out.read()
    }

    fn expected(&self) -> Vec<f32> {
        let Pool { pooling, width, dimensions, normalise, .. } = self.pool;
        let (x, mut out) = (floats(&self.x), Vec::new());
        for (at, range) in starts(&self.lengths).windows(2).enumerate() {
            let leading = self.leading.as_ref().map_or(0, |leading| leading[at]).min(range[1] - range[0] - 1);
            let first = range[0] + leading;
            let tokens: Vec<&[f32]> = (first..range[1]).map(|row| &x[row as usize * width..][..dimensions]).collect();
            let count = tokens.len() as f64;
            let mut pooled: Vec<f64> = (0..dimensions)
                .map(|column| {
                    let values = || tokens.iter().map(|token| f64::from(token[column]));
                    match pooling {
                        Pooling::Cls => values().next().expect("a token"),
                        Pooling::LastToken => values().next_back().expect("a token"),
                        Pooling::Mean => values().sum::<f64>() / count,
                        Pooling::MeanSqrtLength => values().sum::<f64>() / count.sqrt(),
                        Pooling::Max => {
                            values().fold(f64::MIN, |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) })
                        }
                        Pooling::WeightedMean => {
                            let weights = || (1..).skip(leading as usize).map(f64::from);
                            let weighted: f64 = values().zip(weights()).map(|(x, weight)| x * weight).sum();
                            weighted / weights().take(tokens.len()).sum::<f64>()
                        }
                    }
                })
                .collect();
            if normalise {
                let length = pooled.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-12);
                for x in &mut pooled {
                    *x /= length;
                }
            }
            out.extend(pooled.iter().map(|x| *x as f32));
        }
        out
    }

    fn check(&self, shift: usize) {
        let of = format!("{:?}, {:?}, {shift}", self.pool, self.leading);
        // The summands have the element's type, the sums are f32.
        assert_close(&self.found(shift), &self.expected(), 2e-5, &of);
    }
}

fn every_pooling<T: Real>() {
    for pooling in POOLINGS {
        for width in [1, 5, 20, 33, 64, 384, 768, 1024, 4096] {
            Case::<T>::new(pooling, width, width, false).check(0);
            Case::<T>::new(pooling, width, width, true).check(0);
        }
        for (width, dimensions) in [(64, 33), (64, 1), (33, 20), (1024, 256), (1032, 1025)] {
            Case::<T>::new(pooling, width, dimensions, true).check(0);
        }
        for normalise in [false, true] {
            let mut case = Case::<T>::new(pooling, 40, 40, normalise);
            case.leading = Some(vec![0, 2, 4, 15, 16, 200, 1]);
            case.check(0);
            case.check(1);
        }
    }
}

#[test]
fn every_pooling_of_f32() {
    every_pooling::<f32>();
}

#[test]
fn every_pooling_of_f16() {
    every_pooling::<f16>();
}

#[test]
fn every_pooling_of_bf16() {
    every_pooling::<bf16>();
}

#[test]
fn rows_alone_are_normalised() {
    let (width, dimensions) = (40, 24);
    let mut x = random::<f32>(1, 3 * width);
    x[width..2 * width].fill(0.0);
    let pool = Pool {
        element: Element::F32,
        pooling: Pooling::Cls,
        width,
        dimensions,
        normalise: true,
        leading: Address::ABSENT,
    };
    let (buffer, out) = (Buffer::of(&x), Buffer::<f32>::new(3 * dimensions));
    let rows = PackedSequences { starts: Address::ABSENT, count: 3 };
    run(&pool.launch(buffer.address(), rows, out.address()).expect("a launch"));
    let expected = x.chunks(width).flat_map(|row| {
        let length = row[..dimensions].iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
        row[..dimensions].iter().map(move |x| x / length)
    });
    assert_close(&out.read(), &expected.collect::<Vec<_>>(), 2e-5, "rows alone");
}

#[test]
fn a_sequence_alone_is_as_in_a_batch() {
    for pooling in POOLINGS {
        let batch = Case::<f16>::new(pooling, 384, 384, true);
        let together = batch.found(0);
        for ((at, range), expected) in starts(&LENGTHS).windows(2).enumerate().zip(together.chunks(384)) {
            let rows = range[0] as usize * 384..range[1] as usize * 384;
            let alone = Case { pool: batch.pool, lengths: vec![LENGTHS[at]], leading: None, x: batch.x[rows].to_vec() };
            assert!(same(&alone.found(0), expected), "{pooling:?} {at}");
        }
    }
}

#[test]
fn nan_and_infinity_show_in_their_sequence_alone() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for pooling in POOLINGS {
            for normalise in [false, true] {
                let mut case = Case::<f16>::new(pooling, 64, 64, normalise);
                let usual = case.found(0);
                // The first, the last and another token of the sequence of 15.
                for token in [3, 10, 17] {
                    case.x[token * 64 + 7] = f16::of(value);
                }
                let found = case.found(0);
                for (at, (found, usual)) in found.chunks(64).zip(usual.chunks(64)).enumerate() {
                    if at == 2 {
                        let shows = !found[7].is_finite() || (value == f32::NEG_INFINITY && pooling == Pooling::Max);
                        assert!(shows, "{pooling:?}: {}", found[7]);
                    } else {
                        assert!(same(found, usual), "{pooling:?}: sequence {at}");
                    }
                }
            }
        }
    }
}

fn kept<T: Real>() {
    for width in [1, 5, 33, 64, 384, 2000, 4096] {
        let x = random::<T>(1, LENGTHS.iter().sum::<usize>() * width);
        let starts = starts(&LENGTHS);
        let (buffer, starts_buffer) = (Buffer::of(&x), Buffer::of(&starts));
        let sequences = PackedSequences { starts: starts_buffer.address(), count: LENGTHS.len() };
        for kept in [SelectedRow::First, SelectedRow::Last] {
            let out = Buffer::<T>::new(LENGTHS.len() * width);
            let launch = select_rows(T::ELEMENT, kept, width, buffer.address(), sequences, out.address());
            run(&launch.expect("a launch"));
            let expected = starts.windows(2).flat_map(|range| {
                let row = if kept == SelectedRow::First { range[0] } else { range[1] - 1 } as usize;
                x[row * width..(row + 1) * width].to_vec()
            });
            assert!(same(&out.read(), &expected.collect::<Vec<T>>()), "{width} {kept:?}");
        }
    }
}

#[test]
fn rows_are_kept() {
    kept::<f32>();
    kept::<f16>();
    kept::<bf16>();
}

fn finite_rows<T: Real>() {
    for width in [1, 5, 33, 64, 384, 1024] {
        let mut x: Vec<T> = random(1, 11 * width);
        for (row, value) in [(2, f32::NAN), (5, f32::INFINITY), (10, f32::NEG_INFINITY)] {
            x[row * width + (row * 7) % width] = T::of(value);
        }
        let (buffer, flags) = (Buffer::of(&x), Buffer::<u32>::new(11));
        run(&finite(T::ELEMENT, [11, width], buffer.address(), flags.address()).expect("a launch"));
        assert_eq!(flags.read(), [1, 1, 0, 1, 1, 0, 1, 1, 1, 1, 0], "{:?} {width}", T::ELEMENT);
    }
}

#[test]
fn rows_that_are_not_finite_are_reported() {
    finite_rows::<f32>();
    finite_rows::<f16>();
    finite_rows::<bf16>();
}
