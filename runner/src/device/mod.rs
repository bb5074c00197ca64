//! The cards and their memory: which devices are requested and opened, who holds them, and how much memory they may use.
//!
//! [`Devices::open`] opens the devices of the process ([`request`] decides about fallbacks, [`driver`] opens them). A
//! [`Lease`] is one pass on all of them, alone on this machine by a [`lock`] per device. [`memory`] keeps the use below a
//! ceiling. On a CPU the only device is the process itself; it is leased as well, so that the record of a run has the same
//! form everywhere.

mod devices;
pub mod driver;
pub mod fault;
mod lease;
mod ledger;
mod lock;
pub mod memory;
mod request;

pub use self::{
    devices::{ComputeDevice, Devices, LazyDevices},
    driver::PrepareDevice,
    lease::{Holder, Lease, ResidentModels},
    ledger::{Ledger, Trace},
    lock::{DeviceLock, LockOptions},
    request::{DeviceOptions, DeviceRequest, DeviceUse},
};
