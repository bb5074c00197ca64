//! The requested devices, and the decision about fewer or none.

use crds::{contract::FailureReason, v1alpha1::FallbackReason};
use serde::{Deserialize, Serialize};

use super::{LockOptions, fault::Fault};
use crate::process::error::{Result, StageError};

/// The requested devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceRequest {
    /// A GPU if there is one, otherwise the CPU; neither is a fallback.
    Any,
    /// The CPU.
    #[default]
    Cpu,
    /// GPUs.
    Cuda {
        /// How many, at least 1.
        count: u32,
        /// Whether the run fails with fewer GPUs; otherwise it continues on fewer or on the CPU, and records a fallback.
        required: bool,
    },
}

impl DeviceRequest {
    /// The request of the spec's `gpu.count` and `gpu.required`.
    pub fn of_spec(count: u32, required: bool) -> Self {
        if count == 0 { Self::Cpu } else { Self::Cuda { count, required } }
    }

    /// The number of requested GPUs.
    pub fn count(self) -> u32 {
        match self {
            Self::Any => 1,
            Self::Cpu => 0,
            Self::Cuda { count, .. } => count,
        }
    }
}

/// The requested and the used devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceUse {
    /// `cuda`, `cpu` or `any`.
    pub requested: String,
    /// `cuda` or `cpu`.
    pub used: String,
    /// The number of used devices.
    #[serde(default = "one")]
    pub count: u32,
    /// Why other or fewer devices are used than requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<FallbackReason>,
}

fn one() -> u32 {
    1
}

/// Decides which devices a request uses if `found` GPUs were opened. `reason` says why there are no more of them, and `fault`
/// what kind of failure that is.
///
/// # Errors
/// If GPUs are required and fewer were found.
pub(super) fn settle(request: DeviceRequest, found: u32, reason: &str, fault: Fault) -> Result<DeviceUse> {
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
    let requested = if count == 1 { "1 GPU".to_owned() } else { format!("{count} GPUs") };
    if required {
        // A device that has failed or is full is not a mistake of the spec: the next attempt may get another one.
        let transient = match fault {
            Fault::Lost => Some(FailureReason::DeviceLost),
            Fault::OutOfMemory => Some(FailureReason::DeviceBusy),
            Fault::Other => None,
        };
        if let Some(transient) = transient {
            return Err(StageError::new(transient, format!("the run requires {requested}, found {found}: {reason}")));
        }
        let lower = if found == 0 { "to 0 to use the CPU".to_owned() } else { format!("to {found}") };
        let message = format!(
            "the run requires {requested} (spec.gpu.count, spec.gpu.required), found {found}: {reason}; set spec.gpu.required to \
             false to continue with fewer, or spec.gpu.count {lower} (on one machine: --device cpu)"
        );
        return Err(StageError::new(FailureReason::DeviceUnavailable, message));
    }
    let fallback = FallbackReason::DeviceFallback;
    let with = if found == 0 { "on the CPU".to_owned() } else { format!("with {found}") };
    tracing::warn!(reason = %fallback, "requested {requested}, found {found} ({reason}): continuing {with}");
    Ok(used("cuda", Some(fallback)))
}

/// The options of the devices of a process. They belong to the execution, never to the identity of a revision.
#[derive(Clone, Debug, Default)]
pub struct DeviceOptions {
    /// The requested devices.
    pub request: DeviceRequest,
    /// The value of `spec.gpu.memoryCeiling`.
    pub ceiling: Option<String>,
    /// How devices are shared with other processes.
    pub locks: LockOptions,
}

#[cfg(test)]
mod tests {
    use crds::contract::ExitCode;

    use super::*;

    fn cuda(count: u32, required: bool) -> DeviceRequest {
        DeviceRequest::of_spec(count, required)
    }

    #[test]
    fn the_used_devices_are_those_found() {
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
    fn fewer_devices_than_required_are_an_error_with_both_counts() {
        let rejected = |count, found| {
            let error =
                settle(cuda(count, true), found, "the driver shows no more", Fault::Other).expect_err("too few");
            assert_eq!(error.reason.exit_code(), ExitCode::BadConfiguration);
            error.sentence()
        };
        let sentence = rejected(1, 0);
        assert!(
            sentence.starts_with(
                "the run requires 1 GPU (spec.gpu.count, spec.gpu.required), found 0: the driver shows no more"
            ),
            "{sentence}"
        );
        assert!(sentence.contains("spec.gpu.count to 0"), "{sentence}");
        assert!(rejected(4, 1).contains("requires 4 GPUs"), "{}", rejected(4, 1));
        assert!(rejected(4, 1).contains("found 1: the driver shows no more"), "{}", rejected(4, 1));
        assert!(rejected(4, 3).contains("spec.gpu.count to 3"), "{}", rejected(4, 3));
        for (fault, reason) in
            [(Fault::Lost, FailureReason::DeviceLost), (Fault::OutOfMemory, FailureReason::DeviceBusy)]
        {
            let error = settle(cuda(1, true), 0, "the card has failed", fault).expect_err("none");
            assert_eq!((error.reason, error.reason.exit_code()), (reason, ExitCode::Transient));
            assert!(error.sentence().contains("requires 1 GPU, found 0: the card has failed"), "{}", error.sentence());
        }
    }
}
