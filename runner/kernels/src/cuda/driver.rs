//! Carries out launches by the CUDA driver.

// A launch hands addresses to the driver.
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

use super::{Address, Argument, FATBINS, Launch};

/// Why a launch was not queued.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The build has none of the source's kernels.
    #[error("this build has no kernels of {0}.cu")]
    Unknown(&'static str),
    /// The driver refused it.
    #[error("kernel {kernel}: {source}")]
    Driver {
        /// Its name.
        kernel: String,
        /// What the driver says.
        source: DriverError,
    },
}

/// The kernels on a card, launched on one stream.
#[derive(Debug)]
pub struct Kernels {
    stream: Arc<CudaStream>,
    /// By the source that was compiled.
    modules: HashMap<&'static str, Arc<CudaModule>>,
    functions: Mutex<HashMap<String, Function>>,
}

/// A kernel that was launched before.
#[derive(Clone, Debug)]
struct Function {
    function: CudaFunction,
    /// The dynamic shared memory that it may have.
    shared_bytes: u32,
}

impl Kernels {
    /// Loads all kernels for the card of the stream.
    ///
    /// # Errors
    /// If the driver has none for the card, or does not work.
    pub fn load(stream: Arc<CudaStream>) -> Result<Self, DriverError> {
        let load = |&(source, image): &(&'static str, &[u8])| {
            Ok((source, stream.context().load_module(Ptx::from_binary(image.to_vec()))?))
        };
        let modules = FATBINS.iter().map(load).collect::<Result<_, DriverError>>()?;
        Ok(Self { stream, modules, functions: Mutex::default() })
    }

    /// The stream.
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// Queues a launch.
    ///
    /// # Errors
    /// If there is no such kernel, or the driver refuses the launch.
    ///
    /// # Safety
    /// The arguments are those of the kernel, and the addresses are of memory of the card that is as large as the builder
    /// of the launch was told, until the launch is done.
    pub unsafe fn launch(&self, launch: &Launch) -> Result<(), LaunchError> {
        let refused = |source| LaunchError::Driver { kernel: launch.kernel.clone(), source };
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
        // SAFETY: the caller's promise.
        unsafe { builder.launch(config) }.map_err(refused)?;
        Ok(())
    }

    /// The kernel of a launch, which may have as much shared memory as that needs. It is looked up where it is, and
    /// nowhere else: a lookup that fails is an error to the tools that watch the driver.
    fn function(&self, launch: &Launch) -> Result<CudaFunction, LaunchError> {
        let refused = |source| LaunchError::Driver { kernel: launch.kernel.clone(), source };
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        let known = match functions.entry(launch.kernel.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let module = self.modules.get(launch.source).ok_or(LaunchError::Unknown(launch.source))?;
                let function = module.load_function(&launch.kernel).map_err(refused)?;
                place.insert(Function { function, shared_bytes: Launch::SHARED_BYTES_BY_DEFAULT })
            }
        };
        // One model may need more than another that was there before.
        if launch.shared_bytes > known.shared_bytes {
            let attribute = CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            known.function.set_attribute(attribute, launch.shared_bytes as i32).map_err(refused)?;
            known.shared_bytes = launch.shared_bytes;
        }
        Ok(known.function.clone())
    }
}
