//! Status codes of calls.

use std::ffi::c_int;

/// A status of the driver's interface (`CUresult`) other than success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode(pub c_int);

impl ErrorCode {
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

/// The result of a call before it is a status code.
pub type CallResult<T = ()> = Result<T, ErrorCode>;

/// The status code of a result, 0 on success.
pub fn status(result: CallResult) -> c_int {
    result.map_or_else(|code| code.0, |()| 0)
}

/// Symbols that the program links to and does not call.
macro_rules! not_supported {
    ($code:expr => $($name:ident),*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> c_int {
            eprintln!("emulated driver: {} is not implemented", stringify!($name));
            $code
        }
    )*};
}
pub(crate) use not_supported;
