//! Launches of top_k.
