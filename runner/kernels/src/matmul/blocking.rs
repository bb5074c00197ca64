//! The sizes of the blocks that a product is cut into.

use pulp::{Simd, WithSimd};

use crate::simd::arch;

/// Rows of a register tile.
pub const TILE_ROWS: usize = 6;
/// Rows that share the panels of a matrix while they are in the second-level cache.
pub const BLOCK_ROWS: usize = 192;

/// Vectors in a row of a register tile: as many as fit the registers beside the other operands.
pub(super) const fn tile_vectors(registers: usize) -> usize {
    if registers >= 32 { 4 } else { 2 }
}

/// The width of a panel on this processor, in columns.
pub(super) fn panel_width() -> usize {
    struct Width;
    impl WithSimd for Width {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            tile_vectors(S::REGISTER_COUNT) * S::F32_LANES
        }
    }
    arch().dispatch(Width)
}
