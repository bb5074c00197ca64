//! The report on the cards of a process, written when the process ends.

use std::{env, fmt::Write as _, fs::OpenOptions, io::Write as _};

use crate::card;

/// The loader calls it when the process ends.
#[used]
#[unsafe(link_section = ".fini_array")]
static AT_EXIT: extern "C" fn() = write_report;

extern "C" fn write_report() {
    let Some(path) = env::var_os("EMULATED_REPORT") else { return };
    let mut line = String::from("[");
    for (at, card) in card::all().iter().enumerate() {
        let state = card.lock();
        let memory = &state.memory;
        let comma = if at > 0 { ", " } else { "" };
        let misuse = state.misuse.iter().map(|reason| format!("{reason:?}")).collect::<Vec<_>>().join(", ");
        let _ = write!(
            line,
            "{comma}{{\"launches\": {}, \"products\": {}, \"peak\": {}, \"held\": {}, \"wrong\": [{misuse}]}}",
            state.launches,
            state.products,
            memory.peak(),
            memory.allocations()
        );
    }
    line.push_str("]\n");
    let file = OpenOptions::new().create(true).append(true).open(path);
    if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
        eprintln!("emulated driver: cannot write the report: {error}");
    }
}
