//! Progress bars on a terminal; nothing elsewhere.

use std::{
    io::{self, Write},
    sync::LazyLock,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::printable::printable;

/// All bars of the process, so that a log line can be written above them.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// A bar that counts chunks.
#[derive(Clone, Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar with a known total. `shown` is false if the output is not a terminal.
    pub fn bar(shown: bool, label: &str, total: u64) -> Self {
        Self::new(shown, label, Some(total), "{msg} {wide_bar} {pos}/{len} chunks  {per_sec}  {eta}")
    }

    /// A counter without a known total.
    pub fn counter(shown: bool, label: &str) -> Self {
        Self::new(shown, label, None, "{msg} {spinner} {pos} chunks  {per_sec}")
    }

    fn new(shown: bool, label: &str, total: Option<u64>, template: &str) -> Self {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        let bar = if shown { BARS.add(bar) } else { bar };
        bar.set_style(ProgressStyle::with_template(template).expect("the template is valid"));
        bar.set_message(printable(label).into_owned());
        Self(bar)
    }

    /// Adds to the count.
    pub fn advance(&self, chunks: u64) {
        self.0.inc(chunks);
    }

    /// The count.
    pub fn position(&self) -> u64 {
        self.0.position()
    }

    /// Sets the count to `chunks`.
    pub fn set(&self, chunks: u64) {
        self.0.set_position(chunks);
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// A writer to the standard error, above the bars.
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
