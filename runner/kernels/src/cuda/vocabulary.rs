//! Launches of vocabulary.
