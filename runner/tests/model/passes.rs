//! A pass: vectors in the order of the texts, an account of what was done, and an end when it is told.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crds::contract::FailureReason;
use runner::{
    batch::{Rows, TokenBudget},
    batched::{PassError, PassOptions, PassRecord, Progress, run},
    model::DenseModel,
    text::Tokens,
};

use crate::{
    folder::{Folder, WORDS, assert_names, cosine},
    tiny,
};

const SAME: f64 = 0.999_99;

const TEXTS: [&str; 7] =
    ["a", "one two three four five", "", "b c", "this text has more than thirty two tokens of one letter", "d", "e"];

/// Runs a pass in windows of `window` texts; the sink checks that the windows come in order.
fn pass(
    model: &DenseModel,
    texts: &[&str],
    window: usize,
    progress: impl FnMut(Progress),
    cancelled: &Arc<AtomicBool>,
) -> Result<(Rows, PassRecord), PassError<&'static str>> {
    let options = PassOptions {
        window: NonZeroUsize::new(window).expect("a window"),
        batch: TokenBudget(40),
        tokenizer_threads: NonZeroUsize::MIN,
        workers: NonZeroUsize::MIN,
        memory: Memory::default(),
        cancelled: Arc::clone(cancelled),
    };
    let mut values = Vec::new();
    let record = run(model, texts.iter().map(Ok), &options, progress, |first, rows| {
        assert_eq!(values.len(), first * model.dimensions(), "windows come in order");
        values.extend(rows.into_values());
        Ok(())
    })?;
    Ok((Rows::new(model.dimensions(), values), record))
}

#[test]
fn vectors_come_in_the_order_of_the_texts_with_any_window() {
    let model = Folder::new().load();
    for window in [1, 2, 3, 7, 100] {
        let (vectors, record) = pass(&model, &TEXTS, window, |_| (), &Arc::default()).expect("a pass");
        assert_eq!((vectors.len(), record.chunks), (TEXTS.len(), TEXTS.len() as u64));
        for (row, text) in TEXTS.iter().enumerate() {
            let tokens = model.tokenizer().encode(text).expect("tokens");
            let similarity = cosine(vectors.row(row), model.embed(&[&tokens]).expect("a vector").row(0));
            assert!(similarity >= SAME, "window {window}, {text:?}: cosine {similarity}");
        }
    }
}

#[test]
fn the_record_counts_what_was_done() {
    let model = Folder::new().load();
    let mut reports = Vec::new();
    let (_, record) = pass(&model, &TEXTS, 3, |done| reports.push(done), &Arc::default()).expect("a pass");
    let encoded: Vec<Tokens> = TEXTS.iter().map(|text| model.tokenizer().encode(text).expect("tokens")).collect();
    assert_eq!(record.model, "tiny");
    assert_eq!(record.dimensions, tiny::DIMENSIONS);
    assert_eq!(record.tokens, encoded.iter().map(|tokens| tokens.ids.len() as u64).sum::<u64>());
    // 45 letters and two special tokens, where 32 are allowed.
    assert_eq!((record.truncated_chunks, record.tokens_lost), (1, 15));
    assert_eq!(record.batches, reports.len() as u64);
    assert!(reports.is_sorted_by_key(|done| done.chunks));
    assert_eq!(reports.last(), Some(&Progress { chunks: record.chunks, tokens: record.tokens }));
}

#[test]
fn no_texts_are_a_pass_of_nothing() {
    let (vectors, record) = pass(&Folder::new().load(), &[], 3, |_| (), &Arc::default()).expect("a pass");
    assert_eq!((vectors.len(), record.chunks, record.batches), (0, 0, 0));
}

#[test]
fn a_cancelled_pass_stops_after_the_batch_it_is_at() {
    let cancelled = Arc::new(AtomicBool::new(false));
    let mut batches = 0;
    let count_and_cancel = |_| {
        batches += 1;
        cancelled.store(true, Ordering::Relaxed);
    };
    let error = pass(&Folder::new().load(), &TEXTS, 1, count_and_cancel, &cancelled).expect_err("cancelled");
    assert!(matches!(error, PassError::Cancelled), "{error}");
    assert_eq!(batches, 1);
}

#[test]
fn a_sink_that_fails_ends_the_pass_with_its_error() {
    let options = PassOptions {
        window: NonZeroUsize::MIN,
        batch: TokenBudget(40),
        tokenizer_threads: NonZeroUsize::MIN,
        workers: NonZeroUsize::MIN,
        memory: Memory::default(),
        cancelled: Arc::default(),
    };
    let endless = std::iter::repeat_with(|| Ok("a"));
    let error =
        run(&Folder::new().load(), endless, &options, |_| (), |first, _| if first == 2 { Err("full") } else { Ok(()) });
    assert!(matches!(error, Err(PassError::Sink("full"))), "{error:?}");
}

#[test]
fn a_vector_that_is_not_finite_is_an_error_that_names_its_row() {
    let folder = Folder::new();
    // The id of "z" alone: "a" … "z" and their continuations follow four special tokens. Each value is finite, the sum
    // of two is not.
    let z = 4 + 2 * 25;
    folder.set(WORDS, z * tiny::DIMENSIONS..(z + 1) * tiny::DIMENSIONS, 3e38);
    let texts = ["a", "b b b", "z", "c c"];
    let error = pass(&folder.load(), &texts, 2, |_| (), &Arc::default()).expect_err("row 2 is not finite");
    let PassError::Model(error) = error else { panic!("{error}") };
    assert_eq!(error.reason(), FailureReason::InvalidVector);
    assert_names(&error.to_string(), &["model tiny", "row 2"]);
}
