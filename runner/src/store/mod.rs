//! The stores that a run reads and writes, as blocking calls; today they are folders ([`local`]).
//!
//! The pipeline is blocking code; the asynchronous clients of the stores do not leave this module.

mod access;
mod client;
mod error;
mod local;
mod open;
mod replace;
mod upload;

pub use self::{
    access::Access,
    client::{ListedFile, Listing, PutNew, Store},
    error::output_error,
    open::{open, open_source},
    replace::Replaced,
    upload::{Upload, WrittenFile},
};
