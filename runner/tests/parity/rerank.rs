//! Cross-encoders: logits within 10⁻³, and scores after the activation too. On a card within 2⋅10⁻², relative to what
//! the logits of a case are, where that is more than one.

use runner::{model::CrossEncoder, tokenizer::Tokens};
use serde::Deserialize;

use crate::cases::{self, Case, batches, same_counts};

/// The largest difference to one of the logits. Rounding is relative to what they are sums of, which is not small where
/// one of them happens to be.
pub fn most_difference(logits: &[f32]) -> f32 {
    let square = logits.iter().map(|logit| logit * logit).sum::<f32>() / logits.len().max(1) as f32;
    if cases::is_rounded() { 2e-2 * square.sqrt().max(1.0) } else { 1e-3 }
}

#[derive(Deserialize)]
struct Reference {
    query: String,
    document: String,
    tokens: usize,
    lost: usize,
}

/// A case with its model, whose tokens are those of the reference.
pub struct Loaded {
    /// The model.
    pub model: CrossEncoder,
    /// The documents of the pairs.
    pub documents: Vec<String>,
    /// The tokens of the pairs.
    pub tokens: Vec<Tokens>,
    /// The logits that the reference has.
    pub logits: Vec<f32>,
    /// Its scores.
    pub scores: Vec<f32>,
}

/// Loads the model of a case and tokenizes its pairs.
pub fn load(case: &Case) -> Result<Loaded, String> {
    let model = CrossEncoder::load(&case.name, &case.model, case.max_tokens, &cases::device())
        .map_err(|error| error.to_string())?;
    let references: Vec<Reference> = case.texts();
    let expected = case.expected();
    let of = |name: &str| expected[name].to_vec1::<f32>().expect(name);
    let (logits, scores) = (of("logits"), of("scores"));
    assert_eq!(references.len(), logits.len(), "{}: a logit per pair", case.name);
    let encode = |reference: &Reference| model.encode(&reference.query, &reference.document).expect("tokens");
    let tokens: Vec<Tokens> = references.iter().map(encode).collect();
    for (tokens, reference) in tokens.iter().zip(&references) {
        same_counts(&reference.document, tokens, (reference.tokens, reference.lost))?;
    }
    let documents = references.into_iter().map(|reference| reference.document).collect();
    Ok(Loaded { model, documents, tokens, logits, scores })
}

/// Compares the model with the reference.
pub fn check(case: &Case) -> Result<(), String> {
    let Loaded { model, documents, tokens, logits, scores } = load(case)?;
    let most = most_difference(&logits);
    let mut largest = 0f32;
    for batch in batches(&tokens) {
        let rows: Vec<&Tokens> = batch.iter().map(|&row| &tokens[row]).collect();
        let found = model.score(&rows).map_err(|error| error.to_string())?;
        for (&row, found) in batch.iter().zip(&found) {
            let difference = (found.logit - logits[row]).abs().max((found.score - scores[row]).abs());
            if difference.is_nan() || difference > most {
                let (document, logit) = (&documents[row], logits[row]);
                return Err(format!("{document:?}: {found:?}, the reference has the logit {logit}"));
            }
            largest = largest.max(difference);
        }
    }
    println!("{}: largest difference {largest:.1e}", case.name);
    Ok(())
}
