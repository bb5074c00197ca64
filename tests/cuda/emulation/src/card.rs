//! The first card of the machine in place of the emulation: the same tests check the kernels there.

use std::sync::{Arc, LazyLock};

use cudarc::driver::{CudaContext, result};
use kernels::cuda::{Launch, driver::Kernels};

struct Card {
    context: Arc<CudaContext>,
    kernels: Kernels,
}

static CARD: LazyLock<Card> = LazyLock::new(|| {
    let context = CudaContext::new(0).expect("the machine has a card");
    Card { kernels: Kernels::load(context.default_stream()).expect("the kernels load on the card"), context }
});

/// The card, with its context current on this thread.
fn card() -> &'static Card {
    CARD.context.bind_to_thread().expect("the context becomes current");
    &CARD
}

/// Allocates `bytes` bytes of `value`; `bytes` is not 0.
pub fn allocate(bytes: usize, value: u8) -> usize {
    card();
    // SAFETY: every allocated byte is written.
    let address = unsafe {
        let address = result::malloc_sync(bytes).expect("the card has free memory");
        result::memset_d8_sync(address, value, bytes).expect("memory is written");
        address
    };
    usize::try_from(address).expect("an address of 64 bits")
}

/// Frees memory of [`allocate`].
pub fn free(address: usize, _: usize) {
    card();
    // SAFETY: it was allocated, and no launch is running.
    unsafe { result::free_sync(address as u64) }.expect("memory is freed");
}

/// Writes to allocated memory.
pub fn write(address: usize, bytes: &[u8]) {
    card();
    if !bytes.is_empty() {
        // SAFETY: the caller has allocated them.
        unsafe { result::memcpy_htod_sync(address as u64, bytes) }.expect("memory is written");
    }
}

/// Reads allocated memory.
pub fn read(address: usize, bytes: usize) -> Vec<u8> {
    card();
    let mut read = vec![0; bytes];
    if bytes > 0 {
        // SAFETY: the caller has allocated them.
        unsafe { result::memcpy_dtoh_sync(&mut read, address as u64) }.expect("memory is read");
    }
    read
}

/// Runs a launch to its end.
pub fn run(launch: &Launch) -> Result<(), String> {
    let kernels = &card().kernels;
    // SAFETY: the emulation has checked the arguments of these tests against the kernels' parameters, and the launch is
    // waited for.
    unsafe { kernels.launch(launch) }.map_err(|error| error.to_string())?;
    kernels.stream().synchronize().map_err(|error| format!("{}: {error}", launch.kernel))
}
