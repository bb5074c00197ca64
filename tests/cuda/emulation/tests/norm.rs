//! Sums and norms against plain arithmetic.

use emulation::{
    Buffer, Real, run,
    test::{assert_close, floats, random, same},
};
use half::{bf16, f16};
use kernels::cuda::{
    Address, Element,
    norm::{Kind, Norm, Outputs, Rows, Summands, norm},
};

const WIDTHS: [usize; 11] = [1, 5, 20, 33, 64, 384, 513, 768, 1024, 1032, 4096];
/// A single column has no variance: without ε only its rounding would be left.
const EPSILON: f32 = 1e-3;

fn tolerance<T: Real>() -> f32 {
    match T::ELEMENT {
        Element::F32 => 2e-5,
        Element::F16 => 2e-3,
        Element::Bf16 => 1.5e-2,
    }
}

/// A case of a norm and its inputs.
struct Case<T: Real> {
    rows: Rows,
    kind: Kind,
    x: Vec<T>,
    bias: Option<Vec<f32>>,
    residual: Option<Vec<T>>,
    added: Option<Vec<T>>,
    weight: Vec<f32>,
    norm_bias: Option<Vec<f32>>,
}

impl<T: Real> Case<T> {
    fn new(rows: Rows, kind: Kind) -> Self {
        let len = rows.count * rows.stride;
        Self {
            rows,
            kind,
            // Far from 0, so that the variance is small against the mean.
            x: random::<T>(1, len).iter().map(|x| T::of(x.to_f32() + 3.0)).collect(),
            bias: None,
            residual: None,
            added: None,
            weight: random(2, rows.width),
            norm_bias: None,
        }
    }

    fn everything(mut self) -> Self {
        let len = self.x.len();
        self.bias = Some(random(3, self.rows.groups * self.rows.width));
        self.residual = Some(random(4, len));
        self.added = Some(random(5, len));
        self.norm_bias = Some(random(6, self.rows.width));
        self
    }

    /// The sums and the normalised rows of the kernel; inputs are `shift` values after the start of an allocation.
    fn found(&self, in_place: bool, shift: usize) -> (Vec<T>, Vec<T>) {
        let place = |values: &[T]| {
            let padded: Vec<T> = vec![T::of(0.0); shift].iter().chain(values).copied().collect();
            Buffer::of(&padded)
        };
        let optional = |values: &Option<Vec<f32>>| values.as_ref().map(|values| Buffer::of(values));
        let address = |buffer: &Option<Buffer<f32>>| buffer.as_ref().map_or(Address::ABSENT, Buffer::address);
        let (x, weight, sum) = (place(&self.x), Buffer::of(&self.weight), Buffer::<T>::new(self.x.len()));
        let (bias, norm_bias) = (optional(&self.bias), optional(&self.norm_bias));
        let residual = self.residual.as_deref().map(place);
        let added = self.added.as_deref().map(place);
        let shifted =
            |buffer: &Option<Buffer<T>>| buffer.as_ref().map_or(Address::ABSENT, |buffer| buffer.address_of(shift));
        let fresh = Buffer::<T>::new(self.x.len() + shift);
        let out = if in_place { &x } else { &fresh };
        let parameters =
            Norm { kind: self.kind, epsilon: EPSILON, weight: weight.address(), bias: address(&norm_bias) };
        let summands = Summands { x: x.address_of(shift), bias: address(&bias), residual: shifted(&residual) };
        let outputs = Outputs { added: shifted(&added), sum: sum.address(), out: out.address_of(shift) };
        run(&norm(T::ELEMENT, parameters, self.rows, summands, outputs).expect("a launch"));
        (sum.read(), out.read()[shift..].to_vec())
    }

    /// The sums and the normalised rows; NaN where nothing is written.
    fn expected(&self) -> (Vec<f32>, Vec<f32>) {
        let Rows { count, width, groups, stride } = self.rows;
        let (mut sums, mut out) = (vec![f32::NAN; self.x.len()], vec![f32::NAN; self.x.len()]);
        for (row, group) in (0..count).flat_map(|row| (0..groups).map(move |group| (row, group))) {
            let at = |column: usize| row * stride + group * width + column;
            let other = |values: &Option<Vec<T>>, at: usize| values.as_ref().map_or(0.0, |values| values[at].to_f32());
            let bias = |column: usize| self.bias.as_ref().map_or(0.0, |bias| bias[group * width + column]);
            let sum: Vec<f64> = (0..width)
                .map(|c| f64::from(self.x[at(c)].to_f32() + bias(c) + other(&self.residual, at(c))))
                .collect();
            let mean = if self.kind == Kind::Layer { sum.iter().sum::<f64>() / width as f64 } else { 0.0 };
            let variance = sum.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
            for (column, x) in sum.iter().enumerate() {
                sums[at(column)] = *x as f32;
                let y = (x - mean) / (variance + f64::from(EPSILON)).sqrt() * f64::from(self.weight[column]);
                let bias = self.norm_bias.as_ref().map_or(0.0, |bias| bias[column]);
                out[at(column)] = y as f32 + bias + other(&self.added, at(column));
            }
        }
        (sums, out)
    }

