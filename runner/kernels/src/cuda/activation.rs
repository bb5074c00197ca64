//! Activations, gates and sums over rows.

use crate::Activation;

use super::{
    Address, Argument, Element, Launch,
    norm::{count_argument, vector},
};

/// The half of the columns that is activated; the other half is multiplied with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// act(first) * second.
    First,
    /// first * act(second).
    Second,
}

/// `out` = act(`x` + `bias` + `residual`), all `[rows, width]` of the element's type but for the `bias`, f32 `[width]`.
/// Bias and residual may be absent, `out` may be where an input is. `None` if there are no values.
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
        count_argument(rows),
        (width as i32).into(),
        (activation as i32).into(),
    ];
    Columns::of(element, width, &[x, bias, residual, out]).launch("activation", element, rows, arguments)
}

/// `out` = `x` + `bias` + `residual`; see [`activate`].
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

/// `out` `[rows, width]` of the halves of `x` + `bias`: `x` is `[rows, 2⋅width]`, the `bias` f32 `[2⋅width]` or absent.
/// `None` if there are no values.
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
        count_argument(rows),
        (width as i32).into(),
        (activation as i32).into(),
        (gate as i32).into(),
    ];
    Columns::of(element, width, &[x, bias, out]).launch("gate", element, rows, arguments)
}

/// The threads that go over rows chunk by chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    form: &'static str,
    /// Threads of a row, and rows of a block.
    block: [usize; 2],
}

impl Columns {
    const THREADS: usize = 256;

    /// For rows of `width` at these addresses.
    pub(super) fn of(element: Element, width: usize, addresses: &[Address]) -> Self {
        let vectors = width.is_multiple_of(vector(element)) && addresses.iter().all(|at| at.is_aligned_to(16));
        let chunks = if vectors { width / vector(element) } else { width };
        let threads = if chunks == 0 { 0 } else { chunks.div_ceil(chunks.div_ceil(Self::THREADS)) };
        let rows = if chunks == 0 { 0 } else { Self::THREADS / threads };
        Self { form: if vectors { "vectors" } else { "values" }, block: [threads, rows] }
    }

    /// A launch for so many rows; `None` if there are no values.
    pub(super) fn launch(
        self,
        kernel: &str,
        element: Element,
        rows: usize,
        arguments: Vec<Argument>,
    ) -> Option<Launch> {
        let [threads, together] = self.block;
        (rows > 0 && threads > 0).then(|| Launch {
            source: "activation",
            kernel: format!("{kernel}_{}_{}", self.form, element.suffix()),
            grid: [rows.div_ceil(together) as u32, 1, 1],
            block: [threads as u32, together as u32, 1],
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
        let block = |element, width| Columns::of(element, width, &[Address(256)]).block;
        assert_eq!(block(Element::F16, 384), [48, 5]);
        assert_eq!(block(Element::F16, 3072), [192, 1]);
        assert_eq!(block(Element::F32, 64), [16, 16]);
        assert_eq!(block(Element::F32, 33), [33, 7]);
        assert_eq!(block(Element::F16, 4097), [241, 1]);
        assert_eq!(Columns::of(Element::F16, 384, &[Address(264)]).block, [192, 1]);
    }

    #[test]
    fn no_values_are_no_launch() {
        for shape in [[0, 8], [8, 0]] {
            assert_eq!(add(Element::F16, shape, Address(256), Address::ABSENT, Address::ABSENT, Address(256)), None);
        }
    }
}
