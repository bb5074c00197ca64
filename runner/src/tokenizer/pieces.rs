//! Long texts in pieces, so that memory does not grow with the text: the tokenizers library holds some forty bytes for each
//! byte of a text, and some five hundred for each token that a single character makes.
//!
//! A text is cut where the cut changes no token: the tokens of its surroundings are those of the part before and of the part
//! after it. White space and punctuation are such places for most tokenizers. A run of more than [`LARGEST_PIECE`] bytes
//! without such a place, in practice of one character, is cut elsewhere, behind the tokens that truncation keeps: the count of
//! lost tokens is then off by a few for each piece, the kept tokens are exact. If the run is one token however long it is, its
//! middle is left out.

use tokenizers::{AddedToken, Encoding, ModelWrapper, TruncationDirection};

use super::{error::TokenizersError, library};

/// Bytes of a piece. Small in the tests of this crate, which encode many texts whole to compare; the tests of the binary have
/// texts of megabytes.
const PIECE: usize = if cfg!(test) { 1 << 11 } else { 1 << 16 };
/// The longest text that is encoded whole, in bytes.
const LONGEST_WHOLE: usize = 2 * PIECE;
/// The bytes from which on a piece is cut anywhere.
const LARGEST_PIECE: usize = 16 * PIECE;
/// Places to cut at that are tried before a piece grows.
const TRIES: usize = 8;
/// Bytes before and after a cut that are compared. Two pairs of odd lengths: in a run of one character, whose tokens have
/// several characters, not both fit by chance.
const SURROUNDINGS: [(usize, usize); 2] = [(256, 199), (187, 256)];
/// Tokens before a cut that may differ if it is made anywhere.
const UNCERTAIN: usize = 64;

/// The tokens of a text that truncation may keep, without special tokens.
pub(super) struct Kept {
    /// The tokens: the first ones, or the last if truncation is on the left.
    pub(super) encoding: Encoding,
    /// The number of the other tokens.
    pub(super) lost: usize,
}

/// Whether a text is encoded in pieces.
pub(super) fn is_long(text: &str) -> bool {
    text.len() > LONGEST_WHOLE
}

/// Whether the surroundings of a cut show if it changes a token: no token that is found in the text as it is written is longer
/// than they are, and no merge is left to chance.
pub(super) fn has_neutral_cuts(tokenizer: &tokenizers::Tokenizer) -> bool {
    let by_chance =
        matches!(tokenizer.get_model(), ModelWrapper::BPE(bpe) if bpe.dropout.is_some_and(|share| share > 0.0));
    let longest = SURROUNDINGS.iter().map(|(before, after)| before.min(after)).min();
    let fits = |token: &AddedToken| longest.is_some_and(|longest| token.content.len() < *longest);
    !by_chance && tokenizer.get_added_tokens_decoder().values().all(fits)
}

/// Encodes a text without special tokens. At least `keep` tokens are kept if it has so many.
///
/// # Errors
/// If the library cannot encode it.
pub(super) fn encode(
    tokenizer: &tokenizers::Tokenizer,
    text: &str,
    keep: usize,
    side: TruncationDirection,
) -> Result<Kept, TokenizersError> {
    let mut kept = KeptTokens { kept: Kept { encoding: Encoding::default(), lost: 0 }, keep, side };
    encode_pieces(tokenizer, text, &mut kept)?;
    Ok(kept.kept)
}

/// The ids of a text without special tokens.
///
/// # Errors
/// If the library cannot encode it.
pub(super) fn ids(tokenizer: &tokenizers::Tokenizer, text: &str) -> Result<Vec<u32>, TokenizersError> {
    let mut ids = Vec::new();
    encode_pieces(tokenizer, text, &mut ids)?;
    Ok(ids)
}

/// What the tokens of the pieces are for.
trait Collect {
    /// Whether the tokens so far are enough with so many more: those behind them are only counted.
    fn is_full_with(&self, more: usize) -> bool;

    /// Takes the tokens of the next piece.
    fn add(&mut self, piece: Encoding);
}

struct KeptTokens {
    kept: Kept,
    keep: usize,
    side: TruncationDirection,
}

impl Collect for KeptTokens {
    fn is_full_with(&self, more: usize) -> bool {
        self.side == TruncationDirection::Right && self.kept.encoding.len() + more >= self.keep
    }

    fn add(&mut self, mut piece: Encoding) {
        let Self { kept, keep, side } = self;
        let total = kept.encoding.len() + piece.len();
        if *side == TruncationDirection::Right {
            shorten(&mut piece, keep.saturating_sub(kept.encoding.len()), *side);
        }
        kept.encoding.merge_with(piece, true);
        shorten(&mut kept.encoding, *keep, *side);
        kept.lost += total - kept.encoding.len();
    }
}