    fn check(&self) {
        let (sums, expected) = self.expected();
        for (in_place, shift) in [(false, 0), (false, 1), (true, 0), (true, 3)] {
            let of = format!("{:?} {:?} {:?}, in place: {in_place}, {shift}", T::ELEMENT, self.rows, self.kind);
            let (found_sums, found) = self.found(in_place, shift);
            assert_close(&found_sums, &sums, tolerance::<T>(), &format!("sums, {of}"));
            let (mut expected, x) = (expected.clone(), floats(&self.x));
            if in_place {
                expected.iter_mut().zip(&x).filter(|(y, _)| y.is_nan()).for_each(|(y, x)| *y = *x);
            }
            assert_close(&found, &expected, tolerance::<T>(), &of);
        }
    }
}

fn every_width<T: Real>() {
    for width in WIDTHS {
        for kind in [Kind::Layer, Kind::Rms] {
            Case::<T>::new(Rows::whole(5, width), kind).check();
            Case::<T>::new(Rows::whole(3, width), kind).everything().check();
        }
    }
}

#[test]
fn every_width_of_f32() {
    every_width::<f32>();
}

#[test]
fn every_width_of_f16() {
    every_width::<f16>();
}

#[test]
fn every_width_of_bf16() {
    every_width::<bf16>();
}

#[test]
fn the_widest_rows() {
    for width in [8191, 8192] {
        Case::<f32>::new(Rows::whole(1, width), Kind::Layer).check();
        Case::<f16>::new(Rows::whole(2, width), Kind::Rms).everything().check();
    }
}

#[test]
fn groups_of_columns_are_normalised_apart() {
    for (width, groups, rest) in [(64, 4, 128), (20, 3, 0), (33, 2, 5), (128, 1, 8)] {
        let rows = Rows { count: 5, width, groups, stride: groups * width + rest };
        for kind in [Kind::Layer, Kind::Rms] {
            Case::<f16>::new(rows, kind).check();
            Case::<bf16>::new(rows, kind).everything().check();
            Case::<f32>::new(rows, kind).everything().check();
        }
    }
}

#[test]
fn the_sum_that_is_normalised_is_not_rounded() {
    // The rounded sum loses the residual; the normalised row depends on nothing else.
    let rows = Rows::whole(1, 8);
    let mut case = Case::<f16>::new(rows, Kind::Layer);
    case.x = vec![f16::of(1024.0); 8];
    case.residual = Some((0..8).map(|at| f16::of(if at % 2 == 0 { 0.25 } else { -0.2 })).collect());
    let (sums, out) = case.found(false, 0);
    assert!(sums.iter().all(|sum| (sum.to_f32() - 1024.0).abs() < 0.6), "{sums:?}");
    assert_close(&out, &case.expected().1, 2e-3, "a small residual");
}

#[test]
fn nan_and_infinity_show_in_their_row_alone() {
    for (value, width) in [(f32::NAN, 384), (f32::INFINITY, 384), (f32::NEG_INFINITY, 33), (f32::NAN, 1032)] {
        for kind in [Kind::Layer, Kind::Rms] {
            let mut case = Case::<f16>::new(Rows::whole(6, width), kind);
            let usual = case.found(false, 0).1;
            case.x[2 * width + width / 2] = f16::of(value);
            let found = case.found(false, 0).1;
            for (row, (found, usual)) in found.chunks(width).zip(usual.chunks(width)).enumerate() {
                if row == 2 {
                    assert!(found.iter().any(|value| value.is_nan()), "{value}, {kind:?}: {found:?}");
                } else {
                    assert!(same(found, usual), "{value}, {kind:?}: row {row}");
                }
            }
        }
    }
}

#[test]
fn a_row_does_not_depend_on_the_others() {
    for width in [20, 384, 1032] {
        let together = Case::<bf16>::new(Rows::whole(7, width), Kind::Layer);
        let all = together.found(false, 0).1;
        for (row, expected) in all.chunks(width).enumerate() {
            let mut alone = Case::<bf16>::new(Rows::whole(1, width), Kind::Layer);
            alone.x = together.x[row * width..][..width].to_vec();
            assert!(same(&alone.found(false, 0).1, expected), "{width}: row {row}");
        }
    }
}
