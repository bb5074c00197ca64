//! The context of the passes of a stage.

use super::{ModelCache, ModelPins};
use crate::{
    config::toggles::Toggles,
    device::{Devices, Ledger},
    process::interrupt::Interrupt,
};

/// The devices, models, ledger and options that the passes of a stage share.
#[derive(Clone, Copy)]
pub struct PassContext<'a> {
    /// The devices that the models run on.
    pub devices: &'a Devices,
    /// The models that stay loaded between passes.
    pub models: &'a ModelCache,
    /// The models of the revision, which every load is compared with.
    pub pins: ModelPins<'a>,
    /// Where leases, mitigations and throughput are recorded.
    pub ledger: &'a Ledger,
    /// The size of batches and the number of workers, if they are set.
    pub toggles: &'a Toggles,
    /// Stops a pass between two batches.
    pub interrupt: &'a Interrupt,
}
