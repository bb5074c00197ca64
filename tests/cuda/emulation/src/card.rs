//! The first card of the machine, in place of the emulation: the same tests show there that the kernels are right.

use std::sync::{Arc, LazyLock};

use cudarc::driver::{CudaContext, result};
use kernels::cuda::{Launch, driver::Kernels};

struct Card {
    context: Arc<CudaContext>,
    kernels: Kernels,
}

static CARD: LazyLock<Card> = LazyLock::new(|| {
    let context = CudaContext::new(0).expect("a card");
    Card { kernels: Kernels::load(context.default_stream()).expect("kernels for the card"), context }
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
    let kernels = &card().kernels;
    // SAFETY: the emulation has compared the arguments of these tests with the kernels' parameters, and the launch is
    // waited for.
    unsafe { kernels.launch(launch) }.map_err(|error| error.to_string())?;
    kernels.stream().synchronize().map_err(|error| format!("{}: {error}", launch.kernel))
}