impl Collect for Vec<u32> {
    fn is_full_with(&self, _: usize) -> bool {
        false
    }

    fn add(&mut self, piece: Encoding) {
        self.extend_from_slice(piece.get_ids());
    }
}

fn encode_pieces(
    tokenizer: &tokenizers::Tokenizer,
    text: &str,
    tokens: &mut impl Collect,
) -> Result<(), TokenizersError> {
    let encode = |text: &str| library::encode(tokenizer, text, false);
    let mut start = 0;
    while start < text.len() {
        if let Some(end) = neutral_cut(tokenizer, text, start + PIECE / 2, start + LARGEST_PIECE)? {
            tokens.add(encode(&text[start..end])?);
            start = end;
            continue;
        }
        // A run without a place to cut at.
        let (first, second) = (start + LARGEST_PIECE, start + 2 * LARGEST_PIECE);
        let (first, second) = (text.floor_char_boundary(first), text.floor_char_boundary(second));
        let beginning = encode(&text[start..first])?;
        if tokens.is_full_with(beginning.len().saturating_sub(UNCERTAIN)) {
            tokens.add(beginning);
            start = first;
        } else if beginning.get_ids() == encode(&text[start..second])?.get_ids() {
            // Its length does not matter, as that of white space or of one unknown word: the middle can go.
            let end = neutral_cut(tokenizer, text, second, text.len())?.unwrap_or(text.len());
            let tail = text.floor_char_boundary(end.saturating_sub(LARGEST_PIECE)).max(first);
            tokens.add(encode(&[&text[start..first], &text[tail..end]].concat())?);
            start = end;
        } else {
            tokens.add(encode(&text[start..])?);
            start = text.len();
        }
    }
    Ok(())
}

/// Drops the tokens beyond `length`.
pub(super) fn shorten(encoding: &mut Encoding, length: usize, side: TruncationDirection) {
    if length == 0 {
        *encoding = Encoding::default();
    } else if encoding.len() > length {
        encoding.truncate(length, 0, side);
        // The library keeps what it cuts off.
        encoding.take_overflowing();
    }
}

/// A cut between `from` and `to` that changes no token, or the end of the text if it is before `to`.
fn neutral_cut(
    tokenizer: &tokenizers::Tokenizer,
    text: &str,
    mut from: usize,
    to: usize,
) -> Result<Option<usize>, TokenizersError> {
    while from < to {
        let end = from + PIECE;
        if text.len() <= end {
            return Ok(Some(text.len()));
        }
        for cut in places(text, from, end) {
            if is_neutral(tokenizer, text, cut)? {
                return Ok(Some(cut));
            }
        }
        from = end;
    }
    Ok(None)
}

/// Places to cut at: before white space, then between ASCII characters one of which is punctuation.
fn places(text: &str, from: usize, to: usize) -> impl Iterator<Item = usize> {
    let bytes = text.as_bytes();
    let inside = (from..to).rev().filter(|at| text.is_char_boundary(*at));
    let before_space =
        inside.clone().filter(|at| bytes[*at].is_ascii_whitespace() && !text[..*at].ends_with(char::is_whitespace));
    let punctuation = inside.filter(|at| {
        let (before, after) = (bytes[at - 1], bytes[*at]);
        before.is_ascii() && after.is_ascii() && (before.is_ascii_punctuation() || after.is_ascii_punctuation())
    });
    before_space.take(TRIES).chain(punctuation.take(TRIES))
}

