//! Activations, gated activations and sums over rows.

use crate::activation::Activation;

use super::{
    element::Element,
    launch::{Address, Argument, Launch},
    row_access::RowAccess,
};

/// The half of the columns that is activated. The other half is multiplied with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// act(first) * second.
    First,
    /// first * act(second).
    Second,
}

/// `out` = act(`x` + `bias` + `residual`), all `[rows, width]` of the element's type except the `bias`, f32 `[width]`.
/// Bias and residual may be absent, `out` may be the same array as an input. `None` if there are no values.
///
/// # Panics
/// If there are 2³¹ rows or more.
pub fn activate(
    element: Element,
    activation: Activation,
    [rows, width]: [usize; 2],
    x: Address,
    bias: Address,
    residual: Address,
    out: Address,
) -> Option<Launch> {
    let arguments = vec![
        x.into(),
        bias.into(),
        residual.into(),
        out.into(),
        Argument::count(rows),
        (width as i32).into(),
        (activation as i32).into(),
    ];
    RowThreads::of(element, width, &[x, bias, residual, out]).launch("activation", rows, arguments)
}

/// `out` = `x` + `bias` + `residual`. Same shapes and panics as [`activate`].
pub fn add(
    element: Element,
    shape: [usize; 2],
    x: Address,
    bias: Address,
    residual: Address,
    out: Address,
) -> Option<Launch> {
    activate(element, Activation::Identity, shape, x, bias, residual, out)
}

/// `out` `[rows, width]` = the product of the halves of `x` + `bias`, one of them activated. `x` is `[rows, 2⋅width]`, the
/// `bias` f32 `[2⋅width]` or absent. `None` if there are no values.
///
/// # Panics
/// If there are 2³¹ rows or more.
pub fn gate(
    element: Element,
    activation: Activation,
    gate: Gate,
    [rows, width]: [usize; 2],
    x: Address,
    bias: Address,
    out: Address,
) -> Option<Launch> {
    let arguments = vec![
        x.into(),
        bias.into(),
        out.into(),
        Argument::count(rows),
        (width as i32).into(),
        (activation as i32).into(),
        (gate as i32).into(),
    ];
    RowThreads::of(element, width, &[x, bias, out]).launch("gate", rows, arguments)
}

/// The threads of a block over rows: each thread processes chunks of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RowThreads {
    access: RowAccess,
    /// Threads per row, and rows per block.
    block: [usize; 2],
}

impl RowThreads {
    const THREADS: usize = 256;

    /// For rows of `width` values at these addresses.
    fn of(element: Element, width: usize, addresses: &[Address]) -> Self {
        let access = RowAccess::of(element, width, addresses);
        let chunks = access.chunks(width);
        let threads = if chunks == 0 { 0 } else { chunks.div_ceil(chunks.div_ceil(Self::THREADS)) };
        let rows = if chunks == 0 { 0 } else { Self::THREADS / threads };
        Self { access, block: [threads, rows] }
    }

    /// A launch for `rows` rows; `None` if there are no values.
    fn launch(self, kernel: &str, rows: usize, arguments: Vec<Argument>) -> Option<Launch> {
        let [threads, block_rows] = self.block;
        (rows > 0 && threads > 0).then(|| Launch {
            source: "activation",
            kernel: self.access.kernel(kernel),
            grid: [rows.div_ceil(block_rows) as u32, 1, 1],
            block: [threads as u32, block_rows as u32, 1],
            shared_bytes: 0,
            arguments,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_spread_over_columns_and_rows() {
        let block = |element, width| RowThreads::of(element, width, &[Address(256)]).block;
        assert_eq!(block(Element::F16, 384), [48, 5]);
        assert_eq!(block(Element::F16, 3072), [192, 1]);
        assert_eq!(block(Element::F32, 64), [16, 16]);
        assert_eq!(block(Element::F32, 33), [33, 7]);
        assert_eq!(block(Element::F16, 4097), [241, 1]);
        assert_eq!(RowThreads::of(Element::F16, 384, &[Address(264)]).block, [192, 1]);
    }

    #[test]
    fn no_values_give_no_launch() {
        for shape in [[0, 8], [8, 0]] {
            assert_eq!(add(Element::F16, shape, Address(256), Address::ABSENT, Address::ABSENT, Address(256)), None);
        }
    }
}
