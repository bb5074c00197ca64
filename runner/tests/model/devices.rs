//! Passes on devices whose memory is made up: measured before the first text, full, several side by side, lost.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Barrier, Once,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use candle_core::Error;
use crds::{contract::FailureReason, memory::MemoryCeiling, summary::MitigationKind};
use runner::{
    device::memory::{Memory, MemorySource},
    model::{DenseEncoder, ModelError},
    pass::{PassError, PassOptions, PassRecord, Replica, RowModel, batching::TokenBudget, run},
    tokenizer::Tokens,
    vectors::Rows,
};

use crate::folder::{Folder, cosine};

const SAME: f64 = 0.999_99;

/// A device with 1,000 bytes, 100 of which something else uses.
#[derive(Debug)]
struct Card {
    used: AtomicU64,
    high: AtomicU64,
    trims: AtomicU64,
}

impl Card {
    fn new() -> Arc<Self> {
        Arc::new(Self { used: 100.into(), high: 100.into(), trims: 0.into() })
    }

    fn memory(self: &Arc<Self>) -> Memory {
        let source: Arc<dyn MemorySource> = self.clone();
        Memory::of_device(source, MemoryCeiling::Max)
    }

    /// Takes bytes, if they are there.
    fn allocate(&self, bytes: u64) -> bool {
        let before = self.used.fetch_add(bytes, Ordering::SeqCst);
        if before + bytes > 1000 {
            self.free(bytes);
            return false;
        }
        self.high.fetch_max(before + bytes, Ordering::SeqCst);
        true
    }

    fn free(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::SeqCst);
    }
}

impl MemorySource for Card {
    fn name(&self) -> &'static str {
        "card"
    }

    fn used(&self) -> u64 {
        self.used.load(Ordering::SeqCst)
    }

    fn total(&self) -> Option<u64> {
        Some(1000)
    }

    fn trim(&self) {
        self.trims.fetch_add(1, Ordering::SeqCst);
    }

    fn reset_peak(&self) {
        self.high.store(self.used(), Ordering::SeqCst);
    }

    fn peak(&self) -> Option<u64> {
        Some(self.high.load(Ordering::SeqCst))
    }
}

/// A small model that takes memory of a card while it computes.
struct Hungry {
    model: DenseEncoder,
    card: Arc<Card>,
    /// What it takes for a token.
    bytes_per_token: u64,
    /// What it takes for a row beside its tokens, and says so.
    bytes_per_row: u64,
    /// The tokens of the largest batch that was tried.
    largest: AtomicU64,
    /// Fails every batch with that message.
    fails: Option<&'static str>,
    /// Whether it computes for a while.
    slow: AtomicBool,
}

impl Hungry {
    fn new(card: &Arc<Card>, bytes_per_token: u64) -> Self {
        Self {
            model: Folder::new().load(),
            card: Arc::clone(card),
            bytes_per_token,
            bytes_per_row: 0,
            largest: 0.into(),
            fails: None,
            slow: false.into(),
        }
    }

    fn error(&self, message: &str) -> Error {
        Error::Cuda(format!("{message} of {}", RowModel::<String>::name(self)).into())
    }
}

impl RowModel<String> for Hungry {
    type Rows = Rows;

    fn name(&self) -> &str {
        RowModel::<String>::name(&self.model)
    }

    fn bytes_per_token(&self) -> u64 {
        // As an estimate is: too low.
        1
    }

    fn bytes_per_row(&self) -> u64 {
        self.bytes_per_row
    }

    fn longest(&self) -> usize {
        RowModel::<String>::longest(&self.model)
    }

    fn size(text: &String) -> usize {
        text.len()
    }

    fn encode_items(&self, texts: &[String], threads: NonZeroUsize) -> Result<Vec<Tokens>, ModelError> {
        self.model.encode_items(texts, threads)
    }

