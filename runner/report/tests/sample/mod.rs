//! Summaries for tests: a run with every kind of fact, one of its collections, an empty run, and runs with other texts.

// Every test that includes this folder uses a part of it.
#![allow(dead_code, unused_imports)]

mod other_texts;
mod retrieval;
mod run;
mod size;
mod stages;
mod telemetry;

pub use self::{
    other_texts::{Marked, hostile, marked},
    run::{collection, empty, run},
};
