//! The matrix product in 8-bit integers: a weight matrix that is quantized and packed once, activations that are
//! quantized row by row during the product, and sums in 32-bit integers.
//!
//! A weight is `scale` ⋅ q with q in -127..=127 and a scale per column. An activation is `scale` ⋅ (q - `zero`) with q in
//! 0..=127, and scale and zero point per row (Jacob et al., 2018). A sum of products of the q is exact with every
//! instruction set. The sum of each column's weights, stored beside them, subtracts the zero point from it. The layout
//! is that of [`crate::matmul`], with four steps of depth of a column side by side, as the instructions of [`dot`]
//! expect them.

mod dot;
mod instructions;
mod packed;
mod product;
mod quantize;
mod tile;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use self::{
    packed::{LARGEST_DEPTH, PackedInt8},
    product::product,
};
