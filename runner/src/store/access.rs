//! The access to a store: reading or writing.

/// The access to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// For reading: the store must exist.
    Read,
    /// For reading and writing: the store is created if it does not exist.
    Write,
}
