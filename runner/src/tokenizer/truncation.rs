//! Truncation that keeps special tokens and counts what it removes.

use tokenizers::{Encoding, TruncationDirection};

use super::tokens::Tokens;

/// Cuts the tokens of the text, never the special tokens around it, until the whole is `max_tokens` long.
pub(super) fn truncate(encoding: &Encoding, max_tokens: usize, side: TruncationDirection) -> Tokens {
    let lost = encoding.len().saturating_sub(max_tokens);
    if lost == 0 {
        return Tokens { ids: encoding.get_ids().to_vec(), types: types(encoding.get_type_ids()), lost, unpooled: 0 };
    }
    let is_text = |position: &usize| encoding.get_special_tokens_mask()[*position] == 0;
    let text: Vec<usize> = (0..encoding.len()).filter(is_text).collect();
    let dropped = match side {
        TruncationDirection::Right => &text[text.len() - lost..],
        TruncationDirection::Left => &text[..lost],
    };
    let kept = |of: &[u32]| -> Vec<u32> {
        let kept = (0..encoding.len()).filter(|position| dropped.binary_search(position).is_err());
        kept.map(|position| of[position]).collect()
    };
    Tokens { ids: kept(encoding.get_ids()), types: types(&kept(encoding.get_type_ids())), lost, unpooled: 0 }
}

/// Cuts one end of the two texts of a pair until the whole is `max_tokens` long: first of the longer text until both are of one
/// length, then of both alike (`longest_first` of the tokenizers library).
pub(super) fn truncate_pair(encoding: &Encoding, max_tokens: usize, side: TruncationDirection) -> Tokens {
    let lost = encoding.len().saturating_sub(max_tokens);
    let sequence_ids = encoding.get_sequence_ids();
    let count = |text: usize| sequence_ids.iter().filter(|id| **id == Some(text)).count();
    let (first, second) = (count(0), count(1));
    let room = max_tokens.saturating_sub(encoding.len() - first - second);
    let (shorter, longer) = (first.min(second), first.max(second));
    let (shorter, longer) = if lost == 0 {
        (shorter, longer)
    } else if 2 * shorter <= room {
        (shorter, room - shorter)
    } else {
        (room / 2, room - room / 2)
    };
    let rest = if first <= second { [shorter, longer] } else { [longer, shorter] };
    let mut seen = [0, 0];
    let mut keep = |text: &Option<usize>| {
        let Some(text) = *text else { return true };
        seen[text] += 1;
        match side {
            TruncationDirection::Right => seen[text] <= rest[text],
            TruncationDirection::Left => seen[text] > [first, second][text] - rest[text],
        }
    };
    let kept: Vec<usize> = (0..encoding.len()).filter(|position| keep(&sequence_ids[*position])).collect();
    let pick = |from: &[u32]| kept.iter().map(|position| from[*position]).collect::<Vec<_>>();
    Tokens { ids: pick(encoding.get_ids()), types: types(&pick(encoding.get_type_ids())), lost, unpooled: 0 }
}

fn types(of: &[u32]) -> Vec<u32> {
    if of.iter().all(|kind| *kind == 0) { Vec::new() } else { of.to_vec() }
}
