//! A summary as one self-contained HTML file: no script, no font, no request.

mod events;
mod histograms;
mod overview;
mod page;
mod quality;
mod scope;

pub use self::page::html;
