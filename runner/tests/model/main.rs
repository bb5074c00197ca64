//! A model folder is loaded, or refused with the reason; a vector does not depend on its batch.

#[path = "../common/mod.rs"]
mod tiny;

mod coverage;
mod devices;
mod folder;
mod loaded;
mod passes;
mod refused;
mod settings;
mod tokenizers;
