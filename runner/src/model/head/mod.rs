//! What is done with hidden states beyond pooling them.

pub mod classifier;
pub mod masked_lm;
pub mod projection;
