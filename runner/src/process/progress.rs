//! How far the work is, for a person who watches: a bar on a terminal, nothing elsewhere.

use std::{
    io::{self, Write},
    sync::LazyLock,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Every bar of the process, so that a log line can be written above them.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// A bar that counts chunks.
#[derive(Clone, Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar with a known end. `shown` is false where nobody watches.
    pub fn bar(shown: bool, what: &str, total: u64) -> Self {
        Self::new(shown, what, Some(total), "{msg} {wide_bar} {pos}/{len} chunks  {per_sec}  {eta}")
    }

    /// A counter without a known end.
    pub fn counter(shown: bool, what: &str) -> Self {
        Self::new(shown, what, None, "{msg} {spinner} {pos} chunks  {per_sec}")
    }

    fn new(shown: bool, what: &str, total: Option<u64>, template: &str) -> Self {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        let bar = if shown { BARS.add(bar) } else { bar };
        bar.set_style(ProgressStyle::with_template(template).expect("the template is valid"));
        bar.set_message(what.to_owned());
        Self(bar)
    }

    /// Counts further.
    pub fn advance(&self, chunks: u64) {
        self.0.inc(chunks);
    }

    /// How many are counted.
    pub fn position(&self) -> u64 {
        self.0.position()
    }

    /// Counts up to `chunks`.
    pub fn set(&self, chunks: u64) {
        self.0.set_position(chunks);
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// The standard error, above the bars.
#[derive(Clone, Copy, Debug, Default)]
pub struct AboveBars;

impl Write for AboveBars {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        BARS.suspend(|| io::stderr().write(buffer))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
