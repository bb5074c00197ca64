//! The emulation itself: conversions, collectives, and the detection of mistakes.
#![cfg(not(feature = "card"))]

use emulation::{
    Buffer, Plain, Real, run,
    test::{Random, random, same},
    try_run,
};
use half::{bf16, f16};
use kernels::cuda::{Address, Argument, Launch};

fn launch(kernel: &str, blocks: u32, threads: u32, arguments: Vec<Argument>) -> Launch {
    Launch::linear("checks", kernel.into(), blocks, threads, arguments)
}

fn argument<T: Plain>(buffer: &Buffer<T>) -> Argument {
    buffer.address().into()
}

#[test]
fn conversions_are_those_of_the_types() {
    let mut bits = Random::new(1);
    let special =
        [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 65504.0, 65519.0, 65520.0, 1e-8, 6e-8, 2.9e-8];
    // All halves, and the midpoints between two of them.
    let halves = (0..=u16::MAX).map(|bits| f16::from_bits(bits).to_f32());
    let half = |bits| f16::from_bits(bits).to_f32();
    let ties = (0..0x7bff).map(|bits| half(bits).midpoint(half(bits + 1)));
    let any = (0..50_000).map(|_| f32::from_bits(bits.bits() as u32));
    let values: Vec<f32> = special.into_iter().chain(halves).chain(ties).chain(any).collect();
    let count = values.len();
    let (from, halves, brains) = (Buffer::of(&values), Buffer::<f16>::new(count), Buffer::<bf16>::new(count));
    let back = Buffer::<f32>::new(count);
    let arguments =
        vec![argument(&from), argument(&halves), argument(&brains), argument(&back), Argument::I32(count as i32)];
    run(&launch("check_conversions", (count as u32).div_ceil(256), 256, arguments));
    let expected: Vec<f16> = values.iter().map(|&value| f16::of(value)).collect();
    assert!(same(&halves.read(), &expected));
    assert!(same(&brains.read(), &values.iter().map(|&value| bf16::of(value)).collect::<Vec<_>>()));
    assert!(same(&back.read(), &expected.iter().map(|value| value.to_f32()).collect::<Vec<_>>()));
}

#[test]
fn lanes_get_the_values_of_others() {
    let out = Buffer::<i32>::new(5 * 128);
    run(&launch("check_shuffles", 1, 128, vec![argument(&out)]));
    for (thread, found) in out.read().chunks(5).enumerate() {
        let lane = thread as i32 % 32;
        let up = if lane % 8 >= 3 { lane - 3 } else { lane };
        let down = if lane % 8 + 3 < 8 { lane + 3 } else { lane };
        assert_eq!(found, [lane ^ 5, up, down, lane / 16 * 16 + 2, 0xaaaa_aaaa_u32 as i32], "{thread}");
    }
}

#[test]
fn all_threads_get_the_sum_and_the_largest() {
    for threads in [32, 64, 128] {
        let mut values: Vec<f32> = random(2, 3 * threads);
        values[2 * threads + 5] = f32::NAN;
        let (from, sums, largest) = (Buffer::of(&values), Buffer::new(3 * threads), Buffer::new(3 * threads));
        let arguments = vec![argument(&from), argument(&sums), argument(&largest)];
        run(&launch("check_reductions", 3, threads as u32, arguments));
        let (sums, largest): (Vec<f32>, Vec<f32>) = (sums.read(), largest.read());
        for (block, values) in values.chunks(threads).enumerate().take(2) {
            let sum: f32 = values.iter().sum();
            let most = values.iter().copied().fold(f32::MIN, f32::max);
            assert!(sums[block * threads..(block + 1) * threads].iter().all(|found| (found - sum).abs() < 1e-4));
            assert!(
                largest[block * threads..(block + 1) * threads].iter().all(|found| found.to_bits() == most.to_bits())
            );
        }
        assert!(sums[2 * threads..].iter().chain(&largest[2 * threads..]).all(|found| found.is_nan()));
    }
}

fn error(launch: Launch) -> String {
    try_run(&launch).expect_err("a mistake")
}

#[test]
fn threads_that_wait_in_vain_are_an_error() {
    let out = Buffer::<i32>::new(64);
    let message = error(launch("check_left_barrier", 1, 64, vec![argument(&out)]));
    assert_eq!(message, "check_left_barrier: 63 threads wait at a barrier, 1 ended before it (block 0, 0, 0)");
    let message = error(launch("check_left_lanes", 1, 64, vec![argument(&out)]));
    assert!(message.contains("a collective of the lanes ffffffff"), "{message}");
    assert!(message.starts_with("check_left_lanes: "), "{message}");
}

#[test]
fn writes_next_to_memory_are_an_error() {
    let out = Buffer::<i32>::new(64);
    run(&launch("check_write_beyond", 1, 60, vec![argument(&out), Argument::I32(4)]));
    let message = error(launch("check_write_beyond", 1, 60, vec![argument(&out), Argument::I32(5)]));
    assert_eq!(message, "check_write_beyond: byte 256 of a buffer of 256 bytes was written");
    let out = Buffer::<f32>::new(1);
    let mut shared = launch("check_shared_write_beyond", 1, 64, vec![argument(&out)]);
    shared.shared_bytes = 256;
    run(&shared);
    shared.shared_bytes = 252;
    assert!(error(shared).contains("beyond the dynamic shared memory"));
}

#[test]
fn unwritten_shared_memory_is_nan() {
    let out = Buffer::<f32>::new(64);
    run(&launch("check_unwritten", 1, 64, vec![argument(&out)]));
    let found = out.read();
    assert!(found[0].to_bits() == 1.0f32.to_bits() && found[1..].iter().all(|value| value.is_nan()));
}

#[test]
fn a_missing_barrier_is_detected() {
    let out = Buffer::<f32>::new(3 * 64);
    run(&launch("check_race", 3, 64, vec![argument(&out)]));
    assert!(out.read().chunks(64).all(|block| block.iter().any(|value| value.is_nan())));
}

#[test]
fn launches_are_checked() {
    let out = Buffer::<i32>::new(64);
    let address = out.address();
    assert!(error(launch("check_nothing", 1, 64, vec![])).contains("unknown kernel"));
    let elsewhere = Launch { source: "norm", ..launch("check_shuffles", 1, 64, vec![address.into()]) };
    assert!(error(elsewhere).contains("checks.cu, not in norm.cu"));
    assert!(error(launch("check_shuffles", 1, 64, vec![])).contains("types"));
    assert!(error(launch("check_shuffles", 1, 64, vec![Argument::I64(3)])).contains("types l"));
    assert!(error(launch("check_shuffles", 1, 256, vec![address.into()])).contains("256 threads"));
    assert!(error(launch("check_shuffles", 0, 32, vec![address.into()])).contains("an invalid grid"));
    let outside = Address(address.0 + 257);
    assert!(error(launch("check_shuffles", 1, 32, vec![outside.into()])).contains("not in a buffer"));
}
