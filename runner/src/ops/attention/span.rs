//! The keys that a query attends to.

use std::ops::Range;

use kernels::cuda;

/// The keys that a query attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionSpan {
    /// All keys of its sequence.
    Full,
    /// Its own and the earlier keys.
    Causal,
    /// The keys at most this distance away, on both sides.
    Window(usize),
    /// Its own and the earlier keys, at less than this distance.
    CausalWindow(usize),
}

impl AttentionSpan {
    /// The span as the kernels of a device define it.
    pub(super) fn on_device(self) -> cuda::attention::AttentionSpan {
        match self {
            Self::Full => cuda::attention::AttentionSpan::FULL,
            Self::Causal => cuda::attention::AttentionSpan::CAUSAL,
            Self::Window(distance) => cuda::attention::AttentionSpan::window(distance),
            Self::CausalWindow(width) => cuda::attention::AttentionSpan::causal_window(width),
        }
    }

    /// The keys of the query at `position` in a sequence of `length` tokens.
    pub(super) fn keys(self, position: usize, length: usize) -> Range<usize> {
        match self {
            Self::Full => 0..length,
            Self::Causal => 0..position + 1,
            Self::Window(distance) => position.saturating_sub(distance)..length.min(position + distance + 1),
            Self::CausalWindow(width) => (position + 1).saturating_sub(width)..position + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_attends_to_itself_and_the_keys_of_its_span() {
        assert_eq!(AttentionSpan::Full.keys(3, 10), 0..10);
        assert_eq!(AttentionSpan::Causal.keys(3, 10), 0..4);
        assert_eq!(AttentionSpan::Window(2).keys(3, 10), 1..6);
        assert_eq!(AttentionSpan::Window(2).keys(9, 10), 7..10);
        assert_eq!(AttentionSpan::CausalWindow(2).keys(3, 10), 2..4);
    }
}
