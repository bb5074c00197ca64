//! Classifies the errors of a device: out of memory, device lost, or anything else.
//!
//! The errors of the driver and its libraries reach the runner as text only. They are classified by the names of their codes,
//! which the driver's interface fixes.

use std::error::Error as StdError;

use candle_core::Error;

/// The class of an error of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The device has no memory for the operation: a smaller one may fit.
    OutOfMemory,
    /// The device is unreachable, or has lost the state of the process: a new process may get a working one.
    Lost,
    /// Anything else.
    Other,
}

/// Codes for a lack of memory: of the driver, cuBLAS, cuRAND, cuDNN and the runtime.
const OUT_OF_MEMORY: [&str; 5] = [
    "CUDA_ERROR_OUT_OF_MEMORY",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CURAND_STATUS_ALLOCATION_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "cudaErrorMemoryAllocation",
];

/// Codes after which the process cannot use the device any more: a failed kernel destroys the context of its process, and a
/// device that fails or falls off the bus fails for all processes.
const LOST: [&str; 29] = [
    "CUDA_ERROR_CONTAINED",
    "CUDA_ERROR_CONTEXT_IS_DESTROYED",
    "CUDA_ERROR_DEINITIALIZED",
    "CUDA_ERROR_DEVICES_UNAVAILABLE",
    "CUDA_ERROR_DEVICE_NOT_LICENSED",
    "CUDA_ERROR_DEVICE_UNAVAILABLE",
    "CUDA_ERROR_ECC_UNCORRECTABLE",
    "CUDA_ERROR_EXTERNAL_DEVICE",
    "CUDA_ERROR_HARDWARE_STACK_ERROR",
    "CUDA_ERROR_ILLEGAL_ADDRESS",
    "CUDA_ERROR_ILLEGAL_INSTRUCTION",
    "CUDA_ERROR_INVALID_ADDRESS_SPACE",
    "CUDA_ERROR_INVALID_PC",
    "CUDA_ERROR_LAUNCH_FAILED",
    "CUDA_ERROR_LAUNCH_TIMEOUT",
    "CUDA_ERROR_MISALIGNED_ADDRESS",
    "CUDA_ERROR_MPS_CONNECTION_FAILED",
    "CUDA_ERROR_MPS_RPC_FAILURE",
    "CUDA_ERROR_MPS_SERVER_NOT_READY",
    "CUDA_ERROR_NO_DEVICE",
    "CUDA_ERROR_NVLINK_UNCORRECTABLE",
    "CUDA_ERROR_OPERATING_SYSTEM",
    "CUDA_ERROR_SYSTEM_NOT_READY",
    "CUDA_ERROR_UNKNOWN",
    "CUBLAS_STATUS_EXECUTION_FAILED",
    "CUBLAS_STATUS_INTERNAL_ERROR",
    "NVML_ERROR_GPU_IS_LOST",
    // The text of nvml-wrapper.
    "device fell off the bus",
    "Xid (",
];

/// Codes of libraries that failed to initialise: for lack of memory, or for another reason.
const NOT_READY: [&str; 2] = ["CUBLAS_STATUS_NOT_INITIALIZED", "CURAND_STATUS_INITIALIZATION_FAILED"];

/// Free bytes of a device with which every library can initialise.
const BYTES_TO_INITIALISE: u64 = 1 << 30;

/// An error without the backtrace that candle adds if the environment requests one: users read a sentence.
pub fn without_backtrace(error: Error) -> Error {
    match error {
        Error::WithBacktrace { inner, .. } => without_backtrace(*inner),
        Error::WithPath { inner, path } => Error::WithPath { inner: Box::new(without_backtrace(*inner)), path },
        Error::Context { inner, context } => Error::Context { inner: Box::new(without_backtrace(*inner)), context },
        error => error,
    }
}

/// Classifies an error by the whole chain of its causes. A backtrace around it is ignored, because the names of functions
/// are not messages of the device.
pub fn of(error: &Error) -> Fault {
    match error {
        Error::WithBacktrace { inner, .. } | Error::WithPath { inner, .. } => of(inner),
        Error::Context { inner, context } => match of(inner) {
            Fault::Other => of_text(&context.to_string()),
            fault => fault,
        },
        // Its display text is the debug form, which includes the backtrace of the wrapped error.
        Error::WrappedContext { wrapped, .. } => of_chain(wrapped.as_ref()),
        Error::Cuda(cause) => of_chain(cause.as_ref()),
        error => of_chain(error),
    }
}

/// Classifies an error of opening a device. A machine without devices has not lost one, and a library without memory may
/// report only that it is not initialised. `free` is the free memory of the device in bytes, if it is known.
pub fn of_opening(error: &Error, free: Option<u64>) -> Fault {
    let text = error.to_string();
    if text.contains("CUDA_ERROR_NO_DEVICE") {
        Fault::Other
    } else if NOT_READY.iter().any(|code| text.contains(code)) && free.is_some_and(|free| free < BYTES_TO_INITIALISE) {
        Fault::OutOfMemory
    } else {
        of(error)
    }
}

