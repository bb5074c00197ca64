//! The Embedrun runner: turns collections of text into vectors.
//!
//! [`run`] tells the story. A module uses only those below it in this list:
//!
//! | module | subject |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`run`] | the stages: plan → embed → finalize |
//! | [`retrieval`] | queries, candidates, rankings, quality, search |
//! | [`export`] | how the rows of a shard are written |
//! | [`pass`] | one model over many texts |
//! | [`model`] | a model folder to an encoder and its head |
//! | [`tokenizer`] | text to token ids |
//! | [`ops`] | the arithmetic over packed batches |
//! | [`device`] | cards, leases, locks, memory |
//! | [`plan`] | how sources are cut into shards |
//! | [`hub`] | models of a hub |
//! | [`spill`] | temporary files of a shard |
//! | [`source`] | the input formats |
//! | [`store`] | where input and output lie |
//! | [`vectors`] | vectors as plain data |
//! | [`config`] | the configuration, the manifest and the toggles |
//! | [`process`] | errors, logs, metrics, progress, interrupts |

pub mod cli;
pub mod config;
pub mod device;
pub mod export;
pub mod hub;
pub mod model;
pub mod ops;
pub mod pass;
pub mod plan;
pub mod process;
pub mod retrieval;
pub mod run;
pub mod source;
pub mod spill;
pub mod store;
pub mod tokenizer;
pub mod vectors;