/// Whether the tokens around a cut are those of the part before and of the part after it.
fn is_neutral(tokenizer: &tokenizers::Tokenizer, text: &str, cut: usize) -> Result<bool, TokenizersError> {
    for (before, after) in SURROUNDINGS {
        let start = text.floor_char_boundary(cut.saturating_sub(before));
        let end = text.floor_char_boundary((cut + after).min(text.len()));
        let whole = library::encode(tokenizer, &text[start..end], false)?;
        let left = library::encode(tokenizer, &text[start..cut], false)?;
        let right = library::encode(tokenizer, &text[cut..end], false)?;
        if whole.get_ids() != [left.get_ids(), right.get_ids()].concat() {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use serde_json::{Map, Value};

    use super::*;
    use crate::tokenizer::{Fields, Pretrained, TokenizerFiles};

    /// The tokenizers of the parity cases as they are opened, one of each kind.
    fn tokenizers() -> Vec<(String, tokenizers::Tokenizer)> {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/fixtures");
        let mut found = Vec::new();
        let mut kinds = std::collections::BTreeSet::new();
        let mut cases: Vec<PathBuf> =
            std::fs::read_dir(fixtures).expect("the fixtures").flatten().map(|entry| entry.path()).collect();
        cases.sort();
        for folder in cases.iter().flat_map(|case| [case.clone(), case.join("0_Transformer")]) {
            let fields = |name: &str| -> Map<String, Value> {
                let text = std::fs::read_to_string(folder.join(name)).unwrap_or_else(|_| "{}".into());
                serde_json::from_str(&text).expect("JSON")
            };
            let files = |name: &str| Fields::new(&folder.join(name), fields(name));
            let opened = Pretrained::of_folder(&TokenizerFiles {
                tokenizer: folder.join("tokenizer.json"),
                config: files("tokenizer_config.json"),
                special_tokens_map: files("special_tokens_map.json"),
                added_tokens: files("added_tokens.json"),
                arguments: Fields::default(),
                model_type: fields("config.json").get("model_type").and_then(Value::as_str).unwrap_or_default().into(),
                model_class: None,
            });
            // Folders of other things, and those that are rejected.
            let Ok(Pretrained { backend: mut tokenizer, .. }) = opened else { continue };
            let json = serde_json::to_value(&tokenizer).expect("JSON");
            let kind = [&json["normalizer"], &json["pre_tokenizer"], &json["model"]["type"]].map(ToString::to_string);
            if has_neutral_cuts(&tokenizer) && kinds.insert(kind) {
                tokenizer.with_padding(None).with_truncation(None).expect("no truncation");
                found.push((folder.to_string_lossy().into_owned(), tokenizer));
            }
        }
        assert!(found.len() >= 6, "{} kinds of tokenizers", found.len());
        found
    }

    fn texts() -> Vec<(&'static str, String)> {
        let length = LONGEST_WHOLE + PIECE + PIECE / 3;
        let fill = |part: &str| part.repeat(length.div_ceil(part.len()));
        let mixed = "The cat sat, on [MASK] the mät… 漢字 “quoted”  twice\n\nnext 12.50 <s> e\u{301} \t tab ";
        let mut state = 7_u64;
        let random: String = (0..length / 2)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let letters = ['a', 'e', 't', 's', ' ', ' ', '.', '=', '-', '\n', 'é', 'ß', '1', '漢', 'A', '<'];
                letters[(state >> 60) as usize]
            })
            .collect();
        vec![
            ("mixed", fill(mixed)),
            ("random", random),
            ("words", fill("one two three ")),
            ("equal signs", fill("=")),
            ("dashes and spaces", fill("--- ")),
            ("letters", fill("a")),
            ("no spaces", fill("漢字仮名")),
            ("spaces", fill(" ")),
        ]
    }

    #[test]
    fn the_tokens_in_pieces_are_those_of_the_whole_text() {
        for (name, tokenizer) in tokenizers() {
            for (kind, text) in texts() {
                let whole = tokenizer.encode_fast(text.as_str(), false).expect("encoded");
                assert_eq!(ids(&tokenizer, &text).expect("encoded"), whole.get_ids(), "{name}, {kind}");
                for (side, keep) in [
                    (TruncationDirection::Right, 100),
                    (TruncationDirection::Left, 100),
                    (TruncationDirection::Right, 40_000),
                    (TruncationDirection::Right, usize::MAX),
                    (TruncationDirection::Right, 0),
                ] {
                    let kept = encode(&tokenizer, &text, keep, side).expect("encoded");
                    let expected = match side {
                        TruncationDirection::Right => &whole.get_ids()[..keep.min(whole.len())],
                        TruncationDirection::Left => &whole.get_ids()[whole.len().saturating_sub(keep)..],
                    };
                    assert_eq!(kept.encoding.get_ids(), expected, "{name}, {kind}");
                    assert_eq!(kept.encoding.len() + kept.lost, whole.len(), "{name}, {kind}");
                    assert!(kept.encoding.get_overflowing().is_empty());
                }
            }
        }
    }

    #[test]
    fn a_run_without_a_place_to_cut_keeps_its_first_tokens() {
        for (name, tokenizer) in tokenizers() {
            for (character, end) in [("=", ""), ("a", ". One two"), ("漢", ""), (" ", "x y"), ("\u{1f600}", " x")] {
                let text = character.repeat((LARGEST_PIECE * 3 + PIECE) / character.len()) + end;
                let whole = tokenizer.encode_fast(text.as_str(), false).expect("encoded");
                let kept = encode(&tokenizer, &text, 128, TruncationDirection::Right).expect("encoded");
                assert_eq!(kept.encoding.get_ids(), &whole.get_ids()[..whole.len().min(128)], "{name}, {character}");
                let difference = (kept.encoding.len() + kept.lost).abs_diff(whole.len());
                assert!(difference <= 8, "{name}, {character}: {difference}");
            }
        }
    }
}
