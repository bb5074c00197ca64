//! The devices of the passes: what is asked for, what is there, what is said when they differ, and who holds them.
//!
//! [`Devices::open`] gives the devices of the process, [`Lease`] is one pass on all of them. On a CPU the one device is
//! the process itself; it is leased as well, so that the record of a run has the same form everywhere.

pub mod driver;
pub mod fault;
mod lease;
mod lock;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::Device;
use crds::{contract::FailureReason, v1alpha1::FallbackReason};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Result, StageError},
    interrupt::Interrupt,
    memory::Memory,
    toggles::Toggles,
};

use fault::Fault;
pub use lease::{Holder, Lease, Ledger, Trace};
pub use lock::{LockOptions, Locked};

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceRequest {
    /// The accelerator where there is one, else the CPU; neither is a fallback.
    Any,
    /// The CPU.
    #[default]
    Cpu,
    /// Accelerators.
    Cuda {
        /// How many, at least 1.
        count: u32,
        /// Whether the run fails with fewer; otherwise it computes on those that are there, or on the CPU, and records
        /// that.
        required: bool,
    },
}

impl DeviceRequest {
    /// What the spec's `gpu.count` and `gpu.required` ask for.
    pub fn of_spec(count: u32, required: bool) -> Self {
        if count == 0 { Self::Cpu } else { Self::Cuda { count, required } }
    }

    /// How many accelerators are asked for.
    pub fn count(self) -> u32 {
        match self {
            Self::Any => 1,
            Self::Cpu => 0,
            Self::Cuda { count, .. } => count,
        }
    }
}

/// What was asked for and what was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceUse {
    /// `cuda`, `cpu` or `any`.
    pub requested: String,
    /// `cuda` or `cpu`.
    pub used: String,
    /// How many of them.
    #[serde(default = "one")]
    pub count: u32,
    /// Why it was another one, or fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<FallbackReason>,
}

fn one() -> u32 {
    1
}

/// What a request comes to where `found` accelerators can be used; `why` says why there are no more, and `fault` what that
/// means.
fn settle(request: DeviceRequest, found: u32, why: &str, fault: Fault) -> Result<DeviceUse> {
    let used = |requested: &str, fallback| {
        let (used, count) = if found > 0 { ("cuda", found) } else { ("cpu", 1) };
        DeviceUse { requested: requested.into(), used: used.into(), count, fallback }
    };
    let (count, required) = match request {
        DeviceRequest::Cpu => return Ok(used("cpu", None)),
        DeviceRequest::Any => return Ok(used("any", None)),
        DeviceRequest::Cuda { count, .. } if count <= found => return Ok(used("cuda", None)),
        DeviceRequest::Cuda { count, required } => (count, required),
    };
    let asked = if count == 1 { "a GPU is".to_owned() } else { format!("{count} GPUs are") };
    let short = match found {
        0 => why.to_owned(),
        1 => format!("there is 1: {why}"),
        found => format!("there are {found}: {why}"),
    };
    if required {
        // A device that has failed or is full is no mistake of the spec: the next try may be on another one.
        let may_pass = match fault {
            Fault::Lost => Some(FailureReason::DeviceLost),
            Fault::OutOfMemory => Some(FailureReason::DeviceBusy),
            Fault::Other => None,
        };
        if let Some(reason) = may_pass {
            return Err(StageError::new(reason, format!("{asked} required, but {short}")));
        }
        let fewer = if found == 0 { "0 to ask for no GPU" } else { "the number that there is" };
        let message = format!(
            "{asked} required (spec.gpu.count, spec.gpu.required), but {short}; set spec.gpu.required to false to \
             go on with what there is, or spec.gpu.count to {fewer} (on one machine: --device cpu)"
        );
        return Err(StageError::new(FailureReason::DeviceUnavailable, message));
    }
    let reason = FallbackReason::DeviceFallback;
    if found == 0 {
        tracing::warn!(%reason, "{asked} asked for, but {short}: computing on the CPU");
    } else {
        tracing::warn!(%reason, "{asked} asked for, but {short}: computing on fewer");
    }
    Ok(used("cuda", Some(reason)))
}

/// A device that models are computed on.
#[derive(Debug)]
pub struct ComputeDevice {
    /// The device.
    pub device: Device,
    /// `cpu`, or `cuda:0` and so on.
    pub name: String,
    /// Its memory, under the ceiling that is meant for it.
    pub memory: Memory,
    /// Its UUID, as NVML writes it; none of the CPU, which nobody has to themselves.
    uuid: Option<String>,
}

/// The devices of a process, at least one, and all of a kind.
pub struct Devices {
    all: Vec<ComputeDevice>,
    /// What was asked for and what is used.
    pub used: DeviceUse,
    locks: LockOptions,
    /// Locks that outlast a lease, because models do.
    kept: Mutex<Vec<Locked>>,
}

impl Devices {
    /// Opens the devices that are asked for.
    ///
    /// # Errors
    /// If accelerators are required and there are fewer.
    pub fn open(request: DeviceRequest, toggles: &Toggles, locks: LockOptions) -> Result<Self> {
        let found = match request.count() {
            0 => driver::Found::none(""),
            count => driver::open(count),
        };
        let used = settle(request, found.devices.len() as u32, &found.why, found.fault)?;
        let accelerated = |(index, opened): (usize, driver::Opened)| ComputeDevice {
            device: opened.device,
            name: format!("cuda:{index}"),
            memory: Memory::of_device(opened.memory, toggles.device_ceiling),
            uuid: Some(opened.uuid),
        };
        let mut all: Vec<ComputeDevice> = found.devices.into_iter().enumerate().map(accelerated).collect();
        if all.is_empty() {
            all.push(ComputeDevice {
                device: Device::Cpu,
                name: "cpu".into(),
                memory: Memory::of_process(toggles.process_ceiling),
                uuid: None,
            });
        }
        Ok(Self { all, used, locks, kept: Mutex::default() })
    }

