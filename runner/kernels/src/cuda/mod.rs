//! What to launch on a CUDA device for each operation: the name of the kernel, grid, block and arguments.
//!
//! Nothing here needs CUDA. The sources of the kernels are in `cuda/` of this crate; the tests run them by an emulation
//! on the CPU, the runner by the driver, both from the same [`Launch`].
//!
//! A builder that has nothing to do returns `None`: a launch never has an empty grid.

use std::ffi::c_void;

pub mod activation;
pub mod attention;
#[cfg(feature = "cuda")]
pub mod driver;
pub mod embedding;
pub mod norm;
pub mod pooling;
pub mod rotary;
pub mod top_k;
pub mod vocabulary;

/// The kernels, compiled: the name of a source and its image for the driver.
#[cfg(feature = "cuda")]
pub const FATBINS: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/fatbins.rs"));

/// An address in the memory of the device; 0 for what is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(pub u64);

impl Address {
    /// The null pointer.
    pub const ABSENT: Self = Self(0);

    /// Whether this is not the null pointer.
    pub fn is_present(self) -> bool {
        self != Self::ABSENT
    }

    /// Whether vectors of `bytes` may be loaded from here.
    pub fn is_aligned_to(self, bytes: u64) -> bool {
        self.0.is_multiple_of(bytes)
    }
}

/// The type of the values of activations and weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// Single precision.
    F32,
    /// Half precision.
    F16,
    /// The upper half of single precision.
    Bf16,
}

impl Element {
    /// What the names of kernels for this type end with.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// The size of a value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Argument {
    /// A pointer.
    Address(Address),
    /// An `int`.
    I32(i32),
    /// A `long long`.
    I64(i64),
    /// A `float`.
    F32(f32),
}

impl Argument {
    /// Where the value is: what the driver takes for each parameter of a kernel.
    fn pointer(&self) -> *const c_void {
        match self {
            Self::Address(Address(value)) => std::ptr::from_ref(value).cast(),
            Self::I32(value) => std::ptr::from_ref(value).cast(),
            Self::I64(value) => std::ptr::from_ref(value).cast(),
            Self::F32(value) => std::ptr::from_ref(value).cast(),
        }
    }
}

impl From<Address> for Argument {
    fn from(value: Address) -> Self {
        Self::Address(value)
    }
}

impl From<i32> for Argument {
    fn from(value: i32) -> Self {
        Self::I32(value)
    }
}

impl From<i64> for Argument {
    fn from(value: i64) -> Self {
        Self::I64(value)
    }
}

impl From<f32> for Argument {
    fn from(value: f32) -> Self {
        Self::F32(value)
    }
}

/// One launch of a kernel: what a driver needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// The file of `cuda/` that has the kernel, without its ending. The driver has a module for each.
    pub source: &'static str,
    /// The name of the kernel.
    pub kernel: String,
    /// Blocks in x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block in x, y and z.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block. Above [`Launch::SHARED_BYTES_BY_DEFAULT`] the driver has to be asked for it.
    pub shared_bytes: u32,
    /// In the order of the kernel's parameters.
    pub arguments: Vec<Argument>,
}

impl Launch {
    /// The dynamic shared memory that every kernel may have.
    pub const SHARED_BYTES_BY_DEFAULT: u32 = 48 * 1024;

    /// A launch in one dimension.
    pub fn linear(source: &'static str, kernel: String, blocks: u32, threads: u32, arguments: Vec<Argument>) -> Self {
        Self { source, kernel, grid: [blocks, 1, 1], block: [threads, 1, 1], shared_bytes: 0, arguments }
    }

    /// `kernelParams` of `cuLaunchKernel`: the address of each argument's value. They point into `self`.
    pub fn parameters(&self) -> Vec<*const c_void> {
        self.arguments.iter().map(Argument::pointer).collect()
    }
}
