//! The sources: the files of a collection in a stable order, read as a stream of chunks.
//!
//! Memory does not grow with a file: records are read one at a time and handed to a visitor. Only Markdown and text files,
//! which are small, are read whole. There is a module per format.

mod chunk;
mod chunks_json;
mod collection;
mod json_lines;
mod listing;
mod markdown;
mod record;
mod text_file;
mod visit;

pub use self::{
    chunk::Chunk,
    collection::Source,
    listing::Listing,
    visit::{Flow, RecordLocation, SourceRecord},
};

#[cfg(test)]
mod tests;