    fn compute(&self, rows: &[&Tokens]) -> Result<Rows, ModelError> {
        let tokens: usize = rows.iter().map(|row| row.ids.len()).sum();
        self.largest.fetch_max(tokens as u64, Ordering::SeqCst);
        let model = RowModel::<String>::name(self).to_owned();
        if let Some(message) = self.fails {
            return Err(ModelError::DeviceLost { model, source: Box::new(self.error(message)) });
        }
        let bytes = tokens as u64 * self.bytes_per_token + rows.len() as u64 * self.bytes_per_row;
        if !self.card.allocate(bytes) {
            let source = Box::new(self.error("CUDA_ERROR_OUT_OF_MEMORY"));
            return Err(ModelError::OutOfMemory { model, row: None, source });
        }
        if self.slow.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(20));
        }
        let computed = self.model.embed(rows);
        self.card.free(bytes);
        computed
    }

    fn empty(&self, count: usize) -> Rows {
        RowModel::<String>::empty(&self.model, count)
    }
}

fn options(batch: usize, workers: usize, probe: bool) -> PassOptions {
    PassOptions {
        // The first window of a pass is an eighth: all texts are in it.
        window: NonZeroUsize::new(800).expect("a window"),
        batch: TokenBudget(batch),
        tokenizer_threads: NonZeroUsize::MIN,
        workers: NonZeroUsize::new(workers).expect("a worker"),
        probe,
        cancelled: Arc::default(),
    }
}

/// Texts of 32 tokens each, the longest that the model takes.
fn texts(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{} {n}", "x".repeat(40))).collect()
}

fn pass<M: RowModel<String, Rows = Rows>>(
    replicas: &[Replica<'_, M>],
    texts: &[String],
    options: &PassOptions,
) -> Result<(Vec<Vec<f32>>, PassRecord), PassError<&'static str>> {
    let mut vectors: Vec<Vec<f32>> = Vec::new();
    let record = run(
        replicas,
        texts.iter().cloned().map(Ok),
        options,
        |_| (),
        |first, rows| {
            assert_eq!(vectors.len(), first, "windows come in order");
            vectors.extend(rows.iter().map(<[f32]>::to_vec));
            Ok(())
        },
    )?;
    Ok((vectors, record))
}

/// What the model gives for texts, one by one.
fn expected(texts: &[String]) -> Vec<Vec<f32>> {
    let model = Folder::new().load();
    let vector = |text: &String| {
        let tokens = model.tokenizer().encode(text).expect("tokens");
        model.embed(&[&tokens]).expect("a vector").into_values()
    };
    texts.iter().map(vector).collect()
}

fn assert_same(found: &[Vec<f32>], expected: &[Vec<f32>]) {
    assert_eq!(found.len(), expected.len());
    for (row, (found, expected)) in found.iter().zip(expected).enumerate() {
        let similarity = cosine(found, expected);
        assert!(similarity >= SAME, "row {row}: cosine {similarity}");
    }
}

fn steps(record: &PassRecord) -> Vec<(MitigationKind, usize, usize)> {
    record.mitigation_events.iter().map(|event| (event.kind, event.tokens_before, event.tokens_after)).collect()
}

#[test]
fn the_probe_finds_a_budget_that_fits_before_a_text_is_computed() {
    let texts = texts(60);
    let card = Card::new();
    let model = Hungry::new(&card, 5);
    let replica = Replica::new(&model, card.memory());
    let (vectors, record) = pass(&[replica], &texts, &options(640, 1, true)).expect("a pass");
    assert_same(&vectors, &expected(&texts));
    // 640 and 320 tokens do not fit, 160 take 800 of the 730 bytes under the soft limit, 80 are two texts of 32.
    let shrink = |from: usize, to| (MitigationKind::Shrink, from, to);
    assert_eq!(steps(&record)[..3], [shrink(640, 320), shrink(320, 160), shrink(160, 80)]);
    assert_eq!(record.replicas[0].learned.bytes_per_token, 5, "as measured");
    assert!(record.mitigation_events.iter().all(|event| event.kind != MitigationKind::Split), "{:?}", steps(&record));
    assert!(card.trims.load(Ordering::SeqCst) > 0);
    assert_eq!(card.used(), 100, "all is given back");
    assert!(record.peak_bytes >= 100 + 160 * 5, "{}", record.peak_bytes);
}

#[test]
fn a_probe_that_fits_changes_only_the_cost_of_a_token() {
    let texts = texts(30);
    let card = Card::new();
    let model = Hungry::new(&card, 2);
    let replica = || [Replica::new(&model, card.memory())];
    let (_, record) = pass(&replica(), &texts, &options(320, 1, true)).expect("a pass");
    assert_eq!((record.mitigations, record.batches, record.replicas[0].learned.bytes_per_token), (0, 3, 2));
    let (_, record) = pass(&replica(), &texts, &options(320, 1, false)).expect("a pass");
    assert_eq!(record.replicas[0].learned.bytes_per_token, 1, "the estimate of the model");
}

