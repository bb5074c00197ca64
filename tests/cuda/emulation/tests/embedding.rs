//! Embeddings against plain arithmetic.

use emulation::{
    Buffer, Real, run,
    test::{Random, assert_close, random},
};
use half::{bf16, f16};
use kernels::cuda::{
    Address, Element,
    embedding::{Embedding, TableLookup},
    norm::{Kind, Norm},
};

const ENTRIES: usize = 50;
const EPSILON: f32 = 1e-5;

fn tolerance<T: Real>() -> f32 {
    match T::ELEMENT {
        Element::F32 => 2e-5,
        Element::F16 => 2e-3,
        Element::Bf16 => 1.5e-2,
    }
}

fn check<T: Real>(width: usize, tokens: usize, parts: usize, scale: Option<f32>, norm: Option<(Kind, bool)>) {
    let mut draw = Random::new(3);
    let tables: Vec<Vec<T>> = (0..parts).map(|part| random(part as u64, ENTRIES * width)).collect();
    let mut indices: Vec<Vec<u32>> =
        (0..parts).map(|_| (0..tokens).map(|_| draw.below(ENTRIES) as u32).collect()).collect();
    indices[0][tokens - 1] = ENTRIES as u32 - 1;
    let (weight, bias) = (random::<f32>(8, width), random::<f32>(9, width));

    let table_buffers: Vec<Buffer<T>> = tables.iter().map(|table| Buffer::of(table)).collect();
    let index_buffers: Vec<Buffer<u32>> = indices.iter().map(|indices| Buffer::of(indices)).collect();
    let (weights, bias_buffer, out) = (Buffer::of(&weight), Buffer::of(&bias), Buffer::<T>::new(tokens * width));
    let part = |at: usize| {
        (at < parts).then(|| TableLookup { table: table_buffers[at].address(), indices: index_buffers[at].address() })
    };
    let embedding = Embedding {
        element: T::ELEMENT,
        width,
        words: part(0).expect("words"),
        positions: part(1),
        types: part(2),
        scale,
        norm: norm.map(|(kind, biased)| Norm {
            kind,
            epsilon: EPSILON,
            weight: weights.address(),
            bias: if biased { bias_buffer.address() } else { Address::ABSENT },
        }),
    };
    run(&embedding.launch(tokens, out.address()).expect("a launch"));

    let mut expected = Vec::new();
    for token in 0..tokens {
        let sum = |column: usize| {
            let value = |part: usize| tables[part][indices[part][token] as usize * width + column].to_f32();
            f64::from((0..parts).map(value).sum::<f32>() * scale.unwrap_or(1.0))
        };
        let row: Vec<f64> = (0..width).map(sum).collect();
        let Some((kind, biased)) = norm else {
            expected.extend(row.iter().map(|x| *x as f32));
            continue;
        };
        let mean = if kind == Kind::Layer { row.iter().sum::<f64>() / width as f64 } else { 0.0 };
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
        expected.extend(row.iter().enumerate().map(|(column, x)| {
            let y = (x - mean) / (variance + f64::from(EPSILON)).sqrt() * f64::from(weight[column]);
            y as f32 + if biased { bias[column] } else { 0.0 }
        }));
    }
    let of = format!("{:?}, width {width}, {tokens} tokens, {parts} tables, {scale:?}, {norm:?}", T::ELEMENT);
    assert_close(&out.read(), &expected, tolerance::<T>(), &of);
}

fn every_combination<T: Real>() {
    for width in [1, 5, 20, 33, 64, 384, 768, 1024, 4096] {
        for parts in 1..=3 {
            check::<T>(width, 5, parts, None, None);
            check::<T>(width, 1, parts, Some(3.5), None);
        }
        if width > 1 {
            check::<T>(width, 17, 3, None, Some((Kind::Layer, true)));
            check::<T>(width, 4, 2, Some(0.25), Some((Kind::Layer, false)));
            check::<T>(width, 2, 1, Some(8.0), Some((Kind::Rms, false)));
        }
    }
}

#[test]
fn every_combination_of_f32() {
    every_combination::<f32>();
}

#[test]
fn every_combination_of_f16() {
    every_combination::<f16>();
}

#[test]
fn every_combination_of_bf16() {
    every_combination::<bf16>();
}

#[test]
fn no_tokens_need_no_launch() {
    let words = TableLookup { table: Address(256), indices: Address(512) };
    let embedding =
        Embedding { element: Element::F16, width: 8, words, positions: None, types: None, scale: None, norm: None };
    assert_eq!(embedding.launch(0, Address(1024)), None);
}
