//! A card: tensors of candle's CUDA device, launches by the driver.
//!
//! Everything is queued on one stream per device, whichever thread asks, so that the order of the calls is that of the
//! work, and memory that is given back is used again only behind the work that was on it. Threads wait for their own
//! results alone, while the work of others goes on.

// Launches and asynchronous copies are calls of the driver with addresses.
#![allow(unsafe_code)]

use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::{
    CudaDevice, CudaStorage, DType, Device, Error, Result, Shape, Storage, Tensor, WithDType, bail,
    cuda_backend::{
        CudaDType, DeviceId,
        cudarc::driver::{
            CudaContext, CudaEvent, DevicePtr, DriverError, PinnedHostSlice, ValidAsZeroBits, result,
            sys::{CU_MEMHOSTALLOC_WRITECOMBINED, CUevent_flags, CUmemPool_attribute, CUmemoryPool},
        },
    },
    op::BackpropOp,
};
use half::{bf16, f16};
use kernels::cuda::{Address, Launch, driver::Kernels};

use super::{Machine, product::Products};

/// Opens the card with this number, for work from any thread.
///
/// # Errors
/// If there is none, the driver does not work, or there are no kernels for it.
pub fn open(ordinal: usize) -> Result<Device> {
    let device = CudaDevice::new_with_stream(ordinal)?;
    // SAFETY: all tensors of the device are made, used and freed on its one stream, in the order of the calls.
    unsafe { device.disable_event_tracking() };
    keep_freed_memory(device.cuda_stream().context())?;
    State::of(&device)?;
    Ok(Device::Cuda(device))
}

/// Memory that is freed stays with the process until it is trimmed: asking the driver for each batch would make the card
/// wait.
fn keep_freed_memory(context: &CudaContext) -> Result<()> {
    let Some(pool) = pool(context).map_err(driver)? else { return Ok(()) };
    let mut threshold = u64::MAX;
    let value = std::ptr::from_mut(&mut threshold).cast();
    // SAFETY: the attribute is a number of 64 bits.
    unsafe { result::mem_pool::set_attribute(pool, CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, value) }
        .map_err(driver)
}

/// The pool that tensors come from; none where the driver has no pools.
///
/// # Errors
/// If the driver does not say.
pub fn pool(context: &CudaContext) -> std::result::Result<Option<CUmemoryPool>, DriverError> {
    if !context.has_async_alloc() {
        return Ok(None);
    }
    // SAFETY: the device is that of the context.
    unsafe { result::device::get_default_mem_pool(context.cu_device()) }.map(Some)
}

pub(super) fn driver(error: DriverError) -> Error {
    Error::Cuda(Box::new(error))
}

/// What is made once for a device.
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
        let state = Arc::new(Self { kernels: Kernels::load(stream).map_err(driver)?, products });
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

/// A tensor whose values are not written yet.
fn allocate(device: &CudaDevice, shape: &[usize], dtype: DType) -> Result<Tensor> {
    let count = shape.iter().product::<usize>().max(1);
    // SAFETY: launches write all values before anybody reads one; the tests check it by emulation.
    let storage = unsafe {
        match dtype {
            DType::F32 => CudaStorage::wrap_cuda_slice(device.alloc::<f32>(count)?, device.clone()),
            DType::F16 => CudaStorage::wrap_cuda_slice(device.alloc::<f16>(count)?, device.clone()),
            DType::BF16 => CudaStorage::wrap_cuda_slice(device.alloc::<bf16>(count)?, device.clone()),
            DType::U32 => CudaStorage::wrap_cuda_slice(device.alloc::<u32>(count)?, device.clone()),
            DType::I64 => CudaStorage::wrap_cuda_slice(device.alloc::<i64>(count)?, device.clone()),
            other => bail!("no kernel writes {other:?}"),
        }
    };
    Ok(Tensor::from_storage(Storage::Cuda(storage), Shape::from(shape), BackpropOp::none(), false))
}

/// Where the values of a contiguous tensor begin.
pub(super) fn address(x: &Tensor) -> Result<Address> {
    fn first<T: CudaDType>(storage: &CudaStorage, offset: usize) -> Result<Address> {
        let slice = storage.as_cuda_slice::<T>()?;
        let stream = slice.stream();
        let (start, _) = slice.device_ptr(stream);
        Ok(Address(start + (offset * size_of::<T>()) as u64))
    }
    let (storage, layout) = x.storage_and_layout();
    let Some((offset, _)) = layout.contiguous_offsets() else { bail!("the kernels take contiguous tensors") };
    let Storage::Cuda(storage) = &*storage else { bail!("the tensor is not on the card") };
    match x.dtype() {
        DType::F32 => first::<f32>(storage, offset),
        DType::F16 => first::<f16>(storage, offset),
        DType::BF16 => first::<bf16>(storage, offset),
        DType::U32 => first::<u32>(storage, offset),
        DType::I64 => first::<i64>(storage, offset),
        other => bail!("no kernel reads {other:?}"),
    }
}

