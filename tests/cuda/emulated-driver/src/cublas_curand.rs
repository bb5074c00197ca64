//! Handles of cuBLAS and cuRAND: candle creates them when it opens a card, and the program does not use them.

use std::ffi::c_int;

use crate::{
    cublaslt::{NOT_SUPPORTED, SUCCESS, create, destroy},
    driver::Stream,
    status::not_supported,
};

#[unsafe(no_mangle)]
extern "C" fn cublasCreate_v2(handle: *mut *mut u64) -> c_int {
    create(handle, 2)
}

#[unsafe(no_mangle)]
extern "C" fn cublasDestroy_v2(handle: *mut u64) -> c_int {
    destroy(handle)
}

#[unsafe(no_mangle)]
extern "C" fn cublasSetStream_v2(_: *mut u64, _: *const Stream) -> c_int {
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn curandCreateGenerator(generator: *mut *mut u64, _: c_int) -> c_int {
    create(generator, 3)
}

#[unsafe(no_mangle)]
extern "C" fn curandDestroyGenerator(generator: *mut u64) -> c_int {
    destroy(generator)
}

#[unsafe(no_mangle)]
extern "C" fn curandSetStream(_: *mut u64, _: *const Stream) -> c_int {
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn curandSetPseudoRandomGeneratorSeed(_: *mut u64, _: u64) -> c_int {
    SUCCESS
}

not_supported!(NOT_SUPPORTED => cublasDgemmStridedBatched, cublasGemmStridedBatchedEx);
