//! Sparse vectors: the same entries above 10⁻³, and weights within 10⁻⁴. On a card an entry may come or go by rounding,
//! and the cosine counts.

use runner::{
    model::{Side, SparseOptions, SpladeModel},
    tokenizer::Tokens,
    vectors::SparseVector,
};
use serde::Deserialize;

use crate::cases::{self, Case, batches, same_counts};

const LEAST_WEIGHT: f32 = 1e-3;
const MOST_DIFFERENCE: f32 = 1e-4;
const LEAST_COSINE: f32 = 0.9995;

#[derive(Deserialize)]
struct Reference {
    text: String,
    tokens: usize,
    lost: usize,
}

/// A case with its model, whose tokens are those of the reference.
pub struct Loaded {
    /// The model.
    pub model: SpladeModel,
    /// The texts.
    pub texts: Vec<String>,
    /// Their tokens.
    pub tokens: Vec<Tokens>,
    /// The vectors that the reference has.
    pub expected: Vec<SparseVector>,
}

/// Loads the model of a case and tokenizes its texts.
pub fn load(case: &Case) -> Result<Loaded, String> {
    let options = SparseOptions { max_tokens: case.max_tokens, ..SparseOptions::default() };
    let model =
        SpladeModel::load(&case.name, &case.model, options, &cases::device()).map_err(|error| error.to_string())?;
    let references: Vec<Reference> = case.texts();
    let expected = expected(case);
    assert_eq!(references.len(), expected.len(), "{}: a vector per text", case.name);
    let tokens: Vec<Tokens> =
        references.iter().map(|reference| model.encode(&reference.text, Side::Document).expect("tokens")).collect();
    for (tokens, reference) in tokens.iter().zip(&references) {
        same_counts(&reference.text, tokens, (reference.tokens, reference.lost))?;
    }
    let texts = references.into_iter().map(|reference| reference.text).collect();
    Ok(Loaded { model, texts, tokens, expected })
}

/// Compares the model with the reference.
pub fn check(case: &Case) -> Result<(), String> {
    let Loaded { model, texts, tokens, expected } = load(case)?;
    let (mut largest, mut worst) = (0f32, 1f32);
    for batch in batches(&tokens) {
        let rows: Vec<&Tokens> = batch.iter().map(|&row| &tokens[row]).collect();
        let vectors = model.embed(&rows).map_err(|error| error.to_string())?;
        for (&row, vector) in batch.iter().zip(&vectors) {
            if cases::is_rounded() {
                let similarity = cosine(vector, &expected[row]);
                if similarity.is_nan() || similarity < LEAST_COSINE {
                    return Err(format!("{:?}: cosine {similarity}", texts[row]));
                }
                worst = worst.min(similarity);
                continue;
            }
            let difference =
                difference(vector, &expected[row]).map_err(|entry| format!("{:?}: {entry}", texts[row]))?;
            largest = largest.max(difference);
        }
    }
    if cases::is_rounded() {
        println!("{}: lowest cosine {worst:.6}", case.name);
    } else {
        println!("{}: largest difference {largest:.1e}", case.name);
    }
    Ok(())
}

/// The reference's vectors, from a matrix or from rows in a compact form.
fn expected(case: &Case) -> Vec<SparseVector> {
    let tensors = case.expected();
    if let Some(weights) = tensors.get("weights") {
        let rows = weights.to_vec2::<f32>().expect("weights");
        return rows.iter().map(|row| SparseVector::of_weights(row, 0.0, None)).collect();
    }
    let integers = |name: &str| {
        let tensor = tensors[name].to_dtype(candle_core::DType::I64).expect("integers");
        tensor.to_vec1::<i64>().expect(name)
    };
    let (offsets, indices) = (integers("offsets"), integers("indices"));
    let values = tensors["values"].to_vec1::<f32>().expect("values");
    let rows = offsets.windows(2).map(|ends| ends[0] as usize..ends[1] as usize);
    rows.map(|row| SparseVector {
        indices: indices[row.clone()].iter().map(|index| *index as u32).collect(),
        values: values[row].to_vec(),
    })
    .collect()
}

/// The cosine; that of two vectors without entries is one.
fn cosine(found: &SparseVector, expected: &SparseVector) -> f32 {
    if found.indices.is_empty() && expected.indices.is_empty() {
        return 1.0;
    }
    found.dot(expected) / (found.dot(found) * expected.dot(expected)).sqrt()
}

/// The largest difference of two weights; an error where an entry is in one vector alone.
pub fn difference(found: &SparseVector, expected: &SparseVector) -> Result<f32, String> {
    let mut largest = 0f32;
    for (one, other) in [(found, expected), (expected, found)] {
        for (index, value) in one.indices.iter().zip(&one.values).filter(|(_, value)| **value > LEAST_WEIGHT) {
            let weight = other.indices.binary_search(index).map_or(0.0, |at| other.values[at]);
            let difference = (value - weight).abs();
            if difference > MOST_DIFFERENCE {
                return Err(format!("entry {index} has the weights {value} and {weight}"));
            }
            largest = largest.max(difference);
        }
    }
    Ok(largest)
}
