//! Cross-encoders: the scores of pairs.

use runner::tokenizer::Tokens;

use super::{Activated, Computed, compared, distances::Distances, folder::Folder, padded::Padded};
use crate::{
    cases::Case,
    rerank::{self, Loaded},
};

/// The distances of the runner, the second reference and the expected logits, or the scores after the activation.
pub fn compare(
    case: &Case,
    folder: &Folder,
    model: fn(&Folder, &Padded) -> Computed,
    activated: Activated,
) -> Result<Distances, String> {
    let Loaded { model: encoder, tokens, logits, scores, .. } = rerank::load(case)?;
    let rows: Vec<&Tokens> = tokens.iter().take(compared(case, tokens.len())).collect();
    let found = encoder.score(&rows).map_err(|error| error.to_string())?;
    let padded = Padded::new(&rows, folder.padding_id());
    let second = model(folder, &padded).and_then(|scores| scores.to_vec1::<f32>());
    let second = second.map_err(|error| format!("{}: candle-transformers: {error}", case.name))?;
    let mut distances = Distances::none(rerank::most_difference(&logits));
    for row in 0..rows.len() {
        let (found, expected) = match activated {
            Activated::No => (found[row].logit, logits[row]),
            Activated::Yes => (found[row].score, scores[row]),
        };
        distances.add(&found, &second[row], &expected, |one, other| (one - other).abs());
    }
    Ok(distances)
}
