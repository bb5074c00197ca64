//! Launches of attention.
