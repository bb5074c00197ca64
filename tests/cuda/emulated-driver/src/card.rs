//! The cards there are, the context that is current on a thread, and when a card fails.

use std::{
    cell::Cell,
    env,
    ffi::c_int,
    fs::File,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use crate::{
    answer::{Code, Done},
    memory::Ledger,
};

/// What a context takes of a card, in bytes.
const CONTEXT: u64 = 256 << 20;
const DEFAULT: u64 = 16 << 30;

/// A card. Its address is the handle of its one context.
#[derive(Debug)]
pub struct Card {
    pub ordinal: usize,
    /// Memory of the card, in bytes.
    pub total: u64,
    /// What others hold of it, in bytes.
    others: u64,
    fault: Option<Fault>,
    state: Mutex<State>,
}

/// When a card fails, and how.
#[derive(Clone, Copy, Debug)]
struct Fault {
    launches: u64,
    code: Code,
}

/// What changes on a card. Whoever computes on it holds it, so that the work is in the order of the calls.
#[derive(Debug)]
pub struct State {
    pub memory: Ledger,
    /// Whether there is a context.
    pub opened: bool,
    pub launches: u64,
    pub products: u64,
    /// What was wrong with a call: told when the process ends.
    pub wrong: Vec<String>,
    failed: Option<Code>,
}

static CARDS: LazyLock<Vec<Card>> = LazyLock::new(|| {
    let sizes = env::var("EMULATED_CARDS").unwrap_or_else(|_| DEFAULT.to_string());
    let first = env::var_os("EMULATED_FAULT_ONCE").is_none_or(|file| File::create_new(file).is_ok());
    let fault = env::var("EMULATED_FAULT").ok().filter(|_| first).map(|text| fault(&text));
    let others = number("EMULATED_OTHERS").unwrap_or(0);
    let card = |(ordinal, size): (usize, &str)| {
        let total = size.trim().parse().unwrap_or_else(|_| panic!("EMULATED_CARDS: {size} is no number of bytes"));
        let fault = fault.filter(|(of, _)| *of == ordinal).map(|(_, fault)| fault);
        let state = State {
            memory: Ledger::default(),
            opened: false,
            launches: 0,
            products: 0,
            wrong: Vec::new(),
            failed: None,
        };
        Card { ordinal, total, others, fault, state: Mutex::new(state) }
    };
    sizes.split(',').filter(|size| !size.trim().is_empty()).enumerate().map(card).collect()
});

thread_local! {
    static CURRENT: Cell<Option<&'static Card>> = const { Cell::new(None) };
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}: {text} is no number")))
}

fn fault(text: &str) -> (usize, Fault) {
    let parts: Vec<u64> = text.split(':').filter_map(|part| part.parse().ok()).collect();
    let [card, launches, code] = parts[..] else { panic!("EMULATED_FAULT: {text} is not CARD:LAUNCHES:CODE") };
    (card as usize, Fault { launches, code: Code(code as c_int) })
}

static POOLS: LazyLock<bool> = LazyLock::new(|| env::var_os("EMULATED_NO_POOLS").is_none());

/// Whether the driver has pools of memory.
pub fn has_pools() -> bool {
    *POOLS
}

/// All cards.
pub fn all() -> &'static [Card] {
    &CARDS
}

/// The card with this number.
pub fn of(ordinal: c_int) -> Done<&'static Card> {
    usize::try_from(ordinal).ok().and_then(|at| CARDS.get(at)).ok_or(Code::INVALID_DEVICE)
}

/// The card whose context is current on this thread.
pub fn current() -> Done<&'static Card> {
    CURRENT.get().ok_or(Code::INVALID_CONTEXT)
}

/// The card whose context is current on this thread, if there is one.
pub fn peek() -> Option<&'static Card> {
    CURRENT.get()
}

/// Makes the context of a card that of this thread.
pub fn make_current(card: Option<&'static Card>) {
    CURRENT.set(card);
}

impl Card {
    /// The card, unless it has failed.
    pub fn open(&self) -> Done<MutexGuard<'_, State>> {
        let mut state = self.look();
        if let Some(fault) = self.fault.filter(|fault| state.launches >= fault.launches) {
            state.failed = Some(fault.code);
        }
        state.failed.map_or(Ok(state), Err)
    }

    /// The card, also if it has failed.
    pub fn look(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes in use, by all.
    pub fn used(&self, state: &State) -> u64 {
        self.others + if state.opened { CONTEXT } else { 0 } + state.memory.reserved()
    }

    /// Bytes that are free, beside the memory of this process's pool.
    pub fn room(&self, state: &State) -> u64 {
        self.total.saturating_sub(self.used(state))
    }

    /// The UUID: the number of the card, and letters that no real one is likely to have.
    pub fn uuid(&self) -> [u8; 16] {
        let mut uuid = *b"embedrun-stand-\0";
        uuid[15] = self.ordinal as u8;
        uuid
    }
}

impl State {
    /// Ends the card: what was done there is an error of the program, after which a context can do nothing more.
    pub fn fail(&mut self, code: Code, why: String) -> Code {
        eprintln!("emulated driver: {why}");
        self.wrong.push(why);
        self.failed = Some(code);
        code
    }
}
