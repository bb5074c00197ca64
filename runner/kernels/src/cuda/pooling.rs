//! Launches of pooling.
