//! Sparse vectors: the largest logit of each vocabulary entry among the tokens of a text.

use runner::{tokenizer::Tokens, vectors::SparseVector};

use super::{Computed, compared, distances::Distances, folder::Folder, padded::Padded};
use crate::{
    cases::Case,
    sparse::{self, Loaded},
};

/// Of two weights: the tolerance of the first reference, in whose place single precision stands for double here.
const MOST_DIFFERENCE: f32 = 1e-4;

/// The distances of the runner, the second reference and the expected weights.
pub fn compare(case: &Case, folder: &Folder, model: fn(&Folder, &Padded) -> Computed) -> Result<Distances, String> {
    let Loaded { model: encoder, tokens, expected, .. } = sparse::load(case)?;
    let rows: Vec<&Tokens> = tokens.iter().take(compared(case, tokens.len())).collect();
    let found = encoder.embed(&rows).map_err(|error| error.to_string())?;
    let mut second = Vec::new();
    // Tokens × vocabulary of all texts of a published model are gigabytes.
    for batch in rows.chunks(8) {
        let padded = Padded::new(batch, folder.padding_id());
        let logits = model(folder, &padded).map_err(|error| format!("{}: candle-transformers: {error}", case.name))?;
        for (row, length) in padded.lengths.iter().enumerate() {
            let largest = logits.get(row).and_then(|row| row.narrow(0, 0, *length)?.max(0)?.to_vec1::<f32>());
            let weights: Vec<f32> = largest.expect("logits").into_iter().map(|logit| logit.max(0.0).ln_1p()).collect();
            second.push(SparseVector::of_weights(&weights, 0.0, None));
        }
    }
    let distance = |one: &SparseVector, other: &SparseVector| sparse::difference(one, other).unwrap_or(f32::INFINITY);
    let mut distances = Distances::none(MOST_DIFFERENCE);
    for ((found, second), expected) in found.iter().zip(&second).zip(&expected) {
        distances.add(found, second, expected, distance);
    }
    Ok(distances)
}
