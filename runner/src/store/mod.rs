//! The stores that a run reads and writes, as blocking calls; today they are folders.
//!
//! Output goes through [`Store`]; its asynchronous client does not leave this module. A folder that is written is a
//! [`durable`] one: files appear whole, on any file system ([`staged`]). [`committed`] has what commits need: files that get
//! their name last, and a look at what is there. Sources, queries and models are read through [`Folder`], which does not leave
//! its root, because their authors may be others than the user of the process. [`Fault`] classifies the failures of both.

mod access;
mod client;
mod committed;
mod durable;
mod error;
mod fault;
mod folder;
mod local;
mod open;
mod replace;
mod source;
mod staged;
mod upload;

#[cfg(test)]
pub use self::open::over;
pub use self::{
    access::Access,
    client::{ListedFile, Listing, PutNew, Store},
    committed::JsonFile,
    error::{output_error, source_error},
    fault::Fault,
    folder::{Entry, EntryKind, FileKind, FileState, Folder, FolderId, OpenError, open_regular, read_regular},
    open::open,
    replace::Replaced,
    source::{OpenSource, SingleFile, open_error, open_source, read_file},
    upload::{Upload, WrittenFile},
};
