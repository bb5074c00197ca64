//! The real binary over temporary folders with a tiny model: what a user sees, file by file and message by message.

#[path = "../common/mod.rs"]
mod common;

mod bad_input;
mod bad_text;
mod cards;
mod commits;
mod fallbacks;
mod faults;
mod file_systems;
mod fingerprints;
mod full_path;
mod kills;
mod odd_sources;
mod ownership;
mod pins;
mod pipeline;
mod plans;
mod queries;
mod read_faults;
mod searching;
mod stages;
mod stored_forms;
mod telemetry;
mod terminal;
mod toggles;
mod world;
