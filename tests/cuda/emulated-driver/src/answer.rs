//! What calls answer.

use std::ffi::c_int;

/// A code of the driver's interface that is no success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub c_int);

impl Code {
    pub const INVALID_VALUE: Self = Self(1);
    pub const OUT_OF_MEMORY: Self = Self(2);
    pub const NO_DEVICE: Self = Self(100);
    pub const INVALID_DEVICE: Self = Self(101);
    pub const INVALID_CONTEXT: Self = Self(201);
    pub const INVALID_HANDLE: Self = Self(400);
    pub const NOT_FOUND: Self = Self(500);
    pub const ILLEGAL_ADDRESS: Self = Self(700);
    pub const NOT_SUPPORTED: Self = Self(801);
}

/// What is to be done, or why it cannot be.
pub type Done<T = ()> = Result<T, Code>;

/// The code of what was done.
pub fn code(done: Done) -> c_int {
    done.map_or_else(|code| code.0, |()| 0)
}

/// Symbols that the program has and does not call.
macro_rules! not_supported {
    ($code:expr => $($name:ident),*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> c_int {
            eprintln!("emulated driver: {} is called", stringify!($name));
            $code
        }
    )*};
}
pub(crate) use not_supported;
