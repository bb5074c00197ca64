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
    device::memory::Memory,
    model::DenseEncoder,
    pass::{PassError, PassOptions, PassProgress, PassRecord, Replica, batching::TokenBudget, run},
    tokenizer::Tokens,
    vectors::Rows,
};

use crate::{
    folder::{Folder, WORDS, assert_names, cosine},
    tiny,
};

const SAME: f64 = 0.999_99;

const TEXTS: [&str; 7] =
    ["a", "one two three four five", "", "b c", "this text has more than thirty two tokens of one letter", "d", "e"];

/// A model on a device whose memory is no matter.
fn alone(model: &DenseEncoder) -> [Replica<'_, DenseEncoder>; 1] {
    [Replica::new(model, Memory::default())]
}

/// Runs a pass in windows of `window` texts; the sink checks that the windows come in order.
fn pass(
    model: &DenseEncoder,
    texts: &[&str],
    window: usize,
    progress: impl FnMut(PassProgress),
    cancelled: &Arc<AtomicBool>,
) -> Result<(Rows, PassRecord), PassError<&'static str>> {
    let options = PassOptions {
        window: NonZeroUsize::new(window).expect("a window"),
        batch: TokenBudget(40),
        tokenizer_threads: NonZeroUsize::MIN,
        workers: NonZeroUsize::MIN,
        probe: false,
        cancelled: Arc::clone(cancelled),
    };
    let mut values = Vec::new();
    let record = run(&alone(model), texts.iter().map(Ok), &options, progress, |first, rows| {
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
        assert_eq!((vectors.len(), record.items), (TEXTS.len(), TEXTS.len() as u64));
        for (row, text) in TEXTS.iter().enumerate() {
            let tokens = model.tokenizer().encode(text).expect("tokens");
            let similarity = cosine(vectors.row(row), model.embed(&[&tokens]).expect("a vector").row(0));
            assert!(similarity >= SAME, "window {window}, {text:?}: cosine {similarity}");
        }
    }
}

#[test]
fn the_record_counts_items_tokens_and_batches() {
    let model = Folder::new().load();
    let mut reports = Vec::new();
    let (_, record) = pass(&model, &TEXTS, 3, |done| reports.push(done), &Arc::default()).expect("a pass");
    let encoded: Vec<Tokens> = TEXTS.iter().map(|text| model.tokenizer().encode(text).expect("tokens")).collect();
    assert_eq!(record.tokens, encoded.iter().map(|tokens| tokens.ids.len() as u64).sum::<u64>());
    // 45 letters and two special tokens, where 32 are allowed.
    assert_eq!((record.truncated, record.tokens_lost), (1, 15));
    assert_eq!(record.batches, reports.len() as u64);
    assert!(reports.is_sorted_by_key(|done| done.items));
    assert!(reports.last().is_some_and(|last| (last.items, last.tokens) == (record.items, record.tokens)));
    assert!(reports.iter().all(|done| done.batch_seconds > 0.0 && done.batch_seconds <= record.seconds));
    // Tokens before the cut: special tokens alone, one letter, …; 47 of the long one.
    assert_eq!(record.lengths.values().sum::<u64>(), record.items);
    assert_eq!(record.lengths.get(&64), Some(&1), "{:?}", record.lengths);
}

#[test]
fn no_texts_are_a_pass_of_nothing() {
    let (vectors, record) = pass(&Folder::new().load(), &[], 3, |_| (), &Arc::default()).expect("a pass");
    assert_eq!((vectors.len(), record.items, record.batches), (0, 0, 0));
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
        probe: false,
        cancelled: Arc::default(),
    };
    let endless = std::iter::repeat_with(|| Ok("a"));
    let model = Folder::new().load();
    let error =
        run(&alone(&model), endless, &options, |_| (), |first, _| if first == 2 { Err("full") } else { Ok(()) });
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

/// Texts of one length that truncation leaves different: rows that change places show.
fn texts_of_32_tokens() -> Vec<String> {
    (0..60).map(|n| format!("{n} {}", "x".repeat(40))).collect()
}

/// A pass over texts of 32 tokens each under a ceiling of so many bytes above what is in use.
fn under_ceiling(room: u64) -> Result<(Rows, PassRecord), PassError<&'static str>> {
    let model = Folder::new().load();
    let options = PassOptions {
        // The first window of a pass is an eighth: all texts are in it.
        window: NonZeroUsize::new(800).expect("a window"),
        batch: TokenBudget(320),
        tokenizer_threads: NonZeroUsize::MIN,
        workers: NonZeroUsize::MIN,
        probe: false,
        cancelled: Arc::default(),
    };
    let texts = texts_of_32_tokens();
    let memory = Memory::of_process(Some(Memory::of_process(None).used() + room));
    let mut values = Vec::new();
    let record = run(
        &[Replica::new(&model, memory)],
        texts.iter().map(Ok),
        &options,
        |_| (),
        |_, rows| {
            values.extend(rows.into_values());
            Ok(())
        },
    )?;
    Ok((Rows::new(model.dimensions(), values), record))
}

#[test]
fn under_a_ceiling_batches_are_split_and_the_vectors_are_the_same() {
    let (all, free) = under_ceiling(1 << 40).expect("a pass");
    assert_eq!((free.mitigations, free.batches), (0, 6));
    // Other tests allocate beside this one; 640 bytes a token, so that 320 tokens never fit and 32 mostly do.
    let mut least = None;
    for room in [60_000, 120_000, 180_000, 1 << 20, 8 << 20, 64 << 20] {
        match under_ceiling(room) {
            Ok((vectors, record)) if record.mitigations > 0 => {
                assert_eq!((record.items, vectors.len()), (60, 60));
                for (row, one) in all.iter().enumerate() {
                    for (other_row, other) in vectors.iter().enumerate() {
                        assert_eq!(cosine(one, other) >= SAME, row == other_row, "rows {row} and {other_row}");
                    }
                }
                assert_eq!(record.mitigation_events[0].tokens_before, 320);
                assert!(record.mitigation_events[0].tokens_after < 320);
                least = Some(room);
                break;
            }
            Ok(_) | Err(_) => {}
        }
    }
    assert!(least.is_some(), "no ceiling splits a batch");
}

#[test]
fn a_ceiling_that_not_even_one_text_fits_under_is_out_of_memory() {
    let model = Folder::new().load();
    let options = PassOptions {
        window: NonZeroUsize::MIN,
        batch: TokenBudget(40),
        tokenizer_threads: NonZeroUsize::MIN,
        workers: NonZeroUsize::MIN,
        probe: false,
        cancelled: Arc::default(),
    };
    let replica = Replica::new(&model, Memory::of_process(Some(1)));
    let error =
        run(&[replica], std::iter::once(Ok::<_, &str>("a")), &options, |_| (), |_, _| Ok(())).expect_err("too little");
    let PassError::Model(error) = error else { panic!("{error}") };
    assert_eq!(error.reason(), FailureReason::OutOfMemory);
}
