//! Launches of rotary.