/// Classifies an error of any type by the chain of its causes.
fn of_chain(error: &(dyn StdError + 'static)) -> Fault {
    let mut next = Some(error);
    while let Some(error) = next {
        let fault = match error.downcast_ref::<Error>() {
            // The cause may itself be wrapped in a backtrace.
            Some(
                inner @ (Error::WithBacktrace { .. } | Error::WithPath { .. } | Error::Context { .. } | Error::Cuda(_)),
            ) => of(inner),
            _ => of_text(&error.to_string()),
        };
        if fault != Fault::Other {
            return fault;
        }
        next = error.source();
    }
    Fault::Other
}

/// Classifies a message.
pub fn of_text(text: &str) -> Fault {
    let has_any = |codes: &[&str]| codes.iter().any(|code| text.contains(code));
    if has_any(&OUT_OF_MEMORY) {
        Fault::OutOfMemory
    } else if has_any(&LOST) {
        Fault::Lost
    } else {
        Fault::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error as cudarc and candle's kernels build it: a message with the code, and a cause.
    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct DriverMessage(&'static str, #[source] Option<Box<DriverMessage>>);

    fn cuda(text: &'static str) -> Error {
        Error::Cuda(Box::new(DriverMessage(text, None)))
    }

    #[test]
    fn a_lack_of_memory_is_seen_in_every_form_of_the_error() {
        let full = "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")";
        let below =
            Error::Cuda(Box::new(DriverMessage("cannot allocate 7 bytes", Some(Box::new(DriverMessage(full, None))))));
        let forms = [
            cuda(full),
            cuda("CublasError(CUBLAS_STATUS_ALLOC_FAILED)"),
            cuda("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\") when loading module reduce"),
            below,
            Error::WithBacktrace {
                inner: Box::new(cuda(full)),
                backtrace: Box::new(std::backtrace::Backtrace::disabled()),
            },
            cuda(full).with_path("/models/x"),
            cuda(full).context("layer 3"),
            Error::wrap(DriverMessage(full, None)),
            Error::Msg(full.into()),
            cuda(full).context("layer 3").with_path("/models/x").context("the model"),
        ];
        for error in forms {
            assert_eq!(of(&error), Fault::OutOfMemory, "{error}");
        }
    }

    #[test]
    fn a_backtrace_is_not_part_of_a_message() {
        let with = |error| Error::WithBacktrace {
            inner: Box::new(error),
            backtrace: Box::new(std::backtrace::Backtrace::force_capture()),
        };
        let error = with(with(cuda("full")).context("layer 3").with_path("/models/x"));
        assert!(error.to_string().lines().count() > 10, "{error}");
        let error = without_backtrace(error).to_string();
        assert!(error.contains("full") && error.contains("layer 3") && error.contains("/models/x"), "{error}");
        assert!(error.lines().count() < 4, "{error}");
    }

    #[test]
    fn an_unreachable_device_is_lost() {
        for text in [
            "DriverError(CUDA_ERROR_LAUNCH_FAILED, \"unspecified launch failure\")",
            "DriverError(CUDA_ERROR_ECC_UNCORRECTABLE, \"uncorrectable ECC error encountered\")",
            "DriverError(CUDA_ERROR_DEVICE_UNAVAILABLE, \"CUDA-capable device(s) is/are busy or unavailable\")",
            "DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, \"an illegal memory access was encountered\")",
            "DriverError(CUDA_ERROR_UNKNOWN, \"unknown error\")",
            "CublasError(CUBLAS_STATUS_EXECUTION_FAILED)",
            "device fell off the bus or has otherwise become inacessible",
            "NVRM: Xid (PCI:0000:65:00): 79, GPU has fallen off the bus.",
        ] {
            assert_eq!(of(&cuda(text)), Fault::Lost, "{text}");
            assert_eq!(of(&cuda(text).context("layer 3")), Fault::Lost, "{text}");
        }
    }

    #[test]
    fn a_machine_without_a_device_has_not_lost_one() {
        let error = |code: &str| Error::Msg(format!("DriverError({code}, \"what it says\")"));
        let opening = |code: &str| of_opening(&error(code), None);
        assert_eq!(opening("CUDA_ERROR_NO_DEVICE"), Fault::Other);
        assert_eq!(opening("CUDA_ERROR_SYSTEM_NOT_READY"), Fault::Lost);
        assert_eq!(opening("CUDA_ERROR_OUT_OF_MEMORY"), Fault::OutOfMemory);
        assert_eq!(opening("CUDA_ERROR_NO_BINARY_FOR_GPU"), Fault::Other);
    }

    #[test]
    fn a_library_that_is_not_initialised_on_a_full_device_lacks_memory() {
        let error = Error::Msg("CublasError(CUBLAS_STATUS_NOT_INITIALIZED)".into());
        assert_eq!(of_opening(&error, Some(100 << 20)), Fault::OutOfMemory);
        assert_eq!(of_opening(&error, Some(8 << 30)), Fault::Other);
        assert_eq!(of_opening(&error, None), Fault::Other);
    }

    #[test]
    fn other_errors_are_neither() {
        for error in [
            cuda("DriverError(CUDA_ERROR_INVALID_VALUE, \"invalid argument\")"),
            cuda("CublasError(CUBLAS_STATUS_INVALID_VALUE)"),
            Error::Msg("a text about memory that runs out".into()),
            Error::CannotFindTensor { path: "w".into() }.context("out of layers"),
        ] {
            assert_eq!(of(&error), Fault::Other, "{error}");
        }
    }

    #[test]
    fn a_lack_of_memory_goes_before_a_lost_device() {
        // A chain may name both; the one that can be mitigated wins.
        let both =
            DriverMessage("CUDA_ERROR_OUT_OF_MEMORY", Some(Box::new(DriverMessage("CUDA_ERROR_LAUNCH_FAILED", None))));
        assert_eq!(of(&Error::Cuda(Box::new(both))), Fault::OutOfMemory);
    }
}
