//! Launches of embedding.
