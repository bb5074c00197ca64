//! A weight matrix in 8-bit integers, quantized and packed once.

use aligned_vec::{AVec, ConstAlign};

#[cfg(target_arch = "x86_64")]
use super::x86;
use super::{
    dot::{GROUP, LARGEST, Portable, lanes},
    instructions::Instructions,
};
use crate::prefetch::LINE;

/// The largest depth for which no sum overflows 32 bits.
pub const LARGEST_DEPTH: usize = i32::MAX as usize / (LARGEST as usize * LARGEST as usize);

/// A matrix, depth × columns, in 8-bit integers and in panels for the instructions of this processor.
#[derive(Clone, Debug)]
pub struct PackedInt8 {
    pub(super) columns: usize,
    pub(super) depth: usize,
    pub(super) instructions: Instructions,
    /// Per panel and group of depth, [`GROUP`] weights of each of its columns, padded with zeros.
    pub(super) panels: AVec<i8, ConstAlign<LINE>>,
    /// The scale of each column.
    pub(super) scales: Vec<f32>,
    /// The sum of the quantized weights of each column.
    pub(super) sums: Vec<i32>,
}

impl PackedInt8 {
    /// Quantizes and packs the transpose of `rows` (columns × depth), as a linear layer stores its weight. The starts of
    /// two rows are `stride` values apart.
    ///
    /// # Panics
    /// If the depth is above [`LARGEST_DEPTH`].
    pub fn transposed(rows: &[f32], columns: usize, depth: usize, stride: usize) -> Self {
        let fastest = Instructions::available().next().unwrap_or(Instructions::Portable);
        Self::transposed_for(fastest, rows, columns, depth, stride)
    }

    pub(super) fn transposed_for(
        instructions: Instructions,
        rows: &[f32],
        columns: usize,
        depth: usize,
        stride: usize,
    ) -> Self {
        assert!(depth <= LARGEST_DEPTH, "sums of {depth} products overflow 32 bits");
        let width = panel_width(instructions);
        let panel_bytes = depth.div_ceil(GROUP) * GROUP * width;
        let mut panels = AVec::new(LINE);
        panels.resize(columns.div_ceil(width) * panel_bytes, 0);
        let (mut scales, mut sums) = (Vec::with_capacity(columns), Vec::with_capacity(columns));
        for column in 0..columns {
            let row = &rows[column * stride..][..depth];
            let scale = row.iter().fold(0.0, |largest: f32, weight| largest.max(weight.abs())) / f32::from(LARGEST);
            let panel = &mut panels[column / width * panel_bytes..][..panel_bytes];
            let mut sum = 0;
            for (at, weight) in row.iter().enumerate() {
                let quantized = if scale > 0.0 { (weight / scale).round() as i8 } else { 0 };
                panel[(at / GROUP * width + column % width) * GROUP + at % GROUP] = quantized;
                sum += i32::from(quantized);
            }
            scales.push(scale);
            sums.push(sum);
        }
        Self { columns, depth, instructions, panels, scales, sums }
    }

    /// The columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The depth, the length of the sums.
    pub fn depth(&self) -> usize {
        self.depth
    }
}

/// The width of a panel in columns: that of a register tile, as in [`crate::matmul`].
fn panel_width(instructions: Instructions) -> usize {
    match instructions {
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512Vnni(_) => 4 * lanes::<x86::Avx512Vnni>(),
        #[cfg(target_arch = "x86_64")]
        Instructions::AvxVnni(_) | Instructions::Avx2(_) => 2 * lanes::<pulp::x86::V3>(),
        Instructions::Portable => 2 * lanes::<Portable>(),
    }
}
