//! The tokenizer of a model.

use std::{num::NonZeroUsize, thread};

use tokenizers::{Encoding, TruncationDirection};

use super::{
    error::{TokenizerError, TokenizersError},
    library,
    pieces::{self, Kept},
    pretrained::Pretrained,
    tokens::{MaxTokens, SpecialTokens, Tokens},
    truncation::{truncate, truncate_pair},
};

/// The tokenizer of a model.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    max_tokens: MaxTokens,
    truncation_side: TruncationDirection,
    special: SpecialTokens,
    segments: bool,
    rows: usize,
    /// Whether long texts are encoded in pieces.
    pieces: bool,
}

impl Tokenizer {
    /// Applies a `pretrained` tokenizer. A sequence is at most `max_tokens` long; the model has vectors for ids below `rows`.
    /// Nothing is padded, and truncation is counted.
    ///
    /// # Errors
    /// If the tokenizer adds no special tokens where they are required, or some that the model has no vectors for, or
    /// `max_tokens` leaves no room for text.
    pub fn new(
        pretrained: Pretrained,
        max_tokens: MaxTokens,
        special: SpecialTokens,
        rows: usize,
    ) -> Result<Self, TokenizerError> {
        let Pretrained { backend: mut inner, path, truncation_side, segments, .. } = pretrained;
        let open_error = |source| TokenizerError::Open { path: path.clone(), source };
        inner.with_padding(None).with_truncation(None).map_err(open_error)?;
        let of_every_text = library::encode(&inner, "", special != SpecialTokens::Never).map_err(open_error)?;
        let special_count = of_every_text.len();
        if special_count == 0 && special == SpecialTokens::Required {
            return Err(TokenizerError::NoSpecialTokens { path });
        }
        if let Some(id) = of_every_text.get_ids().iter().copied().find(|id| *id as usize >= rows) {
            let token = inner.id_to_token(id).unwrap_or_default();
            return Err(TokenizerError::NoVectorOfSpecial { path, token, id, rows });
        }
        let shortest = max_tokens.document.min(max_tokens.query).min(max_tokens.pair);
        if shortest <= special_count {
            return Err(TokenizerError::NoRoom { max_tokens: shortest, special: special_count });
        }
        let pieces = pieces::has_neutral_cuts(&inner);
        Ok(Self { inner, max_tokens, truncation_side, special, segments, rows, pieces })
    }

    /// The same tokenizer of a model with vectors for ids below `rows`.
    #[must_use]
    pub fn with_rows(self, rows: usize) -> Self {
        Self { rows, ..self }
    }

    /// The longest sequences.
    pub fn max_tokens(&self) -> MaxTokens {
        self.max_tokens
    }

    /// Whether truncation removes the beginning of a text.
    pub fn truncates_left(&self) -> bool {
        matches!(self.truncation_side, TruncationDirection::Left)
    }

    /// The size of the vocabulary: the highest id plus one, so that every id is a row of an embedding of this size.
    pub fn vocabulary(&self) -> usize {
        self.inner.get_vocab(true).into_values().max().map_or(0, |highest| highest as usize + 1)
    }

    /// Encodes one document.
    ///
    /// # Errors
    /// If the tokenizer cannot encode it; the row is 0.
    pub fn encode(&self, text: &str) -> Result<Tokens, TokenizerError> {
        self.encode_row(0, text, self.max_tokens.document)
    }

    /// Encodes one query.
    ///
    /// # Errors
    /// If the tokenizer cannot encode it; the row is 0.
    pub fn encode_query(&self, text: &str) -> Result<Tokens, TokenizerError> {
        self.encode_row(0, text, self.max_tokens.query)
    }