    /// The devices.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &ComputeDevice> {
        self.all.iter()
    }

    /// `cuda` or `cpu`.
    pub fn kind(&self) -> &str {
        &self.used.used
    }

    /// Whether models are computed on an accelerator.
    pub fn accelerated(&self) -> bool {
        self.used.used != "cpu"
    }

    /// Takes every device to itself, one after the other in the order of their UUIDs, so that two processes that want
    /// the same ones do not wait for each other.
    fn lock(&self, interrupt: &Interrupt) -> Result<Vec<Locked>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !kept.is_empty() {
            return Ok(std::mem::take(&mut *kept));
        }
        let mut uuids: Vec<&str> = self.iter().filter_map(|device| device.uuid.as_deref()).collect();
        uuids.sort_unstable();
        uuids.into_iter().map(|uuid| self.locks.acquire(uuid, interrupt)).collect()
    }

    /// Keeps locks until the next lease, or the end of the process.
    fn keep(&self, locks: Vec<Locked>) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = locks;
    }
}

impl fmt::Debug for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Devices").field("all", &self.all).field("used", &self.used).finish_non_exhaustive()
    }
}

/// What a process asks of its devices. It is execution, never identity.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Which devices.
    pub request: DeviceRequest,
    /// What `spec.gpu.memoryCeiling` says.
    pub ceiling: Option<String>,
    /// How they are shared with other processes.
    pub locks: LockOptions,
}

/// The devices of a process, opened when they are first needed.
#[derive(Debug, Default)]
pub struct OnDemand {
    request: DeviceRequest,
    locks: LockOptions,
    opened: Mutex<Option<Arc<Devices>>>,
}

impl OnDemand {
    /// Devices that are not opened yet.
    pub fn new(asked: &Asked) -> Self {
        Self { request: asked.request, locks: asked.locks.clone(), opened: Mutex::default() }
    }

    /// The devices.
    ///
    /// # Errors
    /// As [`Devices::open`].
    pub fn get(&self, toggles: &Toggles) -> Result<Arc<Devices>> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(devices) = &*opened {
            return Ok(Arc::clone(devices));
        }
        let devices = Arc::new(Devices::open(self.request, toggles, self.locks.clone())?);
        *opened = Some(Arc::clone(&devices));
        Ok(devices)
    }
}

#[cfg(test)]
mod tests {
    use crds::contract::ExitCode;

    use super::*;

    fn cuda(count: u32, required: bool) -> DeviceRequest {
        DeviceRequest::of_spec(count, required)
    }

    #[test]
    fn what_is_used_is_what_is_there() {
        let fallback = Some(FallbackReason::DeviceFallback);
        let cases = [
            (DeviceRequest::Cpu, 0, ("cpu", "cpu", 1, None)),
            (DeviceRequest::Any, 0, ("any", "cpu", 1, None)),
            (DeviceRequest::Any, 1, ("any", "cuda", 1, None)),
            (cuda(0, true), 0, ("cpu", "cpu", 1, None)),
            (cuda(1, true), 1, ("cuda", "cuda", 1, None)),
            (cuda(4, true), 4, ("cuda", "cuda", 4, None)),
            (cuda(4, false), 4, ("cuda", "cuda", 4, None)),
            (cuda(1, false), 0, ("cuda", "cpu", 1, fallback)),
            (cuda(4, false), 3, ("cuda", "cuda", 3, fallback)),
        ];
        for (request, found, expected) in cases {
            let used = settle(request, found, "no more", Fault::Lost).expect("devices");
            let used = (used.requested.as_str(), used.used.as_str(), used.count, used.fallback);
            assert_eq!(used, expected, "{request:?}, {found} found");
        }
    }

    #[test]
    fn fewer_than_are_required_are_an_error_that_counts_them() {
        let refused = |count, found| {
            let error =
                settle(cuda(count, true), found, "the driver shows no more", Fault::Other).expect_err("too few");
            assert_eq!(error.reason.exit_code(), ExitCode::BadConfiguration);
            error.sentence()
        };
        let sentence = refused(1, 0);
        assert!(
            sentence.starts_with("a GPU is required (spec.gpu.count, spec.gpu.required), but the driver"),
            "{sentence}"
        );
        assert!(sentence.contains("spec.gpu.count to 0"), "{sentence}");
        assert!(refused(4, 1).contains("4 GPUs are required"), "{}", refused(4, 1));
        assert!(refused(4, 1).contains("there is 1: the driver shows no more"), "{}", refused(4, 1));
        assert!(refused(4, 3).contains("there are 3: the driver shows no more"), "{}", refused(4, 3));
        for (fault, reason) in
            [(Fault::Lost, FailureReason::DeviceLost), (Fault::OutOfMemory, FailureReason::DeviceBusy)]
        {
            let error = settle(cuda(1, true), 0, "the card is not well", fault).expect_err("none");
            assert_eq!((error.reason, error.reason.exit_code()), (reason, ExitCode::Transient));
            assert!(error.sentence().contains("a GPU is required, but the card is not well"), "{}", error.sentence());
        }
    }
}
