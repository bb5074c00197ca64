//! Runs launches on the CUDA driver.

// The driver reads the addresses of a launch without checks.
#![allow(unsafe_code)]

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
};

use cudarc::{
    driver::{
        CudaFunction, CudaModule, CudaStream, DriverError, LaunchConfig, PushKernelArg, sys::CUfunction_attribute_enum,
    },
    nvrtc::Ptx,
};

use super::launch::{Address, Argument, Launch};

/// The compiled kernels: the name of each source and its image for the driver.
const FATBINS: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/fatbins.rs"));

/// Why a launch was not queued.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The build has no image of the source.
    #[error("this build has no kernels of {0}.cu")]
    Unknown(&'static str),
    /// The driver rejected the launch.
    #[error("kernel {kernel}: {source}")]
    Driver {
        /// The name of the kernel.
        kernel: String,
        /// The error of the driver.
        source: DriverError,
    },
}

/// The kernels, loaded on a card and launched on one stream.
#[derive(Debug)]
pub struct Kernels {
    stream: Arc<CudaStream>,
    /// By name of the source.
    modules: HashMap<&'static str, Arc<CudaModule>>,
    /// By name of the kernel, filled at the first launch of each.
    functions: Mutex<HashMap<String, Function>>,
}

/// A kernel that has been looked up.
#[derive(Clone, Debug)]
struct Function {
    function: CudaFunction,
    /// The dynamic shared memory that the driver allows it.
    shared_bytes: u32,
}

impl Kernels {
    /// Loads all kernels for the card of the stream.
    ///
    /// # Errors
    /// If no image fits the card, or the driver fails.
    pub fn load(stream: Arc<CudaStream>) -> Result<Self, DriverError> {
        let load = |&(source, image): &(&'static str, &[u8])| {
            Ok((source, stream.context().load_module(Ptx::from_binary(image.to_vec()))?))
        };
        let modules = FATBINS.iter().map(load).collect::<Result<_, DriverError>>()?;
        Ok(Self { stream, modules, functions: Mutex::default() })
    }

    /// The stream that launches are queued on.
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// Queues a launch on the stream.
    ///
    /// # Errors
    /// If the kernel does not exist, or the driver rejects the launch.
    ///
    /// # Safety
    /// The arguments are those of the kernel. Each address points to memory of the card, of the size that the builder of
    /// the launch documents, which stays allocated until the launch completes.
    pub unsafe fn launch(&self, launch: &Launch) -> Result<(), LaunchError> {
        let driver_error = |source| LaunchError::Driver { kernel: launch.kernel.clone(), source };
        let function = self.function(launch)?;
        let mut builder = self.stream.launch_builder(&function);
        for argument in &launch.arguments {
            match argument {
                Argument::Address(Address(value)) => builder.arg(value),
                Argument::I32(value) => builder.arg(value),
                Argument::I64(value) => builder.arg(value),
                Argument::F32(value) => builder.arg(value),
            };
        }
        let [grid, block] = [launch.grid, launch.block].map(|[x, y, z]| (x, y, z));
        let config = LaunchConfig { grid_dim: grid, block_dim: block, shared_mem_bytes: launch.shared_bytes };
        // SAFETY: the caller guarantees the arguments, see above.
        unsafe { builder.launch(config) }.map_err(driver_error)?;
        Ok(())
    }

    /// The kernel of a launch, allowed the shared memory that the launch needs. The lookup goes to the module of the
    /// launch's source alone: tools that watch the driver report every failed lookup as an error.
    fn function(&self, launch: &Launch) -> Result<CudaFunction, LaunchError> {
        let driver_error = |source| LaunchError::Driver { kernel: launch.kernel.clone(), source };
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = match functions.entry(launch.kernel.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(vacant) => {
                let module = self.modules.get(launch.source).ok_or(LaunchError::Unknown(launch.source))?;
                let function = module.load_function(&launch.kernel).map_err(driver_error)?;
                vacant.insert(Function { function, shared_bytes: Launch::SHARED_BYTES_BY_DEFAULT })
            }
        };
        // Another model may need more than the first one.
        if launch.shared_bytes > entry.shared_bytes {
            let attribute = CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            entry.function.set_attribute(attribute, launch.shared_bytes as i32).map_err(driver_error)?;
            entry.shared_bytes = launch.shared_bytes;
        }
        Ok(entry.function.clone())
    }
}