    /// Encodes texts with up to `threads` threads; the order is kept. A sequence is at most `max_tokens` long.
    ///
    /// # Errors
    /// If the tokenizer cannot encode a text; the error names its row.
    pub fn encode_batch<T: AsRef<str> + Sync>(
        &self,
        texts: &[T],
        max_tokens: usize,
        threads: NonZeroUsize,
    ) -> Result<Vec<Tokens>, TokenizerError> {
        encode_in_parallel(texts, threads, |row, text| self.encode_row(row, text.as_ref(), max_tokens))
    }

    /// Encodes a pair of texts into one sequence; if it is too long, the longer text is truncated first.
    ///
    /// # Errors
    /// If the tokenizer cannot encode it; the row is 0.
    pub fn encode_pair(&self, first: &str, second: &str) -> Result<Tokens, TokenizerError> {
        let encode_error = |source| TokenizerError::Encode { row: 0, source };
        let (encoding, lost) = self.pair_encoding(first, second).map_err(encode_error)?;
        let mut tokens = truncate_pair(&encoding, self.max_tokens.pair, self.truncation_side);
        tokens.lost += lost;
        self.checked(0, tokens)
    }

    /// Whether a text is encoded in pieces.
    fn is_in_pieces(&self, text: &str) -> bool {
        self.pieces && pieces::is_long(text)
    }

    /// A text with its special tokens, and the number of tokens that it lacks because truncation to `max_tokens` would remove
    /// them.
    fn encoding(&self, text: &str, max_tokens: usize) -> Result<(Encoding, usize), TokenizersError> {
        let special = self.special != SpecialTokens::Never;
        if !self.is_in_pieces(text) {
            return Ok((library::encode(&self.inner, text, special)?, 0));
        }
        let Kept { encoding, lost } = pieces::encode(&self.inner, text, max_tokens, self.truncation_side)?;
        Ok((self.inner.post_process(encoding, None, special)?, lost))
    }

    /// Same as [`Self::encoding`], for a pair.
    fn pair_encoding(&self, first: &str, second: &str) -> Result<(Encoding, usize), TokenizersError> {
        let special = self.special != SpecialTokens::Never;
        let (side, max_tokens) = (TruncationDirection::Right, self.max_tokens.pair);
        if self.truncates_left() || !(self.is_in_pieces(first) || self.is_in_pieces(second)) {
            return Ok((library::encode(&self.inner, (first, second), special)?, 0));
        }
        // One more than is kept of a text, so that the longer one stays the longer one.
        let encode = |text| pieces::encode(&self.inner, text, max_tokens.saturating_add(1), side);
        let (mut first, mut second) = (encode(first)?, encode(second)?);
        let total = |kept: &Kept| kept.encoding.len() + kept.lost;
        let shorter = if total(&first) > total(&second) { &mut second } else { &mut first };
        let before = shorter.encoding.len();
        pieces::shorten(&mut shorter.encoding, max_tokens, side);
        shorter.lost += before - shorter.encoding.len();
        // The library marks the second text before a post-processor may mark it otherwise.
        second.encoding.set_type_ids(vec![1; second.encoding.len()]);
        let lost = first.lost + second.lost;
        Ok((self.inner.post_process(first.encoding, Some(second.encoding), special)?, lost))
    }

    /// Encodes a text without special tokens, between tokens that are never truncated.
    ///
    /// # Errors
    /// If the tokenizer cannot encode it; the row is 0.
    pub fn encode_between(&self, prefix: &[u32], text: &str, suffix: &[u32]) -> Result<Tokens, TokenizerError> {
        let room = self.max_tokens.pair.saturating_sub(prefix.len() + suffix.len());
        let mut ids = self.ids(text)?;
        let lost = ids.len().saturating_sub(room);
        ids.truncate(room);
        Ok(Tokens { ids: [prefix, &ids, suffix].concat(), lost, ..Tokens::default() })
    }

