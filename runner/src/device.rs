//! The device of the passes: what is asked for, what is there, and what is said when they differ.

use candle_core::Device;
use crds::{contract::FailureReason, v1alpha1::FallbackReason};
use serde::{Deserialize, Serialize};

use crate::error::{Result, StageError};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceRequest {
    /// The accelerator where there is one, else the CPU; neither is a fallback.
    Any,
    /// The CPU.
    Cpu,
    /// An accelerator.
    Cuda {
        /// Whether the run fails without one; otherwise it computes on the CPU and records that.
        required: bool,
    },
}

impl DeviceRequest {
    /// What the spec's `gpu.count` and `gpu.required` ask for.
    pub fn of_spec(count: u32, required: bool) -> Self {
        if count == 0 { Self::Cpu } else { Self::Cuda { required } }
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
    /// Why it was another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<FallbackReason>,
}

impl DeviceUse {
    fn new(requested: &str, used: &str) -> Self {
        Self { requested: requested.into(), used: used.into(), fallback: None }
    }
}

/// Opens the device that is asked for.
pub fn open(request: DeviceRequest) -> Result<(Device, DeviceUse)> {
    let required = match request {
        DeviceRequest::Cpu => return Ok((Device::Cpu, DeviceUse::new("cpu", "cpu"))),
        DeviceRequest::Any => {
            return Ok(match Device::new_cuda(0) {
                Ok(device) => (device, DeviceUse::new("any", "cuda")),
                Err(_) => (Device::Cpu, DeviceUse::new("any", "cpu")),
            });
        }
        DeviceRequest::Cuda { required } => required,
    };
    let why = match Device::new_cuda(0) {
        Ok(device) => return Ok((device, DeviceUse::new("cuda", "cuda"))),
        Err(_) if !candle_core::utils::cuda_is_available() => "this build of the runner has no CUDA".to_owned(),
        Err(error) => format!("the device cannot be opened: {error}"),
    };
    if required {
        let message = format!(
            "a GPU is required (spec.gpu.required), but {why}; set spec.gpu.required to false to compute on the CPU \
             with a recorded fallback, or spec.gpu.count to 0 to ask for no GPU (on one machine: --device cpu)"
        );
        return Err(StageError::new(FailureReason::DeviceUnavailable, message));
    }
    tracing::warn!(reason = %FallbackReason::DeviceFallback, "a GPU was asked for, but {why}: computing on the CPU");
    Ok((Device::Cpu, DeviceUse { fallback: Some(FallbackReason::DeviceFallback), ..DeviceUse::new("cuda", "cpu") }))
}
