//! Memory under a ceiling: how much is in use ([`Memory`]), and how many tokens a batch may have ([`AdaptiveBudget`]).
//!
//! On a CPU it is the memory of the process. A failed allocation ends the process there, so a batch is admitted by forecast:
//! the use when the model was loaded, plus the estimate of the batches in flight. On a device it is the memory of the
//! device; the forecast uses the measured cost of a token, and a failed allocation is an error that the pass handles.

mod budget;
mod nvml;
mod source;
mod usage;

pub use self::{
    budget::{AdaptiveBudget, LearnedBudget, Limits, Mitigation},
    nvml::UnopenedDevice,
    source::{MemorySource, Process},
    usage::Memory,
};
