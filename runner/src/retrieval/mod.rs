//! From vectors to ranked chunks: the [`queries`] of a run, the [`candidates`] that the [`exact`] search of every shard
//! finds for them, one list per query ([`rank_fusion`], [`lists`]), the [`rankings`], their [`quality`] where
//! [`judgements`] are given, and the [`gate`] on it. [`search`] answers a question of a person from a finished revision.

pub mod candidates;
pub mod chunk_lookup;
pub mod exact;
pub mod gate;
pub mod judgements;
pub mod lists;
pub mod quality;
pub mod queries;
pub mod rank_fusion;
pub mod rankings;
pub mod search;
pub mod top_k;
