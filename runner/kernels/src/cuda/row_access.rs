//! Row access in vectors or value by value.

use super::{element::Element, launch::Address};

/// Whether a kernel reads and writes rows in vectors of 16 bytes or value by value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowAccess {
    element: Element,
    vectors: bool,
}

impl RowAccess {
    /// The access to rows of `width` values at these addresses: in vectors if all of them are aligned.
    pub(super) fn of(element: Element, width: usize, addresses: &[Address]) -> Self {
        let aligned = addresses.iter().all(|address| address.is_aligned_to(16));
        Self { element, vectors: aligned && width.is_multiple_of(element.vector_size()) }
    }

    /// The full name of the kernel `name` for this access and element type.
    pub(super) fn kernel(self, name: &str) -> String {
        format!("{name}_{}_{}", if self.vectors { "vectors" } else { "values" }, self.element.suffix())
    }

    /// The vectors, or single values, that `columns` columns take.
    pub(super) fn chunks(self, columns: usize) -> usize {
        columns.div_ceil(self.chunk_size())
    }

    /// The values of a vector, or 1.
    pub(super) fn chunk_size(self) -> usize {
        if self.vectors { self.element.vector_size() } else { 1 }
    }
}
