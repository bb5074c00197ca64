//! The epilogue of a function of a layer: the sum with the residual, then the norm.

use candle_core::{Result, Tensor};
use kernels::matmul::BLOCK_ROWS;

use super::{Norm, storage};

/// The steps that finish the rows of a function, while they are in the cache.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// The summand, of the same shape.
    pub residual: Option<&'a Tensor>,
    /// Applied to the sum.
    pub norm: Option<&'a Norm>,
}

impl<'a> Epilogue<'a> {
    /// The sum with a residual.
    pub fn sum(residual: &'a Tensor) -> Self {
        Self { residual: Some(residual), norm: None }
    }

    /// The sum with a residual, normalised.
    pub fn norm_of_sum(norm: &'a Norm, residual: &'a Tensor) -> Self {
        Self { residual: Some(residual), norm: Some(norm) }
    }

    /// The norm alone.
    pub fn norm(norm: &'a Norm) -> Self {
        Self { residual: None, norm: Some(norm) }
    }

    /// Fills `out`, rows of `columns` values, a block of rows at a time, and normalises each block while it is in the
    /// cache. `fill` gets the first row of a block, the number of its rows, its residual, which `fill` adds, and its part of `out`.
    pub(super) fn in_blocks(
        self,
        out: &mut [f32],
        columns: usize,
        mut fill: impl FnMut(usize, usize, Option<&[f32]>, &mut [f32]) -> Result<()>,
    ) -> Result<()> {
        let residual = self.residual.map(Tensor::storage_and_layout);
        let residual = residual.as_ref().map(|(storage, layout)| storage::slice(storage, layout)).transpose()?;
        for (block, out) in out.chunks_mut((BLOCK_ROWS * columns).max(1)).enumerate() {
            let first = block * BLOCK_ROWS;
            let residual = residual.map(|residual| &residual[first * columns..]);
            fill(first, out.len() / columns, residual, out)?;
            if let Some(norm) = self.norm {
                norm.normalise(out)?;
            }
        }
        Ok(())
    }

    /// Applies the epilogue to `y` with candle's operations.
    pub(super) fn portable(self, mut y: Tensor) -> Result<Tensor> {
        if let Some(residual) = self.residual {
            y = (y + residual)?;
        }
        self.norm.map_or(Ok(y.clone()), |norm| norm.portable(&y))
    }
}
