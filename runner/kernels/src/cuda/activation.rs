//! Launches of activation.
