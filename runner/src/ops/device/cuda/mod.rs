//! A card: tensors of candle's CUDA device, launches by the driver.
//!
//! Everything is queued on one stream per device, whichever thread asks, so that the order of the calls is that of the
//! work, and memory that is given back is used again only behind the work that was on it. Threads wait for their own
//! results alone, while the work of others goes on.

// Launches and asynchronous copies are driver calls with addresses; this covers the modules below too.
#![allow(unsafe_code)]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::{CudaDevice, DType, Error, Result, Tensor, cuda_backend::DeviceId};
use kernels::cuda::{Address, Launch, driver::Kernels};

mod address;
mod copy;
mod product;

pub(super) use self::copy::{Staged, download, upload};
use self::{
    address::{address, allocate, driver_error},
    product::Products,
};
use super::machine::Machine;

/// Loads the kernels and the matrix library for a device.
///
/// # Errors
/// If there are no kernels for it, or it has no memory for them.
pub(super) fn prepare(device: &CudaDevice) -> Result<()> {
    State::of(device).map(|_| ())
}

/// The state of a device, made once.
struct State {
    kernels: Kernels,
    products: Products,
}

static STATES: Mutex<Option<HashMap<DeviceId, Arc<State>>>> = Mutex::new(None);

impl State {
    fn of(device: &CudaDevice) -> Result<Arc<Self>> {
        let mut states = STATES.lock().unwrap_or_else(PoisonError::into_inner);
        let states = states.get_or_insert_default();
        if let Some(state) = states.get(&device.id()) {
            return Ok(Arc::clone(state));
        }
        let stream = device.cuda_stream();
        let products = Products::new(&stream)?;
        let state = Arc::new(Self { kernels: Kernels::load(stream).map_err(driver_error)?, products });
        states.insert(device.id(), Arc::clone(&state));
        Ok(state)
    }
}

/// One operation on a card.
pub(super) struct Card<'a> {
    device: &'a CudaDevice,
    held: HashMap<u64, Tensor>,
}

impl<'a> Card<'a> {
    pub(super) fn new(device: &'a CudaDevice) -> Self {
        Self { device, held: HashMap::new() }
    }

    fn hold(&mut self, x: Tensor) -> Result<Address> {
        let address = address(&x)?;
        self.held.insert(address.0, x);
        Ok(address)
    }
}

impl Machine for Card<'_> {
    fn input(&mut self, x: &Tensor) -> Result<Address> {
        address(x)
    }

    fn output(&mut self, shape: &[usize], dtype: DType) -> Result<Address> {
        self.hold(allocate(self.device, shape, dtype)?)
    }

    fn changed(&mut self, x: Tensor) -> Result<Address> {
        self.hold(x)
    }

    fn launch(&mut self, launch: Option<Launch>) -> Result<()> {
        let Some(launch) = launch else { return Ok(()) };
        // SAFETY: the builder of the launch gives the arguments that the kernel has, the addresses are of tensors of the
        // sizes that it was told, which the tests check by emulation, and memory is freed in the stream's order.
        unsafe { State::of(self.device)?.kernels.launch(&launch) }.map_err(|error| Error::Cuda(Box::new(error)))
    }

    fn take(&mut self, address: Address) -> Result<Tensor> {
        self.held.remove(&address.0).ok_or_else(|| Error::msg(format!("no tensor is at {address:?}")))
    }

    fn product(
        &mut self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (rows, _) = x.dims2()?;
        let out = allocate(self.device, &[rows, weight.dim(0)?], x.dtype())?;
        if rows > 0 {
            let state = State::of(self.device)?;
            state.products.run(state.kernels.stream(), x, weight, bias, residual, &out)?;
        }
        Ok(out)
    }
}