    /// Encodes a text without special tokens. If it is too long, its end is cut, and the last tokens are replaced by the
    /// `suffix` that it ended with.
    ///
    /// # Errors
    /// If the tokenizer cannot encode it; the row is 0.
    pub fn encode_ending(&self, text: &str, suffix: &[u32]) -> Result<Tokens, TokenizerError> {
        let max_tokens = self.max_tokens.pair;
        let mut ids = self.ids(text)?;
        let lost = ids.len().saturating_sub(max_tokens);
        if lost > 0 {
            let kept = suffix.len().min(max_tokens);
            ids.truncate(max_tokens - kept);
            ids.extend(&suffix[suffix.len() - kept..]);
        }
        if ids.is_empty() {
            return Err(TokenizerError::NoTokens { row: 0 });
        }
        Ok(Tokens { ids, lost, ..Tokens::default() })
    }

    /// The ids of a text, without special tokens and without truncation.
    ///
    /// # Errors
    /// If the tokenizer cannot encode it; the row is 0.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encode_error = |source| TokenizerError::Encode { row: 0, source };
        let ids = if self.is_in_pieces(text) {
            pieces::ids(&self.inner, text).map_err(encode_error)?
        } else {
            library::encode(&self.inner, text, false).map_err(encode_error)?.get_ids().to_vec()
        };
        Ok(self.checked(0, Tokens { ids, ..Tokens::default() })?.ids)
    }

    /// The number of tokens at the beginning of a sequence that belong to the text `text` it begins with, and to special tokens
    /// before it.
    ///
    /// # Errors
    /// If the tokenizer cannot encode it; the row is 0.
    pub fn leading_tokens(&self, text: &str) -> Result<usize, TokenizerError> {
        let encode_error = |source| TokenizerError::Encode { row: 0, source };
        let encoding =
            library::encode(&self.inner, text, self.special != SpecialTokens::Never).map_err(encode_error)?;
        let trailing = encoding.get_special_tokens_mask().iter().rev().take_while(|special| **special == 1).count();
        Ok(encoding.len() - trailing)
    }

    /// The id of a vocabulary entry.
    pub fn id(&self, entry: &str) -> Option<u32> {
        self.inner.token_to_id(entry)
    }

    fn encode_row(&self, row: usize, text: &str, max_tokens: usize) -> Result<Tokens, TokenizerError> {
        let encode_error = |source| TokenizerError::Encode { row, source };
        let (encoding, lost) = self.encoding(text, max_tokens).map_err(encode_error)?;
        if encoding.is_empty() {
            return Err(TokenizerError::NoTokens { row });
        }
        let mut tokens = truncate(&encoding, max_tokens, self.truncation_side);
        tokens.lost += lost;
        self.checked(row, tokens)
    }

    /// The tokens, checked against the rows of the model's embedding, as the model takes them.
    fn checked(&self, row: usize, mut tokens: Tokens) -> Result<Tokens, TokenizerError> {
        if let Some(id) = tokens.ids.iter().copied().find(|id| *id as usize >= self.rows) {
            let token = self.inner.id_to_token(id).unwrap_or_default();
            return Err(TokenizerError::NoVector { row, token, id, rows: self.rows });
        }
        if !self.segments {
            tokens.types.clear();
        }
        Ok(tokens)
    }
}

