//! A launch of a kernel: its name, grid, block and arguments.

use std::ffi::c_void;

/// An address in device memory; 0 for an absent array.
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
    /// A count of items that kernels number with 32 bits.
    ///
    /// # Panics
    /// If the count is 2³¹ or more.
    pub(super) fn count(count: usize) -> Self {
        Self::I32(i32::try_from(count).expect("fewer than 2^31"))
    }

    /// The address of the value, which the driver expects for each parameter of a kernel.
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

/// One launch of a kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// The source file of the kernel in `cuda/`, without its extension. The driver has one module per source.
    pub source: &'static str,
    /// The name of the kernel.
    pub kernel: String,
    /// Blocks in x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block in x, y and z.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block. More than [`Launch::SHARED_BYTES_BY_DEFAULT`] has to be requested from the driver.
    pub shared_bytes: u32,
    /// In the order of the kernel's parameters.
    pub arguments: Vec<Argument>,
}

impl Launch {
    /// The dynamic shared memory that a kernel may use without a request to the driver.
    pub const SHARED_BYTES_BY_DEFAULT: u32 = 48 * 1024;

    /// A launch in one dimension, without dynamic shared memory.
    pub fn linear(source: &'static str, kernel: String, blocks: u32, threads: u32, arguments: Vec<Argument>) -> Self {
        Self { source, kernel, grid: [blocks, 1, 1], block: [threads, 1, 1], shared_bytes: 0, arguments }
    }

    /// `kernelParams` of `cuLaunchKernel`: the address of each argument's value. The pointers point into `self`.
    pub fn parameters(&self) -> Vec<*const c_void> {
        self.arguments.iter().map(Argument::pointer).collect()
    }
}
