//! The first card of the machine, in place of the emulation: the same tests show there that the kernels are right.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use cudarc::{
    driver::{
        CudaContext, CudaFunction, CudaModule, CudaStream, LaunchConfig, PushKernelArg, result,
        sys::CUfunction_attribute_enum,
    },
    nvrtc::Ptx,
};
use kernels::cuda::{Address, Argument, FATBINS, Launch};

struct Card {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    modules: Vec<Arc<CudaModule>>,
    functions: Mutex<HashMap<String, CudaFunction>>,
}

static CARD: LazyLock<Card> = LazyLock::new(|| {
    let context = CudaContext::new(0).expect("a card");
    let load = |image: &[u8]| context.load_module(Ptx::from_binary(image.to_vec())).expect("an image for the card");
    Card {
        stream: context.default_stream(),
        modules: FATBINS.iter().map(|(_, image)| load(image)).collect(),
        functions: Mutex::default(),
        context,
    }
});

/// The card, from this thread.
fn card() -> &'static Card {
    CARD.context.bind_to_thread().expect("the card");
    &CARD
}

/// Memory whose bytes are all `value`; not of no bytes.
pub fn allocate(bytes: usize, value: u8) -> usize {
    card();
    // SAFETY: all of what is allocated is written.
    let address = unsafe {
        let address = result::malloc_sync(bytes).expect("memory of the card");
        result::memset_d8_sync(address, value, bytes).expect("memory is written");
        address
    };
    usize::try_from(address).expect("an address of 64 bits")
}

/// Gives back what [`allocate`] gave.
pub fn free(address: usize, _: usize) {
    card();
    // SAFETY: it was allocated, and no launch is under way.
    unsafe { result::free_sync(address as u64) }.expect("memory is given back");
}

/// Writes into memory that was allocated.
pub fn write(address: usize, bytes: &[u8]) {
    card();
    if !bytes.is_empty() {
        // SAFETY: there is place for them.
        unsafe { result::memcpy_htod_sync(address as u64, bytes) }.expect("memory is written");
    }
}

/// What is in memory that was allocated.
pub fn read(address: usize, bytes: usize) -> Vec<u8> {
    card();
    let mut read = vec![0; bytes];
    if bytes > 0 {
        // SAFETY: that many bytes are there.
        unsafe { result::memcpy_dtoh_sync(&mut read, address as u64) }.expect("memory is read");
    }
    read
}

/// Runs a launch to its end.
pub fn run(launch: &Launch) -> Result<(), String> {
    let card = card();
    let function = function(card, launch)?;
    let mut builder = card.stream.launch_builder(&function);
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
    // SAFETY: the arguments were compared with the kernel's parameters by the emulation.
    unsafe { builder.launch(config) }.map_err(|error| format!("{}: {error}", launch.kernel))?;
    card.stream.synchronize().map_err(|error| format!("{}: {error}", launch.kernel))
}

fn function(card: &Card, launch: &Launch) -> Result<CudaFunction, String> {
    let mut functions = card.functions.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(function) = functions.get(&launch.kernel) {
        return Ok(function.clone());
    }
    let found = card.modules.iter().find_map(|module| module.load_function(&launch.kernel).ok());
    let function = found.ok_or_else(|| format!("there is no kernel {}", launch.kernel))?;
    if launch.shared_bytes > Launch::SHARED_BYTES_BY_DEFAULT {
        let attribute = CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        function.set_attribute(attribute, launch.shared_bytes as i32).map_err(|error| error.to_string())?;
    }
    functions.insert(launch.kernel.clone(), function.clone());
    Ok(function)
}
