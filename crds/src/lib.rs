//! The `EmbeddingRun` API and the contract between the operator and the runner.
//!
//! Pure data and pure functions: nothing here reads a file, a clock or a network.
//!
//! - [`v1alpha1`]: the custom resource, one file per noun
//! - [`identity`]: the fields that determine the output, and the revision that is their hash
//! - [`validation`]: the checks that the schema cannot express
//! - [`contract`]: the configuration, the result and the exit codes of the runner
//! - [`resolve`]: from a spec to the configuration of the runner, in a pod and on one machine
//! - [`layout`]: the paths in the output store
//! - [`pointer`]: the file that names the revision that readers should use, and the run that owns it
//! - [`memory`]: the memory ceiling of a device
//! - [`summary`]: the schema of `processing_summary.json`
//! - [`fingerprint`]: what a file of vectors says about itself
//! - [`generated`], [`reference`](mod@reference): the CRD, the JSON Schema and the API reference, generated from the
//!   types

pub mod contract;
pub mod fingerprint;
pub mod generated;
pub mod identity;
pub mod layout;
pub mod memory;
pub mod pointer;
pub mod reference;
pub mod resolve;
pub mod summary;
pub mod v1alpha1;
pub mod validation;
