//! Layer normalisation and root-mean-square normalisation of rows, after the sum with a bias and a residual.

use super::{Address, Element, Launch};

/// Rows of a block.
const ROWS: usize = 4;
/// Threads of a warp, which has a row.
const WARP: usize = 32;

/// A normalisation, but for the rows.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// The type of the rows.
    pub element: Element,
    /// Columns of a row.
    pub width: usize,
    /// f32 `[width]`, multiplied.
    pub weight: Address,
    /// f32 `[width]`, added; may be absent.
    pub bias: Address,
    /// Added to the variance.
    pub epsilon: f32,
    /// Whether the mean is subtracted (layer normalisation) or not (RMS normalisation).
    pub centre: bool,
}

/// What is normalised: x + bias + residual.
#[derive(Clone, Copy, Debug)]
pub struct Sum {
    /// `[rows, width]`.
    pub x: Address,
    /// f32 `[width]`; may be absent.
    pub bias: Address,
    /// `[rows, width]`; may be absent.
    pub residual: Address,
}

impl Norm {
    /// `out` (`[rows, width]`, which may be `x`) is the norm of the sum before it is rounded. The sum itself is written
    /// to `sum`, unless that is absent. `None` if there are no rows.
    pub fn launch(&self, of: Sum, rows: usize, out: Address, sum: Address) -> Option<Launch> {
        if rows == 0 || self.width == 0 {
            return None;
        }
        let blocks = u32::try_from(rows.div_ceil(ROWS)).expect("fewer than 2^32 blocks");
        let arguments = vec![
            of.x.into(),
            of.residual.into(),
            of.bias.into(),
            self.weight.into(),
            self.bias.into(),
            out.into(),
            sum.into(),
            (rows as i64).into(),
            (self.width as i32).into(),
            self.epsilon.into(),
            i32::from(self.centre).into(),
        ];
        Some(Launch::linear(format!("norm_{}", self.element.suffix()), blocks, (ROWS * WARP) as u32, arguments))
    }
}
