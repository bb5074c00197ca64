//! Text to token ids, with an exact account of what truncation costs.
//!
//! The text is handed to the tokenizer as it is: whitespace and case are the user's, and what the tokenizer's own
//! normalizer does with them is part of the model.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    thread,
};

use tokenizers::{Encoding, TruncationDirection};

/// The cause of an error inside the tokenizers library.
pub type TokenizersError = Box<dyn std::error::Error + Send + Sync>;

/// Why a tokenizer cannot be used, or a text not be encoded.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// The file is not there, or not a tokenizer.
    #[error("{} cannot be read as a tokenizer", path.display())]
    Open {
        /// The `tokenizer.json`.
        path: PathBuf,
        /// What the tokenizers library says.
        #[source]
        source: TokenizersError,
    },
    /// Nothing marks the beginning and the end of a text, which an encoder needs.
    #[error("{} adds no special tokens to a text: its post_processor is missing", path.display())]
    NoSpecialTokens {
        /// The `tokenizer.json`.
        path: PathBuf,
    },
    /// The special tokens alone fill a sequence.
    #[error("max tokens is {max_tokens}, but {special} of them are special tokens: at least {} are needed", special + 1)]
    NoRoom {
        /// The longest sequence.
        max_tokens: usize,
        /// The special tokens of every sequence.
        special: usize,
    },
    /// A text has no token, and the tokenizer adds none.
    #[error("the text of row {row} has no token")]
    NoTokens {
        /// The row among the given texts, from 0.
        row: usize,
    },
    /// A text cannot be encoded.
    #[error("the text of row {row} cannot be encoded")]
    Encode {
        /// The row among the given texts, from 0.
        row: usize,
        /// What the tokenizers library says.
        #[source]
        source: TokenizersError,
    },
}

/// What a model wants around a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecialTokens {
    /// Special tokens: without them its vectors mean nothing.
    Required,
    /// Those that the tokenizer adds, which may be none.
    AsTokenizer,
    /// None, whatever the tokenizer adds.
    Never,
}

/// One encoded text, or pair of texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// The token ids, special tokens included.
    pub ids: Vec<u32>,
    /// The token types (segments) of the ids; empty where all are 0.
    pub types: Vec<u32>,
    /// The tokens that truncation cut off.
    pub lost: usize,
    /// The tokens at the beginning that pooling leaves out: those of a prompt, where the model wants it so.
    pub unpooled: usize,
}

/// The tokenizer of a model.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    max_tokens: usize,
    cut: TruncationDirection,
    special: SpecialTokens,
}

impl Tokenizer {
    /// Opens a `tokenizer.json`. A sequence is at most `max_tokens` long, special tokens included. Padding and
    /// truncation that the file sets are overridden: nothing is padded, and truncation is counted. The side that the
    /// file cuts from is kept.
    ///
    /// # Errors
    /// If the file is not a tokenizer, adds no special tokens where they are required, or `max_tokens` leaves no room
    /// for text.
    pub fn open(path: &Path, max_tokens: usize, special: SpecialTokens) -> Result<Self, TextError> {
        let open_error = |source| TextError::Open { path: path.to_owned(), source };
        let mut inner = tokenizers::Tokenizer::from_file(path).map_err(open_error)?;
        let cut = inner.get_truncation().map_or(TruncationDirection::Right, |truncation| truncation.direction);
        inner.with_padding(None).with_truncation(None).map_err(open_error)?;
        let around = inner.encode_fast("", special != SpecialTokens::Never).map_err(open_error)?.len();
        if around == 0 && special == SpecialTokens::Required {
            return Err(TextError::NoSpecialTokens { path: path.to_owned() });
        }
        if max_tokens <= around {
            return Err(TextError::NoRoom { max_tokens, special: around });
        }
        Ok(Self { inner, max_tokens, cut, special })
    }

    /// The longest sequence in tokens, special tokens included.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// The number of ids: one more than the highest, so that every id is a row of an embedding with as many rows.
    pub fn vocabulary(&self) -> usize {
        self.inner.get_vocab(true).into_values().max().map_or(0, |highest| highest as usize + 1)
    }

