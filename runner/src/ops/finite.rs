//! Checks that computed values are finite.

use candle_core::{DType, Result, Tensor};
use kernels::cuda;

use super::device;

/// Whether all values of a row are finite, for each row of `x`, `[rows, width]`.
pub fn finite_rows(x: &Tensor) -> Result<Vec<bool>> {
    let flags: Vec<u32> = if let Some(mut machine) = device::machine(x) {
        let (rows, width) = x.dims2()?;
        let (input, flags) = (machine.input(x)?, machine.output(&[rows], DType::U32)?);
        machine.launch(cuda::pooling::finite(device::element(x.dtype())?, [rows, width], input, flags))?;
        device::download(&machine.take(flags)?)?
    } else {
        // A sum is finite only if all values are; hidden states are too small for a sum to overflow.
        x.to_dtype(DType::F32)?.sum(1)?.abs()?.lt(f32::MAX)?.to_dtype(DType::U32)?.to_vec1()?
    };
    Ok(flags.into_iter().map(|flag| flag != 0).collect())
}