/// The tokens of items in their order, with up to `threads` threads; `encode` gets each item with its row.
///
/// # Errors
/// That of the first item that cannot be encoded.
pub fn encode_in_parallel<I: Sync, E: Send>(
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

    fn open(json: &serde_json::Value, max_tokens: usize) -> Result<Tokenizer, TokenizerError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, json.to_string()).expect("a file in it");
        Tokenizer::new(Pretrained::of_file(&path)?, MaxTokens::all(max_tokens), SpecialTokens::Required, usize::MAX)
    }

    fn tokenizer(max_tokens: usize) -> Result<Tokenizer, TokenizerError> {
        open(&tokenizer_json("Right"), max_tokens)
    }

    #[test]
    fn padding_and_truncation_of_the_file_are_overridden() -> Result<(), TokenizerError> {
        let tokens = tokenizer(100)?.encode("a b c d e f")?;
        assert_eq!(tokens, Tokens { ids: vec![1, 4, 5, 6, 7, 8, 9, 2], unpooled: 0, types: Vec::new(), lost: 0 });
        Ok(())
    }

    #[test]
    fn truncation_keeps_the_special_tokens_and_counts_the_others() -> Result<(), TokenizerError> {
        assert_eq!(
            tokenizer(5)?.encode("a b c d e f")?,
            Tokens { ids: vec![1, 4, 5, 6, 2], unpooled: 0, types: Vec::new(), lost: 3 }
        );
        Ok(())
    }

    #[test]
    fn a_file_that_cuts_on_the_left_is_cut_on_the_left() -> Result<(), TokenizerError> {
        let tokens = open(&tokenizer_json("Left"), 5)?.encode("a b c d e f")?;
        assert_eq!(tokens, Tokens { ids: vec![1, 7, 8, 9, 2], unpooled: 0, types: Vec::new(), lost: 3 });
        Ok(())
    }

    #[test]
    fn a_text_of_exactly_the_longest_length_loses_nothing() -> Result<(), TokenizerError> {
        assert_eq!(
            tokenizer(5)?.encode("a b c")?,
            Tokens { ids: vec![1, 4, 5, 6, 2], unpooled: 0, types: Vec::new(), lost: 0 }
        );
        Ok(())
    }

    #[test]
    fn special_tokens_written_in_the_text_are_cut_like_text() -> Result<(), TokenizerError> {
        assert_eq!(
            tokenizer(4)?.encode("a b [SEP] [SEP]")?,
            Tokens { ids: vec![1, 4, 5, 2], unpooled: 0, types: Vec::new(), lost: 2 }
        );
        Ok(())
    }

    #[test]
    fn an_empty_text_is_its_special_tokens() -> Result<(), TokenizerError> {
        assert_eq!(tokenizer(5)?.encode("")?, Tokens { ids: vec![1, 2], unpooled: 0, types: Vec::new(), lost: 0 });
        Ok(())
    }

    #[test]
    fn a_batch_has_the_order_of_its_texts_with_any_number_of_threads() -> Result<(), TokenizerError> {
        let tokenizer = tokenizer(6)?;
        let texts: Vec<String> = (0..50).map(|n| ["a", "b", "c", "d", "e", "f"][..n % 7].join(" ")).collect();
        let alone = texts.iter().map(|text| tokenizer.encode(text)).collect::<Result<Vec<_>, _>>()?;
        for threads in [1, 2, 3, 7, 64] {
            let threads = NonZeroUsize::new(threads).expect("not zero");
            assert_eq!(tokenizer.encode_batch(&texts, 6, threads)?, alone);
        }
        assert!(tokenizer.encode_batch::<&str>(&[], usize::MAX, NonZeroUsize::MIN)?.is_empty());
        Ok(())
    }

    #[test]
    fn a_long_text_and_a_long_pair_are_cut_like_short_ones() -> Result<(), TokenizerError> {
        let (many, more) = (10_000, 12_000);
        let text = "a b c d ".repeat(many);
        let tokens = tokenizer(6)?.encode(&text)?;
        assert_eq!(tokens, Tokens { ids: vec![1, 4, 5, 6, 7, 2], unpooled: 0, types: Vec::new(), lost: 4 * many - 4 });
        let tokens = open(&tokenizer_json("Left"), 6)?.encode(&text)?;
        assert_eq!(tokens, Tokens { ids: vec![1, 4, 5, 6, 7, 2], unpooled: 0, types: Vec::new(), lost: 4 * many - 4 });
        for (first, second, ids) in [
            (many, many, vec![1, 4, 4, 2, 5, 5, 5, 2]),
            (more, many, vec![1, 4, 4, 4, 2, 5, 5, 2]),
            (many, more, vec![1, 4, 4, 2, 5, 5, 5, 2]),
            (1, many, vec![1, 4, 2, 5, 5, 5, 5, 2]),
            (many, 1, vec![1, 4, 4, 4, 4, 2, 5, 2]),
        ] {
            let tokens = tokenizer(8)?.encode_pair(&"a ".repeat(first), &"b ".repeat(second))?;
            assert_eq!((tokens.ids, tokens.lost), (ids, first + second - 5), "{first} and {second}");
            assert_eq!(tokens.types.last(), Some(&1));
        }
        let left = open(&tokenizer_json("Left"), 7)?;
        let tokens = left.encode_pair(&format!("{}b", "a ".repeat(many)), &format!("{}d", "c ".repeat(many)))?;
        assert_eq!((tokens.ids, tokens.lost), (vec![1, 4, 5, 2, 6, 7, 2], 2 * many - 2));
        Ok(())
    }

    #[test]
    fn a_long_text_needs_vectors_for_the_tokens_that_it_keeps() -> Result<(), TokenizerError> {
        let tokenizer = tokenizer(6)?.with_rows(8);
        let text = |first: &str| format!("{first} {}e", "a ".repeat(10_000));
        assert_eq!(tokenizer.encode(&text("d"))?.ids, [1, 7, 4, 4, 4, 2], "e is cut off");
        let error = tokenizer.encode(&text("e")).expect_err("no vector");
        assert!(matches!(error, TokenizerError::NoVector { id: 8, .. }), "{error}");
        let error = tokenizer.ids(&text("d")).expect_err("nothing is cut off");
        assert!(matches!(error, TokenizerError::NoVector { id: 8, .. }), "{error}");
        Ok(())
    }

    #[test]
    fn a_tokenizer_with_a_token_as_long_as_a_sentence_encodes_long_texts_whole() -> Result<(), TokenizerError> {
        let mut json = tokenizer_json("Right");
        let sentence = "a b, ".repeat(1000) + "c";
        let added = json!({"id": 10, "content": sentence, "special": false, "single_word": false, "lstrip": false,
                           "rstrip": false, "normalized": false});
        json["added_tokens"].as_array_mut().expect("a list").push(added);
        let tokens = open(&json, 100)?.encode(&format!("{sentence} {sentence} d"))?;
        assert_eq!((tokens.ids, tokens.lost), (vec![1, 10, 10, 7, 2], 0));
        Ok(())
    }

    #[test]
    fn the_vocabulary_is_one_more_than_the_highest_id() -> Result<(), TokenizerError> {
        assert_eq!(tokenizer(5)?.vocabulary(), 10);
        Ok(())
    }

    #[test]
    fn a_length_without_room_for_text_is_rejected() {
        let error = tokenizer(2).map(|_| ()).expect_err("no room");
        assert_eq!(error.to_string(), "max tokens is 2, but 2 of them are special tokens: at least 3 are required");
    }

    #[test]
    fn a_tokenizer_without_special_tokens_is_rejected() {
        let mut json = tokenizer_json("Right");
        json["post_processor"] = json!(null);
        let error = open(&json, 5).map(|_| ()).expect_err("no post_processor");
        assert!(matches!(error, TokenizerError::NoSpecialTokens { .. }), "{error}");
    }

    #[test]
    fn a_text_that_cannot_be_encoded_is_named_by_its_row() -> Result<(), TokenizerError> {
        let mut json = tokenizer_json("Right");
        json["model"]["unk_token"] = json!("[GONE]");
        let error = open(&json, 5)?
            .encode_batch(&["a", "b", "?"], usize::MAX, NonZeroUsize::MIN)
            .expect_err("no unknown token");
        assert!(matches!(error, TokenizerError::Encode { row: 2, .. }), "{error}");
        Ok(())
    }

    #[test]
    fn a_file_that_is_not_a_tokenizer_is_named() {
        let error = open(&json!({}), 5).map(|_| ()).expect_err("not a tokenizer");
        assert!(error.to_string().contains("tokenizer.json"), "{error}");
    }
}
