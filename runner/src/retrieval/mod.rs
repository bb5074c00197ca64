//! From vectors to ranked chunks.
//!
//! In a shard: the [`queries`] of a run, and the [`candidates`] that the [`exact`] search finds for them, stored in a
//! [`candidate_file`]. In a collection: one list per query ([`rank_fusion`], [`lists`]), the chunks of the candidates
//! ([`chunk_lookup`]), the [`rankings`], and with judgements the
//! [`quality`] of every list (in each [`metric`]) and the [`gate`] on it.
//!
//! [`published`] reads what is published of a collection. [`search`] is apart from runs: it answers a person's question from a published revision.

pub mod candidate_file;
pub mod candidates;
pub mod chunk_lookup;
pub mod exact;
pub mod gate;
pub mod lists;
pub mod metric;
pub mod published;
pub mod quality;
pub mod queries;
pub mod rank_fusion;
pub mod rankings;
pub mod search;
mod stored_column;
pub mod top_k;
mod vector_scan;
