//! The `EmbeddingRun` API and the contract between the operator and the runner.
//!
//! Pure data and pure functions: nothing here reads a file, a clock or a network.
//!
//! - [`v1alpha1`]: the custom resource, one file per noun
//! - [`identity`]: which fields determine the output, and the revision made of them
//! - [`resolve`]: where the volumes of a run are, in a pod and on one machine
//! - [`contract`]: what the two binaries say to each other
//! - [`layout`]: where things lie in the output store
//! - [`memory`]: the memory ceiling of a device
//! - [`generated`]: the CRD and the JSON Schema made of the types
//! - [`validation`]: what the schema cannot say
//! - [`summary`]: the schema of `processing_summary.json`

pub mod contract;
pub mod generated;
pub mod identity;
pub mod layout;
pub mod memory;
pub mod reference;
pub mod resolve;
pub mod summary;
pub mod v1alpha1;
pub mod validation;
