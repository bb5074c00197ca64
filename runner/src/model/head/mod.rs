//! The heads of models: projections of dense vectors, and the heads of sparse encoders and cross-encoders.

pub mod classifier;
pub mod masked_lm;
pub mod projection;
