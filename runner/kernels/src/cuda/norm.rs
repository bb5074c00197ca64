//! Launches of norm.
