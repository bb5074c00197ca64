//! The stores that a run reads and writes, as blocking calls; today they are folders ([`local`]).
//!
//! A folder that is written is a [`durable`] one: files appear whole, on any file system ([`staged`]). [`committed`] has
//! what commits need: files that get their name last, and a look at what is there.
//!
//! The pipeline is blocking code; the asynchronous clients of the stores do not leave this module.

mod access;
mod client;
mod committed;
mod durable;
mod error;
mod local;
mod open;
mod replace;
mod staged;
mod upload;

#[cfg(test)]
pub use self::open::over;
pub use self::{
    access::Access,
    client::{ListedFile, Listing, PutNew, Store},
    committed::JsonFile,
    error::output_error,
    open::{open, open_source},
    replace::Replaced,
    upload::{Upload, WrittenFile},
};