#[test]
fn a_pass_begins_with_the_learned_budget_of_the_previous_one() {
    let texts = texts(20);
    let card = Card::new();
    let model = Hungry::new(&card, 5);
    let (_, first) = pass(&[Replica::new(&model, card.memory())], &texts, &options(640, 1, true)).expect("a pass");
    assert_eq!((first.replicas[0].learned.tokens, first.mitigations), (80, 3));
    model.largest.store(0, Ordering::SeqCst);
    let learned = Some(first.replicas[0].learned);
    let again = Replica { learned, ..Replica::new(&model, card.memory()) };
    let (_, second) = pass(&[again], &texts, &options(640, 1, true)).expect("a pass");
    assert_eq!((second.mitigations, model.largest.load(Ordering::SeqCst)), (0, 64), "nothing is measured again");
}

#[test]
fn rows_that_take_memory_beside_their_tokens_are_fewer_in_a_batch() {
    // 3 tokens each, where the longest that is measured has 32.
    let texts: Vec<String> = (0..240).map(|n| char::from(b'a' + (n % 26) as u8).to_string()).collect();
    let card = Card::new();
    let model = Hungry { bytes_per_row: 16, ..Hungry::new(&card, 1) };
    let (vectors, record) =
        pass(&[Replica::new(&model, card.memory())], &texts, &options(640, 1, true)).expect("a pass");
    assert_same(&vectors, &expected(&texts));
    assert_eq!(record.tokens, 720, "what rows count for is no token");
    assert_eq!((record.mitigations, record.replicas[0].peak_bytes), (0, 727), "33 rows at a time");
    let model = Hungry { bytes_per_row: 400, ..Hungry::new(&card, 1) };
    let (vectors, record) =
        pass(&[Replica::new(&model, card.memory())], &texts, &options(640, 1, true)).expect("a pass");
    assert_same(&vectors, &expected(&texts));
    assert_eq!((record.mitigations, record.batches), (0, 240), "one at a time");
}

#[test]
fn a_probe_that_never_fits_leaves_it_to_the_texts() {
    let card = Card::new();
    // 16 tokens take 960 bytes.
    let model = Hungry::new(&card, 60);
    let replica = || [Replica::new(&model, card.memory())];
    let short: Vec<String> = ["a", "b c", "d"].map(Into::into).into();
    let (vectors, _) = pass(&replica(), &short, &options(640, 2, true)).expect("short texts fit");
    assert_same(&vectors, &expected(&short));
    let error = pass(&replica(), &texts(1), &options(640, 2, true)).expect_err("a long text does not");
    let PassError::Model(error) = error else { panic!("{error}") };
    assert_eq!(error.reason(), FailureReason::OutOfMemory);
}

#[test]
fn a_device_that_is_full_splits_batches_and_loses_no_text() {
    // So many that the first batches are whole: the last ones of a pass are smaller.
    let texts = texts(240);
    let card = Card::new();
    let model = Hungry::new(&card, 5);
    let replica = Replica::new(&model, card.memory());
    let (vectors, record) = pass(&[replica], &texts, &options(640, 2, false)).expect("a pass");
    assert_same(&vectors, &expected(&texts));
    assert_eq!(steps(&record)[0], (MitigationKind::Split, 640, 320));
    assert_eq!(model.largest.load(Ordering::SeqCst), 640, "it was tried");
    assert!(card.trims.load(Ordering::SeqCst) > 0, "the allocator is trimmed before the halves");
}

#[test]
fn a_text_that_fits_only_alone_is_computed_alone() {
    let texts = texts(8);
    let card = Card::new();
    // One text takes 640 of the 900 bytes that are free: two at a time never fit.
    let model = Hungry::new(&card, 20);
    model.slow.store(true, Ordering::SeqCst);
    let replica = Replica::new(&model, card.memory());
    let (vectors, _) = pass(&[replica], &texts, &options(32, 2, false)).expect("one after the other");
    assert_same(&vectors, &expected(&texts));
}

