//! Dense vectors: the hidden states of the second reference, pooled in plain code.

use candle_core::Tensor;
use runner::tokenizer::Tokens;

use super::{Computed, compared, distances::Distances, folder::Folder, padded::Padded};
use crate::{
    cases::{Case, cosine, difference},
    dense::{self, Loaded},
};

/// The largest difference of two values, relative to a vector of length 1: the tolerance of the first reference, in whose
/// place single precision stands for double here.
const MOST_DIFFERENCE: f32 = 5e-5;
const LEAST_COSINE: f64 = 0.999_99;

/// The distances of the runner, the second reference and the expected vectors. With `alone`, no text is padded.
pub fn compare(
    case: &Case,
    folder: &Folder,
    model: fn(&Folder, &Padded) -> Computed,
    alone: bool,
) -> Result<Distances, String> {
    let Loaded { model: encoder, tokens, expected, .. } = dense::load(case)?;
    let rows: Vec<&Tokens> = tokens.iter().take(compared(case, tokens.len())).collect();
    let found = encoder.embed(&rows).map_err(|error| error.to_string())?;
    let batches = rows.chunks(if alone { 1 } else { rows.len() });
    let mut second = Vec::new();
    for batch in batches {
        let padded = Padded::new(batch, folder.padding_id());
        let hidden = model(folder, &padded).map_err(|error| format!("{}: candle-transformers: {error}", case.name))?;
        for (row, tokens) in batch.iter().enumerate() {
            let hidden = hidden.get(row).and_then(|row| row.to_vec2()).expect("hidden states");
            second.push(vector(case, folder, &hidden[tokens.unpooled..tokens.ids.len()]));
        }
    }
    let distance = |one: &[f32], other: &[f32]| {
        let length = other.iter().map(|value| value * value).sum::<f32>().sqrt();
        if cosine(one, other) < LEAST_COSINE { f32::INFINITY } else { difference(one, other) / length.max(1.0) }
    };
    let mut distances = Distances::none(MOST_DIFFERENCE);
    for ((found, second), expected) in found.iter().zip(&second).zip(&expected) {
        distances.add(found, second.as_slice(), expected.as_slice(), distance);
    }
    Ok(distances)
}

/// The vector of one text from the hidden states of its pooled tokens.
fn vector(case: &Case, folder: &Folder, tokens: &[Vec<f32>]) -> Vec<f32> {
    let width = tokens[0].len();
    let weighted = |weight: &dyn Fn(usize) -> f32| {
        let total: f32 = (0..tokens.len()).map(weight).sum();
        let sum = |at: usize| tokens.iter().enumerate().map(|(token, row)| weight(token) * row[at]).sum::<f32>();
        (0..width).map(|at| sum(at) / total).collect()
    };
    let pooled: Vec<f32> = match folder.pooling_mode() {
        "cls" => tokens[0].clone(),
        "lasttoken" => tokens[tokens.len() - 1].clone(),
        "mean" => weighted(&|_| 1.0),
        "weightedmean" => weighted(&|token| (token + 1) as f32),
        "max" => (0..width).map(|at| tokens.iter().map(|row| row[at]).fold(f32::NEG_INFINITY, f32::max)).collect(),
        other => panic!("{}: the second reference has no pooling {other:?}", case.name),
    };
    let pooled = Tensor::new(&pooled[..case.dimensions.unwrap_or(width)], &candle_core::Device::Cpu).expect("a vector");
    let normalized = folder.has_module("Normalize") || case.dimensions.is_some();
    let vector = if normalized { super::models::normalized(&pooled).expect("a vector") } else { pooled };
    vector.to_vec1().expect("values")
}
