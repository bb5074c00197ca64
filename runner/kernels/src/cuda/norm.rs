//! Sums of hidden states and their normalisation.

use super::{
    element::Element,
    launch::{Address, Argument, Launch},
};

/// The width of the widest row: 512 threads with 16 values each.
pub const MAX_WIDTH: usize = 8192;
/// Threads of a block in which each warp has a row of its own.
const THREADS: usize = 128;
const WARP: usize = 32;

/// The kind of a normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Layer normalisation, (x - mean) / √(variance + ε).
    Layer = 1,
    /// Root-mean-square normalisation, x / √(mean of squares + ε).
    Rms = 2,
}

/// A normalisation over the columns of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// Layer or root-mean-square normalisation.
    pub kind: Kind,
    /// Added to the variance, or to the mean of squares.
    pub epsilon: f32,
    /// f32 `[width]`, multiplied with the normalised values.
    pub weight: Address,
    /// f32 `[width]`, added last; or absent.
    pub bias: Address,
}

/// Rows of `groups⋅width` columns that are normalised `width` at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// The number of rows.
    pub count: usize,
    /// The columns that are normalised together, at most [`MAX_WIDTH`].
    pub width: usize,
    /// The number of such groups of columns in a row, one after another.
    pub groups: usize,
    /// Values from the start of a row to the start of the next; at least `groups⋅width`.
    pub stride: usize,
}

impl Rows {
    /// Contiguous rows of one group each.
    pub fn whole(count: usize, width: usize) -> Self {
        Self { count, width, groups: 1, stride: width }
    }
}

/// The arrays whose sum is normalised. All have the same rows, and all except `bias` the element's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summands {
    /// The hidden states.
    pub x: Address,
    /// f32 `[groups⋅width]`, the bias of the linear layer that computed `x`; or absent.
    pub bias: Address,
    /// The residual; or absent.
    pub residual: Address,
}

/// The outputs of a normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outputs {
    /// Added to the normalised rows; or absent.
    pub added: Address,
    /// The sum of the summands, rounded; or absent. Not the same array as `added`.
    pub sum: Address,
    /// The normalised rows plus `added`.
    pub out: Address,
}

/// `out` = norm(`x` + `bias` + `residual`) + `added`, and `sum` = `x` + `bias` + `residual`. The sum that is normalised
/// is not rounded. An output may be the same array as an input. `None` if there are no rows.
///
/// # Panics
/// If a row is empty or too wide, rows overlap, or there are 2³¹ groups or more.
pub fn norm(element: Element, norm: Norm, rows: Rows, summands: Summands, outputs: Outputs) -> Option<Launch> {
    let Rows { count, width, groups, stride } = rows;
    assert!(groups > 0 && stride >= groups * width, "rows do not overlap");
    let Summands { x, bias, residual } = summands;
    let Outputs { added, sum, out } = outputs;
    let addresses = [x, bias, residual, added, norm.weight, norm.bias, sum, out];
    let aligned =
        stride.is_multiple_of(element.vector_size()) && addresses.iter().all(|address| address.is_aligned_to(16));
    let mut arguments: Vec<Argument> = addresses.map(Argument::from).to_vec();
    let rows = count * groups;
    arguments.extend([
        Argument::count(rows),
        (width as i32).into(),
        (groups as i32).into(),
        (stride as i64).into(),
        (norm.kind as i32).into(),
        norm.epsilon.into(),
    ]);
    RowTeam::of(element, width, aligned).launch("norm", element, rows, arguments)
}

/// The threads that hold a row in their registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowTeam {
    form: &'static str,
    threads: usize,
}

impl RowTeam {
    /// For rows of `width` values. `aligned`: whether vectors can be read and written at the start of every row.
    ///
    /// # Panics
    /// If a row is empty or too wide.
    pub(super) fn of(element: Element, width: usize, aligned: bool) -> Self {
        assert!((1..=MAX_WIDTH).contains(&width), "a row has 1 to {MAX_WIDTH} columns");
        let threads = |values: usize| width.div_ceil(values).next_multiple_of(WARP);
        if !(aligned && width.is_multiple_of(element.vector_size())) {
            return Self { form: "values_16", threads: threads(16) };
        }
        let forms = [("vectors_8", 8), ("vectors_16", 16), ("vectors_32", 32)];
        let in_warp = forms.iter().find(|(_, values)| threads(*values) == WARP);
        let (form, values) = in_warp.unwrap_or(&forms[1]);
        Self { form, threads: threads(*values) }
    }

    /// A launch for `rows` rows of the kernel that is named like its source; `None` if there are no rows.
    pub(super) fn launch(
        self,
        kernel: &'static str,
        element: Element,
        rows: usize,
        arguments: Vec<Argument>,
    ) -> Option<Launch> {
        let block_rows = if self.threads == WARP { THREADS / WARP } else { 1 };
        (rows > 0).then(|| Launch {
            source: kernel,
            kernel: format!("{kernel}_{}_{}", self.form, element.suffix()),
            grid: [rows.div_ceil(block_rows) as u32, 1, 1],
            block: [self.threads as u32, block_rows as u32, 1],
            shared_bytes: 0,
            arguments,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_takes_as_few_threads_as_have_registers_for_it() {
        let team = |element, width, vectors| {
            let RowTeam { form, threads } = RowTeam::of(element, width, vectors);
            (form, threads)
        };
        assert_eq!(team(Element::F16, 64, true), ("vectors_8", 32));
        assert_eq!(team(Element::F16, 384, true), ("vectors_16", 32));
        assert_eq!(team(Element::F32, 1024, true), ("vectors_32", 32));
        assert_eq!(team(Element::Bf16, 1032, true), ("vectors_16", 96));
        assert_eq!(team(Element::F16, 4096, true), ("vectors_16", 256));
        assert_eq!(team(Element::F16, MAX_WIDTH, true), ("vectors_16", 512));
        assert_eq!(team(Element::F16, 384, false), ("values_16", 32));
        assert_eq!(team(Element::F16, 513, true), ("values_16", 64));
        assert_eq!(team(Element::F16, 20, true), ("values_16", 32));
        assert_eq!(team(Element::F32, 20, true), ("vectors_8", 32));
        assert_eq!(team(Element::F32, MAX_WIDTH, false), ("values_16", 512));
    }

    #[test]
    fn no_rows_give_no_launch() {
        let parameters = Norm { kind: Kind::Rms, epsilon: 0.0, weight: Address(256), bias: Address::ABSENT };
        let summands = Summands { x: Address(512), bias: Address::ABSENT, residual: Address::ABSENT };
        let outputs = Outputs { added: Address::ABSENT, sum: Address::ABSENT, out: Address(512) };
        let launch = |count| norm(Element::F16, parameters, Rows::whole(count, 20), summands, outputs);
        assert_eq!(launch(0), None);
        assert_eq!(launch(9).map(|launch| (launch.grid, launch.block)), Some(([3, 1, 1], [32, 4, 1])));
    }
}
