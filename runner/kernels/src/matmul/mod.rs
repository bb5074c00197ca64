//! The matrix product: rows of activations times a matrix that is packed once.
//!
//! The columns of the packed matrix are cut into panels as wide as a few vector registers, each panel stored depth
//! first and padded with zeros. A tile of [`TILE_ROWS`] rows times one panel is summed up in registers; the loops
//! around it keep a panel in the first-level cache and a block of rows in the second. The layout is that of BLIS
//! (Van Zee and van de Geijn, 2015) without the packing of the activations: their rows are read in place.

mod blocking;
mod largest;
mod operands;
mod packed;
mod product;
mod tile;
mod transpose;

pub use self::{
    blocking::{BLOCK_ROWS, TILE_ROWS},
    largest::largest_product,
    operands::{Epilogue, Rows},
    packed::Packed,
    product::{SubMatrix, product, product_with_submatrix},
};
