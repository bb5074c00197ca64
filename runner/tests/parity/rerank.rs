//! Cross-encoders: logits within 10⁻³, and scores after the activation too. On a card within 2⋅10⁻², relative to what
//! the logits of a case are, where that is more than one.

use runner::{model::CrossEncoder, tokenizer::Tokens};
use serde::Deserialize;

use crate::cases::{self, Case, batches, same_counts};

/// The largest difference to one of the logits. Rounding is relative to what they are sums of, which is not small where
/// one of them happens to be.
fn most_difference(logits: &[f32]) -> f32 {
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

/// Compares the model with the reference.
pub fn check(case: &Case) -> Result<(), String> {
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
    let most = most_difference(&logits);
    let mut largest = 0f32;
    for batch in batches(&tokens) {
        let rows: Vec<&Tokens> = batch.iter().map(|&row| &tokens[row]).collect();
        let found = model.score(&rows).map_err(|error| error.to_string())?;
        for (&row, found) in batch.iter().zip(&found) {
            let difference = (found.logit - logits[row]).abs().max((found.score - scores[row]).abs());
            if difference.is_nan() || difference > most {
                let (document, logit) = (&references[row].document, logits[row]);
                return Err(format!("{document:?}: {found:?}, the reference has the logit {logit}"));
            }
            largest = largest.max(difference);
        }
    }
    println!("{}: largest difference {largest:.1e}", case.name);
    Ok(())
}
