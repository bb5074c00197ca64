//! Copies between the host and a card, through pinned memory and without waiting for other work.

use std::{cell::RefCell, sync::Arc};

use candle_core::{
    CudaDevice, DType, Error, Result, Tensor, WithDType, bail,
    cuda_backend::cudarc::driver::{
        CudaContext, CudaEvent, DeviceRepr, PinnedHostSlice, ValidAsZeroBits, result,
        sys::{CU_MEMHOSTALLOC_WRITECOMBINED, CUevent_flags},
    },
};

use super::address::{address, allocate, driver_error};

/// Memory of the host that the card copies from or to without the processor, and the end of its last copy.
struct Staging<T> {
    memory: PinnedHostSlice<T>,
    copied: CudaEvent,
}

impl<T: ValidAsZeroBits + DeviceRepr> Staging<T> {
    /// The first `count` values of what `slot` holds, which grows to have them; no copy is under way.
    fn room<'a>(
        slot: &'a mut Option<Self>,
        count: usize,
        flags: u32,
        context: &Arc<CudaContext>,
    ) -> Result<&'a mut Self> {
        let fits = slot.as_ref().is_some_and(|held| held.memory.len() >= count && held.memory.context() == context);
        if let Some(held) = slot.as_ref() {
            held.copied.synchronize().map_err(driver_error)?;
        }
        if !fits {
            // SAFETY: any bytes are a value, and only what was written is read.
            let memory = unsafe { context.alloc_pinned_with_flags(count.next_power_of_two(), flags) };
            let copied = context.new_event(Some(CUevent_flags::CU_EVENT_BLOCKING_SYNC)).map_err(driver_error)?;
            *slot = Some(Self { memory: memory.map_err(driver_error)?, copied });
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

/// See [`upload`](crate::ops::device::upload).
pub(in crate::ops::device) fn upload(values: &[u32], device: &CudaDevice) -> Result<Tensor> {
    let stream = device.cuda_stream();
    let out = allocate(device, &[values.len()], DType::U32)?;
    if values.is_empty() {
        return Ok(out);
    }
    UP.with_borrow_mut(|(next, slots)| {
        let slot = &mut slots[*next];
        *next = (*next + 1) % COPIES_UNDER_WAY;
        let staging = Staging::room(slot, values.len(), CU_MEMHOSTALLOC_WRITECOMBINED, stream.context())?;
        let memory = &mut staging.memory.as_mut_slice().map_err(driver_error)?[..values.len()];
        memory.copy_from_slice(values);
        // SAFETY: the memory is not changed before the copy's end is waited for, and the tensor has as many values.
        unsafe { result::memcpy_htod_async(address(&out)?.0, memory, stream.cu_stream()) }.map_err(driver_error)?;
        staging.copied.record(&stream).map_err(driver_error)
    })?;
    Ok(out)
}

/// See [`download`](crate::ops::device::download).
pub(in crate::ops::device) fn download<T: Staged + WithDType>(x: &Tensor, device: &CudaDevice) -> Result<Vec<T>> {
    let (stream, count) = (device.cuda_stream(), x.elem_count());
    if count == 0 {
        return Ok(Vec::new());
    }
    if x.dtype() != T::DTYPE {
        bail!("{:?} is not copied to the host as {:?}", x.dtype(), T::DTYPE);
    }
    // Whoever takes the rows need not have computed them.
    stream.context().bind_to_thread().map_err(driver_error)?;
    DOWN.with_borrow_mut(|slot| {
        let staging = Staging::room(slot, count, 0, stream.context())?;
        let memory = &mut staging.memory.as_mut_slice().map_err(driver_error)?[..count];
        // SAFETY: the tensor has as many values, and the memory is read after the copy's end.
        unsafe { result::memcpy_dtoh_async(memory, address(x)?.0, stream.cu_stream()) }.map_err(driver_error)?;
        staging.copied.record(&stream).map_err(driver_error)?;
        staging.copied.synchronize().map_err(driver_error)?;
        Ok(memory.iter().map(|bits| T::of_bits(*bits)).collect())
    })
}
