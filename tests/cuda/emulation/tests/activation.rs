//! Activations and gates against plain arithmetic.

use emulation::{
    Buffer, Real, run,
    test::{assert_close, floats, random, same},
};
use half::{bf16, f16};
use kernels::{
    Activation,
    cuda::{
        Address, Element,
        activation::{Gate, activate, add, gate},
    },
};

const WIDTHS: [usize; 9] = [1, 5, 20, 33, 64, 384, 768, 1024, 4096];
const ACTIVATIONS: [Activation; 7] = [
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::Silu,
    Activation::Relu,
    Activation::Tanh,
    Activation::Sigmoid,
    Activation::Identity,
];

fn tolerance<T: Real>() -> f32 {
    match T::ELEMENT {
        Element::F32 => 2e-5,
        Element::F16 => 2e-3,
        Element::Bf16 => 1.5e-2,
    }
}

/// The error function by its Taylor series, which converges everywhere.
fn erf(x: f64) -> f64 {
    if x.abs() > 5.0 {
        return x.signum();
    }
    let mut term = x;
    let mut sum = x;
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

fn exact(activation: Activation, x: f32) -> f32 {
    let x = f64::from(x);
    let y = match activation {
        Activation::Gelu => 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh())
        }
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Relu => x.max(0.0),
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::Identity => x,
    };
    y as f32
}

/// Values from -8 to 8.
fn wide<T: Real>(seed: u64, len: usize) -> Vec<T> {
    random::<T>(seed, len).iter().map(|x| T::of(x.to_f32() * 8.0)).collect()
}

fn activated<T: Real>(activation: Activation, rows: usize, width: usize, shift: usize) {
    let (x, bias, residual) = (wide::<T>(1, rows * width + shift), random(2, width), wide::<T>(3, rows * width));
    let (bias_buffer, residual_buffer) = (Buffer::of(&bias), Buffer::of(&residual));
    for (biased, added, in_place) in
        [(false, false, false), (true, false, true), (true, true, false), (false, true, true)]
    {
        let (x_buffer, fresh) = (Buffer::of(&x), Buffer::<T>::new(rows * width + shift));
        let out = if in_place { &x_buffer } else { &fresh };
        let launch = activate(
            T::ELEMENT,
            activation,
            [rows, width],
            x_buffer.address_of(shift),
            if biased { bias_buffer.address() } else { Address::ABSENT },
            if added { residual_buffer.address() } else { Address::ABSENT },
            out.address_of(shift),
        );
        run(&launch.expect("a launch"));
        let value = |at: usize| {
            let bias = if biased { bias[at % width] } else { 0.0 };
            let residual = if added { residual[at].to_f32() } else { 0.0 };
            exact(activation, x[shift + at].to_f32() + bias + residual)
        };
        let expected: Vec<f32> = (0..rows * width).map(value).collect();
        let of = format!("{:?} {activation:?} {rows}×{width}, {biased} {added} {in_place} {shift}", T::ELEMENT);
        assert_close(&out.read()[shift..], &expected, tolerance::<T>(), &of);
    }
}

fn gated<T: Real>(activation: Activation, which: Gate, rows: usize, width: usize) {
    let (x, bias) = (wide::<T>(1, 2 * rows * width), random(2, 2 * width));
    let (x_buffer, bias_buffer) = (Buffer::of(&x), Buffer::of(&bias));
    for biased in [false, true] {
        let out = Buffer::<T>::new(rows * width);
        let bias_address = if biased { bias_buffer.address() } else { Address::ABSENT };
        let shape = [rows, width];
        let launch = gate(T::ELEMENT, activation, which, shape, x_buffer.address(), bias_address, out.address());
        run(&launch.expect("a launch"));
        let value =
            |row: usize, column: usize| x[row * 2 * width + column].to_f32() + if biased { bias[column] } else { 0.0 };
        let expected: Vec<f32> = (0..rows * width)
            .map(|at| {
                let (first, second) = (value(at / width, at % width), value(at / width, width + at % width));
                match which {
                    Gate::First => exact(activation, first) * second,
                    Gate::Second => first * exact(activation, second),
                }
            })
            .collect();
        let of = format!("{:?} {activation:?} {which:?} {rows}×{width}, {biased}", T::ELEMENT);
        assert_close(&out.read(), &expected, tolerance::<T>(), &of);
    }
}

fn every_activation<T: Real>() {
    for activation in ACTIVATIONS {
        for (width, rows) in WIDTHS.into_iter().zip([1, 2, 15, 16, 17, 129, 3, 2, 2]) {
            activated::<T>(activation, rows, width, 0);
            gated::<T>(activation, Gate::First, rows, width);
            gated::<T>(activation, Gate::Second, rows, width);
        }
        activated::<T>(activation, 5, 64, 1);
    }
}

#[test]
fn every_activation_of_f32() {
    every_activation::<f32>();
}

#[test]
fn every_activation_of_f16() {
    every_activation::<f16>();
}

#[test]
fn every_activation_of_bf16() {
    every_activation::<bf16>();
}

#[test]
fn sums_are_added() {
    let (x, residual, bias) = (random::<bf16>(1, 3 * 40), random::<bf16>(2, 3 * 40), random::<f32>(3, 40));
    let (x_buffer, residual_buffer, bias_buffer) = (Buffer::of(&x), Buffer::of(&residual), Buffer::of(&bias));
    let launch = add(
        Element::Bf16,
        [3, 40],
        x_buffer.address(),
        bias_buffer.address(),
        residual_buffer.address(),
        residual_buffer.address(),
    );
    run(&launch.expect("a launch"));
    let sum = |((at, x), y): ((usize, f32), f32)| x + y + bias[at % 40];
    let expected: Vec<f32> = floats(&x).into_iter().enumerate().zip(floats(&residual)).map(sum).collect();
    assert_close(&residual_buffer.read(), &expected, 1.5e-2, "a sum in place");
}

fn special<T: Real>() {
    // NaN stays NaN, and an overflow is not a finite number.
    for activation in ACTIVATIONS {
        let mut x = random::<T>(1, 64);
        (x[5], x[40], x[41]) = (T::of(f32::NAN), T::of(f32::INFINITY), T::of(f32::NEG_INFINITY));
        let (buffer, out, halves) = (Buffer::of(&x), Buffer::<T>::new(64), Buffer::<T>::new(32));
        let absent = Address::ABSENT;
        let launch = activate(T::ELEMENT, activation, [2, 32], buffer.address(), absent, absent, out.address());
        run(&launch.expect("a launch"));
        let found = floats(&out.read());
        assert!(
            found.iter().enumerate().all(|(at, y)| y.is_nan() == (at == 5) || at == 41),
            "{activation:?} {found:?}"
        );
        assert!(same(&found[40..41], &[exact(activation, f32::INFINITY)]), "{activation:?} {}", found[40]);
        for which in [Gate::First, Gate::Second] {
            let launch = gate(T::ELEMENT, activation, which, [1, 32], buffer.address(), absent, halves.address());
            run(&launch.expect("a launch"));
            assert!(halves.read()[5].to_f32().is_nan(), "{activation:?} {which:?}");
        }
    }
}

#[test]
fn nan_comes_out_as_nan() {
    special::<f32>();
    special::<f16>();
    special::<bf16>();
}
