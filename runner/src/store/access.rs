//! How a store is opened.

/// Whether a store is opened for reading or for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It must exist.
    Read,
    /// It is created if it does not exist.
    Write,
}