    /// Encodes one text.
    ///
    /// # Errors
    /// If the tokenizer cannot encode it; the row is 0.
    pub fn encode(&self, text: &str) -> Result<Tokens, TextError> {
        self.encode_row(0, text)
    }

    /// Encodes texts with up to `threads` threads; the order is kept.
    ///
    /// # Errors
    /// If the tokenizer cannot encode a text; the error names its row.
    pub fn encode_batch<T: AsRef<str> + Sync>(
        &self,
        texts: &[T],
        threads: NonZeroUsize,
    ) -> Result<Vec<Tokens>, TextError> {
        encode_side_by_side(texts, threads, |row, text| self.encode_row(row, text.as_ref()))
    }

    /// Encodes a pair of texts into one sequence; of one that is too long, the longer text is cut first.
    ///
    /// # Errors
    /// If the tokenizer cannot encode it; the row is 0.
    pub fn encode_pair(&self, first: &str, second: &str) -> Result<Tokens, TextError> {
        let encode_error = |source| TextError::Encode { row: 0, source };
        let encoding = self.inner.encode_fast((first, second), true).map_err(encode_error)?;
        Ok(truncate_pair(&encoding, self.max_tokens))
    }

    /// Encodes a text without special tokens, between tokens that are never cut.
    ///
    /// # Errors
    /// If the tokenizer cannot encode it; the row is 0.
    pub fn encode_between(&self, before: &[u32], text: &str, behind: &[u32]) -> Result<Tokens, TextError> {
        let room = self.max_tokens.saturating_sub(before.len() + behind.len());
        let mut ids = self.ids(text)?;
        let lost = ids.len().saturating_sub(room);
        ids.truncate(room);
        Ok(Tokens { ids: [before, &ids, behind].concat(), lost, ..Tokens::default() })
    }

    /// The ids of a text, without special tokens and however many they are.
    ///
    /// # Errors
    /// If the tokenizer cannot encode it; the row is 0.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let encode_error = |source| TextError::Encode { row: 0, source };
        Ok(self.inner.encode_fast(text, false).map_err(encode_error)?.get_ids().to_vec())
    }

    /// How many tokens at the beginning of a sequence are those of a text that it begins with, and special tokens before
    /// them.
    ///
    /// # Errors
    /// If the tokenizer cannot encode it; the row is 0.
    pub fn leading(&self, text: &str) -> Result<usize, TextError> {
        let encode_error = |source| TextError::Encode { row: 0, source };
        let encoding = self.inner.encode_fast(text, self.special != SpecialTokens::Never).map_err(encode_error)?;
        let behind = encoding.get_special_tokens_mask().iter().rev().take_while(|special| **special == 1).count();
        Ok(encoding.len() - behind)
    }

    /// The id of a vocabulary entry.
    pub fn id(&self, entry: &str) -> Option<u32> {
        self.inner.token_to_id(entry)
    }

    fn encode_row(&self, row: usize, text: &str) -> Result<Tokens, TextError> {
        let special = self.special != SpecialTokens::Never;
        let encoding = self.inner.encode_fast(text, special).map_err(|source| TextError::Encode { row, source })?;
        if encoding.is_empty() {
            return Err(TextError::NoTokens { row });
        }
        Ok(truncate(&encoding, self.max_tokens, self.cut))
    }
}

