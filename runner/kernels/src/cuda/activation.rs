//! Activations of rows after the sum with a bias, plain and gated.

use super::{Address, Argument, Element, Launch};
use crate::Activation;

/// Threads of a block, each of which has as many columns as a vector of 16 bytes.
const THREADS: usize = 256;

/// The half of a gated layer's values that is activated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activated {
    /// The first.
    First,
    /// The second.
    Second,
}

/// Rows before and after their activation.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// The type of the values.
    pub element: Element,
    /// The rows.
    pub rows: usize,
    /// Columns of a row of the result.
    pub width: usize,
    /// What is activated, `[rows, width]`, or `[rows, 2⋅width]` where it is gated.
    pub x: Address,
    /// f32, as many as `x` has columns, added before; may be absent.
    pub bias: Address,
    /// The result, `[rows, width]`. Where nothing is gated it may be `x`.
    pub out: Address,
}

impl Rows {
    /// out = activation(x + bias). `None` if there is nothing.
    pub fn activate(&self, activation: Activation) -> Option<Launch> {
        self.launch("activation", vec![(activation as i32).into()])
    }

    /// out = activation(one half) * the other half of x + bias. `None` if there is nothing.
    pub fn gate(&self, activation: Activation, activated: Activated) -> Option<Launch> {
        let first = i32::from(activated == Activated::First);
        self.launch("gate", vec![(activation as i32).into(), first.into()])
    }

    fn launch(&self, kernel: &str, more: Vec<Argument>) -> Option<Launch> {
        let Self { element, rows, width, x, bias, out } = *self;
        let threads = rows * width.div_ceil(16 / element.bytes());
        if threads == 0 {
            return None;
        }
        let blocks = u32::try_from(threads.div_ceil(THREADS)).expect("fewer than 2^32 blocks");
        let mut arguments = vec![x.into(), bias.into(), out.into(), (rows as i64).into(), (width as i32).into()];
        arguments.extend(more);
        Some(Launch::linear(format!("{kernel}_{}", element.suffix()), blocks, THREADS as u32, arguments))
    }
}
