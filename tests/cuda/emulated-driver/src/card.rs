//! The emulated cards: their memory, the context that is current on a thread, and when a card fails.

use std::{
    cell::Cell,
    env,
    ffi::c_int,
    fs::File,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use crate::{
    memory::Pool,
    status::{CallResult, ErrorCode},
};

/// Bytes of a card that a context takes.
const CONTEXT: u64 = 256 << 20;
/// Bytes of the only card if `EMULATED_CARDS` is not set.
const DEFAULT: u64 = 16 << 30;

/// A card. Its address is the handle of its one context.
#[derive(Debug)]
pub struct Card {
    pub ordinal: usize,
    /// Memory of the card, in bytes.
    pub total: u64,
    /// Memory that other processes use, in bytes.
    used_by_others: u64,
    fault: Option<Fault>,
    state: Mutex<CardState>,
}

/// When a card fails, and how.
#[derive(Clone, Copy, Debug)]
struct Fault {
    launches: u64,
    code: ErrorCode,
}

/// What changes on a card. Every call locks it, so that the work is in the order of the calls.
#[derive(Debug)]
pub struct CardState {
    pub memory: Pool,
    /// Whether the process has a context on the card.
    pub has_context: bool,
    pub launches: u64,
    pub products: u64,
    /// Wrong uses of the interface, reported when the process ends.
    pub misuse: Vec<String>,
    failed: Option<ErrorCode>,
}

static CARDS: LazyLock<Vec<Card>> = LazyLock::new(|| {
    let sizes = env::var("EMULATED_CARDS").unwrap_or_else(|_| DEFAULT.to_string());
    let first = env::var_os("EMULATED_FAULT_ONCE").is_none_or(|file| File::create_new(file).is_ok());
    let fault = env::var("EMULATED_FAULT").ok().filter(|_| first).map(|text| fault(&text));
    let used_by_others = number("EMULATED_OTHERS").unwrap_or(0);
    let card = |(ordinal, size): (usize, &str)| {
        let total = size.trim().parse().unwrap_or_else(|_| panic!("EMULATED_CARDS: {size} is not a number of bytes"));
        let fault = fault.filter(|(card, _)| *card == ordinal).map(|(_, fault)| fault);
        let state = CardState {
            memory: Pool::default(),
            has_context: false,
            launches: 0,
            products: 0,
            misuse: Vec::new(),
            failed: None,
        };
        Card { ordinal, total, used_by_others, fault, state: Mutex::new(state) }
    };
    sizes.split(',').filter(|size| !size.trim().is_empty()).enumerate().map(card).collect()
});

thread_local! {
    static CURRENT: Cell<Option<&'static Card>> = const { Cell::new(None) };
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}: {text} is not a number")))
}

fn fault(text: &str) -> (usize, Fault) {
    let parts: Vec<u64> = text.split(':').filter_map(|part| part.parse().ok()).collect();
    let [card, launches, code] = parts[..] else { panic!("EMULATED_FAULT: {text} is not CARD:LAUNCHES:CODE") };
    (card as usize, Fault { launches, code: ErrorCode(code as c_int) })
}

static POOLS: LazyLock<bool> = LazyLock::new(|| env::var_os("EMULATED_NO_POOLS").is_none());

/// Whether the driver supports memory pools.
pub fn has_pools() -> bool {
    *POOLS
}

/// All cards.
pub fn all() -> &'static [Card] {
    &CARDS
}

/// The card with this ordinal.
pub fn by_ordinal(ordinal: c_int) -> CallResult<&'static Card> {
    usize::try_from(ordinal).ok().and_then(|at| CARDS.get(at)).ok_or(ErrorCode::INVALID_DEVICE)
}

/// The card whose context is current on this thread.
///
/// # Errors
/// `INVALID_CONTEXT` if no context is.
pub fn current() -> CallResult<&'static Card> {
    CURRENT.get().ok_or(ErrorCode::INVALID_CONTEXT)
}

/// Makes the context of a card current on this thread.
pub fn make_current(card: Option<&'static Card>) {
    CURRENT.set(card);
}

impl Card {
    /// Locks the card.
    ///
    /// # Errors
    /// The error of a card that has failed.
    pub fn lock_working(&self) -> CallResult<MutexGuard<'_, CardState>> {
        let mut state = self.lock();
        if let Some(fault) = self.fault.filter(|fault| state.launches >= fault.launches) {
            state.failed = Some(fault.code);
        }
        state.failed.map_or(Ok(state), Err)
    }

    /// Locks the card, even after it has failed.
    pub fn lock(&self) -> MutexGuard<'_, CardState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes in use, by this process and others.
    pub fn used(&self, state: &CardState) -> u64 {
        self.used_by_others + if state.has_context { CONTEXT } else { 0 } + state.memory.reserved()
    }

    /// Free bytes; memory that this process's pool keeps is not free.
    pub fn free_bytes(&self, state: &CardState) -> u64 {
        self.total.saturating_sub(self.used(state))
    }

    /// The UUID: letters that no real card is likely to have, and the ordinal.
    pub fn uuid(&self) -> [u8; 16] {
        let mut uuid = *b"embedrun-stand-\0";
        uuid[15] = self.ordinal as u8;
        uuid
    }
}

impl CardState {
    /// Records a wrong use of the interface. The card fails: every later call returns `code`.
    pub fn fail(&mut self, code: ErrorCode, reason: String) -> ErrorCode {
        eprintln!("emulated driver: {reason}");
        self.misuse.push(reason);
        self.failed = Some(code);
        code
    }
}
