//! Models of a hub: `hf://owner/name@revision` → a folder of the cache, complete and verified.
//!
//! The revision is resolved to a commit, the files that a model needs are selected from the list of the commit, and each file
//! is stored in the cache under its checksum. A commit never changes: what the cache holds of it is not requested again.

mod blocking;
mod cache;
mod client;
mod download;
mod error;
mod fetch;
mod files;
mod model;
mod resolve;
mod retry;
mod settings;
mod token;
mod volume;

pub use self::{
    error::HubError,
    files::module_path,
    model::HubModel,
    resolve::{commits, folder, pinned, recorded, settings_folder},
    settings::Settings,
    token::{Token, take_from_environment},
};
