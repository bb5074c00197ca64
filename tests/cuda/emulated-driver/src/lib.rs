//! The interface of the CUDA driver, cuBLASLt and NVML over the emulated kernels: the CUDA program runs on a machine
//! without a card.
//!
//! One library has the symbols of all of them. The runner's kernels are those of the emulation; matrix products, and
//! the few kernels of candle that the program launches, are loops. A call is carried out before it returns, and a
//! product lets other threads in between its two halves. Made up are the cards: how many, how much memory each has,
//! what others hold of it, and when one fails. Checked is the use of the interface: current contexts, handles of one
//! card in calls of another, memory that is not there any more or never was, writes beside it. Nothing is said of
//! time, of work that overlaps, or of what a real driver does beyond its documentation.
//!
//! | variable | meaning |
//! |---|---|
//! | `EMULATED_CARDS` | the memory of each card in bytes, with commas; one of 16 GiB where it is not set |
//! | `EMULATED_OTHERS` | bytes that others hold on each card |
//! | `EMULATED_NO_POOLS` | where set, the driver has no pools of memory |
//! | `EMULATED_MIG` | where set, NVML knows the cards as instances of MIG |
//! | `EMULATED_FAULT` | `CARD:LAUNCHES:CODE`: after so many launches, every call on that card fails with that code |
//! | `EMULATED_FAULT_ONCE` | a file: the card fails only for the process that makes it |
//! | `EMULATED_BLAS_FULL` | where set, cuBLASLt says INTERNAL_ERROR in place of a lack of memory |
//! | `EMULATED_REPORT` | a file to which the process appends a line of JSON about its cards when it ends |

// It is called by addresses, as the driver is.
#![allow(unsafe_code)]

mod answer;
mod candle;
mod card;
mod cublaslt;
mod driver;
mod handles;
mod launch;
mod memory;
mod nvml;
mod product;
mod report;
mod transfer;
