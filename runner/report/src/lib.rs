//! `processing_summary.json` for people: [`read`] takes one in, [`html`] and [`text`] show it.
//!
//! Both forms say the same facts: [`facts`] turns a summary into tables, and each form only lays them out. The charts of
//! the HTML form are inline SVG. Whatever stands in a summary is hostile: names, messages and texts of chunks may come
//! from anywhere, so the HTML form escapes them and the text form shows their control characters as `�`.

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