/// The tokens of items in their order, with up to `threads` threads; `encode` gets each item with its row.
///
/// # Errors
/// That of the first item that cannot be encoded.
pub fn encode_side_by_side<I: Sync, E: Send>(
    items: &[I],
    threads: NonZeroUsize,
    encode: impl Fn(usize, &I) -> Result<Tokens, E> + Sync,
) -> Result<Vec<Tokens>, E> {
    let share = items.len().div_ceil(threads.get()).max(1);
    let encode_share = |first: usize, items: &[I]| -> Result<Vec<Tokens>, E> {
        (first..).zip(items).map(|(row, item)| encode(row, item)).collect()
    };
    let encode_share = &encode_share;
    thread::scope(|scope| {
        let workers: Vec<_> = (0..)
            .step_by(share)
            .zip(items.chunks(share))
            .map(|(first, items)| scope.spawn(move || encode_share(first, items)))
            .collect();
        let mut encoded = Vec::with_capacity(items.len());
        for worker in workers {
            encoded.extend(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(encoded)
    })
}

/// Cuts the tokens of the text, never the special tokens around it, until the whole is `max_tokens` long.
fn truncate(encoding: &Encoding, max_tokens: usize, cut: TruncationDirection) -> Tokens {
    let lost = encoding.len().saturating_sub(max_tokens);
    if lost == 0 {
        return Tokens { ids: encoding.get_ids().to_vec(), types: types(encoding.get_type_ids()), lost, unpooled: 0 };
    }
    let is_text = |position: &usize| encoding.get_special_tokens_mask()[*position] == 0;
    let text: Vec<usize> = (0..encoding.len()).filter(is_text).collect();
    let dropped = match cut {
        TruncationDirection::Right => &text[text.len() - lost..],
        TruncationDirection::Left => &text[..lost],
    };
    let kept = |of: &[u32]| -> Vec<u32> {
        let kept = (0..encoding.len()).filter(|position| dropped.binary_search(position).is_err());
        kept.map(|position| of[position]).collect()
    };
    Tokens { ids: kept(encoding.get_ids()), types: types(&kept(encoding.get_type_ids())), lost, unpooled: 0 }
}

/// Cuts the ends of the two texts of a pair until the whole is `max_tokens` long: first the longer until both are of one
/// length, then both alike (`longest_first` of the tokenizers library).
fn truncate_pair(encoding: &Encoding, max_tokens: usize) -> Tokens {
    let lost = encoding.len().saturating_sub(max_tokens);
    let of = encoding.get_sequence_ids();
    let count = |text: usize| of.iter().filter(|of| **of == Some(text)).count();
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
    let mut left = if first <= second { [shorter, longer] } else { [longer, shorter] };
    let mut keep = |text: &Option<usize>| match text {
        None => true,
        Some(text) if left[*text] > 0 => {
            left[*text] -= 1;
            true
        }
        Some(_) => false,
    };
    let kept: Vec<usize> = (0..encoding.len()).filter(|position| keep(&of[*position])).collect();
    let pick = |from: &[u32]| kept.iter().map(|position| from[*position]).collect::<Vec<_>>();
    Tokens { ids: pick(encoding.get_ids()), types: types(&pick(encoding.get_type_ids())), lost, unpooled: 0 }
}

fn types(of: &[u32]) -> Vec<u32> {
    if of.iter().all(|kind| *kind == 0) { Vec::new() } else { of.to_vec() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Words are ids 4 to 9, `[CLS]` and `[SEP]` 1 and 2; the file pads to 128 and cuts at 5, as real ones do.
    fn tokenizer_json(cut: &str) -> serde_json::Value {
        let special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"];
        let added: Vec<_> = (0..)
            .zip(special)
            .map(|(id, content)| {
                json!({"id": id, "content": content, "special": true, "single_word": false, "lstrip": false,
                       "rstrip": false, "normalized": false})
            })
            .collect();
        let words = special.into_iter().chain(["a", "b", "c", "d", "e", "f"]);
        let vocabulary: serde_json::Map<_, _> = (0..).zip(words).map(|(id, word)| (word.into(), json!(id))).collect();
        json!({
            "version": "1.0",
            "truncation": {"max_length": 5, "strategy": "LongestFirst", "stride": 0, "direction": cut},
            "padding": {"strategy": {"Fixed": 128}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
                        "pad_type_id": 0, "pad_token": "[PAD]"},
            "added_tokens": added,
            "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                           "strip_accents": null, "lowercase": true},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
            "decoder": null,
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                      "max_input_chars_per_word": 100, "vocab": vocabulary},
        })
    }

    fn open(json: &serde_json::Value, max_tokens: usize) -> Result<Tokenizer, TextError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, json.to_string()).expect("a file in it");
        Tokenizer::open(&path, max_tokens, SpecialTokens::Required)
    }

    fn tokenizer(max_tokens: usize) -> Result<Tokenizer, TextError> {
        open(&tokenizer_json("Right"), max_tokens)
    }

    #[test]
    fn padding_and_truncation_of_the_file_are_overridden() -> Result<(), TextError> {
        let tokens = tokenizer(100)?.encode("a b c d e f")?;
        assert_eq!(tokens, Tokens { ids: vec![1, 4, 5, 6, 7, 8, 9, 2], unpooled: 0, types: Vec::new(), lost: 0 });
        Ok(())
    }

    #[test]
    fn truncation_keeps_the_special_tokens_and_counts_the_others() -> Result<(), TextError> {
        assert_eq!(
            tokenizer(5)?.encode("a b c d e f")?,
            Tokens { ids: vec![1, 4, 5, 6, 2], unpooled: 0, types: Vec::new(), lost: 3 }
        );
        Ok(())
    }

    #[test]
    fn a_file_that_cuts_on_the_left_is_cut_on_the_left() -> Result<(), TextError> {
        let tokens = open(&tokenizer_json("Left"), 5)?.encode("a b c d e f")?;
        assert_eq!(tokens, Tokens { ids: vec![1, 7, 8, 9, 2], unpooled: 0, types: Vec::new(), lost: 3 });
        Ok(())
    }

    #[test]
    fn a_text_of_exactly_the_longest_length_loses_nothing() -> Result<(), TextError> {
        assert_eq!(
            tokenizer(5)?.encode("a b c")?,
            Tokens { ids: vec![1, 4, 5, 6, 2], unpooled: 0, types: Vec::new(), lost: 0 }
        );
        Ok(())
    }

    #[test]
    fn special_tokens_written_in_the_text_are_cut_like_text() -> Result<(), TextError> {
        assert_eq!(
            tokenizer(4)?.encode("a b [SEP] [SEP]")?,
            Tokens { ids: vec![1, 4, 5, 2], unpooled: 0, types: Vec::new(), lost: 2 }
        );
        Ok(())
    }

    #[test]
    fn an_empty_text_is_its_special_tokens() -> Result<(), TextError> {
        assert_eq!(tokenizer(5)?.encode("")?, Tokens { ids: vec![1, 2], unpooled: 0, types: Vec::new(), lost: 0 });
        Ok(())
    }

    #[test]
    fn a_batch_has_the_order_of_its_texts_with_any_number_of_threads() -> Result<(), TextError> {
        let tokenizer = tokenizer(6)?;
        let texts: Vec<String> = (0..50).map(|n| ["a", "b", "c", "d", "e", "f"][..n % 7].join(" ")).collect();
        let alone = texts.iter().map(|text| tokenizer.encode(text)).collect::<Result<Vec<_>, _>>()?;
        for threads in [1, 2, 3, 7, 64] {
            let threads = NonZeroUsize::new(threads).expect("not zero");
            assert_eq!(tokenizer.encode_batch(&texts, threads)?, alone);
        }
        assert!(tokenizer.encode_batch::<&str>(&[], NonZeroUsize::MIN)?.is_empty());
        Ok(())
    }

    #[test]
    fn the_vocabulary_is_one_more_than_the_highest_id() -> Result<(), TextError> {
        assert_eq!(tokenizer(5)?.vocabulary(), 10);
        Ok(())
    }

    #[test]
    fn a_length_without_room_for_text_is_refused() {
        let error = tokenizer(2).map(|_| ()).expect_err("no room");
        assert_eq!(error.to_string(), "max tokens is 2, but 2 of them are special tokens: at least 3 are needed");
    }

    #[test]
    fn a_tokenizer_without_special_tokens_is_refused() {
        let mut json = tokenizer_json("Right");
        json["post_processor"] = json!(null);
        let error = open(&json, 5).map(|_| ()).expect_err("no post_processor");
        assert!(matches!(error, TextError::NoSpecialTokens { .. }), "{error}");
    }

    #[test]
    fn a_text_that_cannot_be_encoded_is_named_by_its_row() -> Result<(), TextError> {
        let mut json = tokenizer_json("Right");
        json["model"]["unk_token"] = json!("[GONE]");
        let error = open(&json, 5)?.encode_batch(&["a", "b", "?"], NonZeroUsize::MIN).expect_err("no unknown token");
        assert!(matches!(error, TextError::Encode { row: 2, .. }), "{error}");
        Ok(())
    }

    #[test]
    fn a_file_that_is_not_a_tokenizer_is_named() {
        let error = open(&json!({}), 5).map(|_| ()).expect_err("not a tokenizer");
        assert!(error.to_string().contains("tokenizer.json"), "{error}");
    }
}
