//! Dense vectors: cosine ≥ 0.99999 and no value further off than 2⋅10⁻⁵, relative to a vector of length 1. On a card
//! 10⁻⁴, and in 16 bits the cosine alone counts.

use crds::v1alpha1::Dtype;
use runner::{
    model::{DenseEncoder, DenseOptions, Side},
    tokenizer::Tokens,
};
use serde::Deserialize;

use crate::cases::{self, Case, batches, cosine, difference, same_counts};

/// The least cosine and the largest difference.
fn limits(case: &Case) -> (f64, f32) {
    match cases::dtype() {
        Dtype::F16 => (0.9995, f32::INFINITY),
        // Two of the random models amplify rounding so much that the reference itself is further off.
        Dtype::Bf16 => (case.bfloat16.map_or(0.999, |reference| reference.min(0.999)), f32::INFINITY),
        _ if cases::device().is_cpu() => (0.999_99, 2e-5),
        _ => (0.999_99, 1e-4),
    }
}

#[derive(Deserialize)]
struct Reference {
    text: String,
    tokens: usize,
    lost: usize,
}

/// A case with its model, whose tokens are those of the reference.
pub struct Loaded {
    /// The model.
    pub model: DenseEncoder,
    /// The texts.
    pub texts: Vec<String>,
    /// Their tokens.
    pub tokens: Vec<Tokens>,
    /// The vectors that the reference has.
    pub expected: Vec<Vec<f32>>,
}

/// Loads the model of a case and tokenizes its texts. A text without a token is left out: the reference gives zeros, which
/// are like nothing, and the runner has no vector.
pub fn load(case: &Case) -> Result<Loaded, String> {
    let options = DenseOptions {
        max_tokens: case.max_tokens,
        dimensions: case.dimensions,
        document_prompt: case.prompt.clone(),
        dtype: Some(cases::dtype()),
        ..DenseOptions::default()
    };
    let model =
        DenseEncoder::load(&case.name, &case.model, &options, &cases::device()).map_err(|error| error.to_string())?;
    let side = if case.prompt_name.as_deref() == Some("query") { Side::Query } else { Side::Document };
    let references: Vec<Reference> = case.texts();
    let expected = case.expected()["vectors"].to_vec2::<f32>().expect("vectors");
    assert_eq!(references.len(), expected.len(), "{}: a vector per text", case.name);
    let (empty, references): (Vec<_>, Vec<_>) =
        references.into_iter().zip(expected).partition(|(reference, _)| reference.tokens == 0);
    for (reference, _) in &empty {
        let error = model.encode(&reference.text, side).expect_err("no token").to_string();
        assert!(error.contains("has no token"), "{error}");
    }
    let (references, expected): (Vec<Reference>, Vec<Vec<f32>>) = references.into_iter().unzip();
    assert_eq!(model.dimensions(), expected[0].len(), "{}: the width of a vector", case.name);

    let encode = |reference: &Reference| model.encode(&reference.text, side).expect("tokens");
    let tokens: Vec<Tokens> = references.iter().map(encode).collect();
    for (tokens, reference) in tokens.iter().zip(&references) {
        same_counts(&reference.text, tokens, (reference.tokens, reference.lost))?;
    }
    let texts = references.into_iter().map(|reference| reference.text).collect();
    Ok(Loaded { model, texts, tokens, expected })
}

/// Compares the model with the reference.
pub fn check(case: &Case) -> Result<(), String> {
    let Loaded { model, texts, tokens, expected } = load(case)?;
    let (least_cosine, most_difference) = limits(case);
    let (mut worst, mut largest) = (1f64, 0f32);
    for batch in batches(&tokens) {
        let rows: Vec<&Tokens> = batch.iter().map(|&row| &tokens[row]).collect();
        let vectors = model.embed(&rows).map_err(|error| error.to_string())?;
        for (&row, vector) in batch.iter().zip(vectors.iter()) {
            let length = expected[row].iter().map(|value| value * value).sum::<f32>().sqrt();
            let similarity = cosine(vector, &expected[row]);
            let difference = difference(vector, &expected[row]) / length.max(1.0);
            if similarity.is_nan() || similarity < least_cosine || difference > most_difference {
                let text = &texts[row];
                let among = batch.len();
                return Err(format!("{text:?} in a batch of {among}: cosine {similarity}, difference {difference}"));
            }
            (worst, largest) = (worst.min(similarity), largest.max(difference));
        }
    }
    println!("{}: lowest cosine {worst:.9}, largest difference {largest:.1e}", case.name);
    Ok(())
}