#[test]
fn a_text_that_does_not_fit_at_all_is_named_by_its_row() {
    let card = Card::new();
    let model = Hungry::new(&card, 40);
    let replica = Replica::new(&model, card.memory());
    let mut texts: Vec<String> = (0..5).map(|n| n.to_string()).collect();
    texts[3] = "x".repeat(40);
    let error = pass(&[replica], &texts, &options(64, 1, false)).expect_err("32 tokens take 1,280 bytes");
    let PassError::Model(error) = error else { panic!("{error}") };
    let ModelError::OutOfMemory { row, .. } = &error else { panic!("{error}") };
    assert_eq!((*row, error.reason()), (Some(3), FailureReason::OutOfMemory));
}

#[test]
fn a_device_that_is_lost_ends_the_pass_at_once() {
    for probe in [true, false] {
        let card = Card::new();
        let model = Hungry { fails: Some("CUDA_ERROR_ECC_UNCORRECTABLE"), ..Hungry::new(&card, 1) };
        let replica = Replica::new(&model, card.memory());
        let error = pass(&[replica], &texts(60), &options(320, 1, probe)).expect_err("it is lost");
        let PassError::Model(error) = error else { panic!("{error}") };
        assert_eq!((error.reason(), error.reason().exit_code().code()), (FailureReason::DeviceLost, 75));
    }
}

/// A model whose first batch waits for that of the other replica.
struct Together<'a> {
    model: DenseEncoder,
    both: &'a Barrier,
    once: Once,
}

impl RowModel<String> for Together<'_> {
    type Rows = Rows;

    fn name(&self) -> &str {
        RowModel::<String>::name(&self.model)
    }

    fn bytes_per_token(&self) -> u64 {
        RowModel::<String>::bytes_per_token(&self.model)
    }

    fn longest(&self) -> usize {
        RowModel::<String>::longest(&self.model)
    }

    fn size(text: &String) -> usize {
        text.len()
    }

    fn encode_items(&self, texts: &[String], threads: NonZeroUsize) -> Result<Vec<Tokens>, ModelError> {
        self.model.encode_items(texts, threads)
    }

    fn compute(&self, rows: &[&Tokens]) -> Result<Rows, ModelError> {
        self.once.call_once(|| {
            self.both.wait();
        });
        self.model.embed(rows)
    }

    fn empty(&self, count: usize) -> Rows {
        RowModel::<String>::empty(&self.model, count)
    }
}

#[test]
fn two_replicas_give_the_vectors_of_one_in_the_same_order() {
    let folder = Folder::new();
    let words = ["one", "two words", "three words here", "a longer text of several words for the batch"];
    let texts: Vec<String> = (0..500).map(|n| format!("{} {n}", words[n % 4])).collect();
    let model = folder.load();
    let one = [Replica::new(&model, Memory::default())];
    let (expected, record) = pass(&one, &texts, &options(64, 2, false)).expect("a pass");
    assert_eq!(record.replicas.len(), 1);

    let both = Barrier::new(2);
    let models = [(); 2].map(|()| Together { model: folder.load(), both: &both, once: Once::new() });
    let two: Vec<Replica<'_, Together<'_>>> =
        models.iter().map(|model| Replica::new(model, Memory::default())).collect();
    let (vectors, record) = pass(&two, &texts, &options(64, 2, false)).expect("a pass");
    assert_same(&vectors, &expected);
    let items: Vec<u64> = record.replicas.iter().map(|replica| replica.items).collect();
    assert!(items.iter().all(|items| *items > 0), "both are at work: {items:?}");
    assert_eq!(items.iter().sum::<u64>(), 500);
}

#[test]
fn a_device_that_is_full_splits_its_own_batches_alone() {
    let texts = texts(60);
    let (full, roomy) = (Card::new(), Card::new());
    let models = [Hungry::new(&full, 12), Hungry::new(&roomy, 1)];
    for model in &models {
        model.slow.store(true, Ordering::SeqCst);
    }
    let replicas = [(&models[0], &full), (&models[1], &roomy)].map(|(model, card)| Replica::new(model, card.memory()));
    let (vectors, record) = pass(&replicas, &texts, &options(96, 1, false)).expect("a pass");
    assert_same(&vectors, &expected(&texts));
    assert_eq!(record.items, 60);
    assert!(full.trims.load(Ordering::SeqCst) > 0);
    assert_eq!(roomy.trims.load(Ordering::SeqCst), 0, "nothing was wrong there");
}
