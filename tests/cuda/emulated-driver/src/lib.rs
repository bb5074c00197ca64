//! The interface of the CUDA driver, cuBLASLt and NVML over the emulated kernels: the CUDA program runs on a machine
//! without a card.
//!
//! One library has the symbols of all of them. The runner's kernels run by the emulation; matrix products, and the few
//! kernels of candle that the program launches, are plain loops. A call runs its work before it returns, and a product
//! lets other threads in between its two halves.
//!
//! The cards are configured: their number, the memory of each, the memory that other processes use, and when a card
//! fails. Uses of the interface are checked: the current context, handles of one card in calls of another, memory that
//! was freed or never allocated, and writes next to it. Nothing shows about time, about work that overlaps, or about
//! what a real driver does beyond its documentation.
//!
//! | variable | meaning |
//! |---|---|
//! | `EMULATED_CARDS` | the memory of each card in bytes, separated by commas; by default one card of 16 GiB |
//! | `EMULATED_OTHERS` | bytes that other processes use on each card |
//! | `EMULATED_NO_POOLS` | if set, the driver does not support memory pools |
//! | `EMULATED_MIG` | if set, NVML reports the cards as MIG instances |
//! | `EMULATED_FAULT` | `CARD:LAUNCHES:CODE`: after this many launches, every call on that card fails with that code |
//! | `EMULATED_FAULT_ONCE` | a file: the card fails only in the process that creates it |
//! | `EMULATED_BLAS_FULL` | if set, cuBLASLt fails with INTERNAL_ERROR when the card is full |
//! | `EMULATED_REPORT` | a file to which the process appends a line of JSON about its cards when it ends |

// The program calls it with raw addresses, as it calls the driver.
#![allow(unsafe_code)]

mod candle;
mod card;
mod cublas_curand;
mod cublaslt;
mod driver;
mod driver_memory;
mod launch;
mod memory;
mod nvml;
mod product;
mod report;
mod status;