/// Memory of the host that the card copies from or to without the processor, and the end of its last copy.
struct Staging<T> {
    memory: PinnedHostSlice<T>,
    copied: CudaEvent,
}

impl<T: ValidAsZeroBits + candle_core::cuda_backend::cudarc::driver::DeviceRepr> Staging<T> {
    /// The first `count` values of what `slot` holds, which grows to have them; no copy is under way.
    fn room<'a>(
        slot: &'a mut Option<Self>,
        count: usize,
        flags: u32,
        context: &Arc<CudaContext>,
    ) -> Result<&'a mut Self> {
        let fits = slot.as_ref().is_some_and(|held| held.memory.len() >= count && held.memory.context() == context);
        if let Some(held) = slot.as_ref() {
            held.copied.synchronize().map_err(driver)?;
        }
        if !fits {
            // SAFETY: any bytes are a value, and only what was written is read.
            let memory = unsafe { context.alloc_pinned_with_flags(count.next_power_of_two(), flags) };
            let copied = context.new_event(Some(CUevent_flags::CU_EVENT_BLOCKING_SYNC)).map_err(driver)?;
            *slot = Some(Self { memory: memory.map_err(driver)?, copied });
        }
        slot.as_mut().ok_or_else(|| Error::msg("no memory for copies"))
    }
}

/// Copies to the card that a thread has under way: they stand behind the work of other threads, and a thread that waited
/// for one of them would leave the card without its next work.
const COPIES_UNDER_WAY: usize = 8;

thread_local! {
    /// Taken in turn, from the first number on.
    static UP: RefCell<(usize, [Option<Staging<u32>>; COPIES_UNDER_WAY])> =
        const { RefCell::new((0, [const { None }; COPIES_UNDER_WAY])) };
    static DOWN: RefCell<Option<Staging<u32>>> = const { RefCell::new(None) };
}

/// Values of 32 bits, which are copied as such.
pub trait Staged: Sized {
    /// The value of the bits.
    fn of_bits(bits: u32) -> Self;
}

impl Staged for u32 {
    fn of_bits(bits: u32) -> Self {
        bits
    }
}

impl Staged for f32 {
    fn of_bits(bits: u32) -> Self {
        Self::from_bits(bits)
    }
}

/// See [`super::upload`].
pub(super) fn upload(values: &[u32], device: &CudaDevice) -> Result<Tensor> {
    let stream = device.cuda_stream();
    let out = allocate(device, &[values.len()], DType::U32)?;
    if values.is_empty() {
        return Ok(out);
    }
    UP.with_borrow_mut(|(next, slots)| {
        let slot = &mut slots[*next];
        *next = (*next + 1) % COPIES_UNDER_WAY;
        let staging = Staging::room(slot, values.len(), CU_MEMHOSTALLOC_WRITECOMBINED, stream.context())?;
        let memory = &mut staging.memory.as_mut_slice().map_err(driver)?[..values.len()];
        memory.copy_from_slice(values);
        // SAFETY: the memory is not changed before the copy's end is waited for, and the tensor has as many values.
        unsafe { result::memcpy_htod_async(address(&out)?.0, memory, stream.cu_stream()) }.map_err(driver)?;
        staging.copied.record(&stream).map_err(driver)
    })?;
    Ok(out)
}

/// See [`super::download`].
pub(super) fn download<T: Staged + WithDType>(x: &Tensor, device: &CudaDevice) -> Result<Vec<T>> {
    let (stream, count) = (device.cuda_stream(), x.elem_count());
    if count == 0 {
        return Ok(Vec::new());
    }
    if x.dtype() != T::DTYPE {
        bail!("{:?} is not copied to the host as {:?}", x.dtype(), T::DTYPE);
    }
    // Whoever takes the rows need not have computed them.
    stream.context().bind_to_thread().map_err(driver)?;
    DOWN.with_borrow_mut(|slot| {
        let staging = Staging::room(slot, count, 0, stream.context())?;
        let memory = &mut staging.memory.as_mut_slice().map_err(driver)?[..count];
        // SAFETY: the tensor has as many values, and the memory is read after the copy's end.
        unsafe { result::memcpy_dtoh_async(memory, address(x)?.0, stream.cu_stream()) }.map_err(driver)?;
        staging.copied.record(&stream).map_err(driver)?;
        staging.copied.synchronize().map_err(driver)?;
        Ok(memory.iter().map(|bits| T::of_bits(*bits)).collect())
    })
}
