//! Human-readable reports of `processing_summary.json`: [`read`] parses a summary, [`html`] and [`text`] render it.
//!
//! Both forms show the same facts: [`facts`] turns a summary into tables and sentences, each form lays them out. The charts
//! of the HTML form are inline SVG. The contents of a summary are untrusted: names, messages and chunk texts may come from
//! anywhere. The HTML form escapes them, the text form replaces their control characters by `�`.

mod chart;
mod error;
mod facts;
mod format;
mod html;
mod read;
#[cfg(test)]
#[path = "../tests/sample/mod.rs"]
mod sample;
mod table;
mod text;

pub use error::Error;
pub use html::html;
pub use read::read;
pub use text::text;
