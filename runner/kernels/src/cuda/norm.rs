//! Sums of hidden states, and their normalisation.

use super::{Address, Argument, Element, Launch};

/// The widest row: 512 threads with 16 values each.
pub const MOST_WIDTH: usize = 8192;
/// Threads of a block whose warps have a row each.
const THREADS: usize = 128;
const WARP: usize = 32;

/// What is subtracted and divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// (x - mean) / √(variance + ε).
    Layer = 1,
    /// x / √(mean of squares + ε).
    Rms = 2,
}

/// A normalisation over the columns of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// What is subtracted and divided by.
    pub kind: Kind,
    /// Added to the variance, or to the mean of squares.
    pub epsilon: f32,
    /// f32 `[width]`, multiplied.
    pub weight: Address,
    /// f32 `[width]`, added; or absent.
    pub bias: Address,
}

/// Rows of `groups⋅width` columns that are normalised `width` at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// The number of rows.
    pub count: usize,
    /// The columns that are normalised together, at most [`MOST_WIDTH`].
    pub width: usize,
    /// How often they are in a row, one after another.
    pub groups: usize,
    /// Values from the start of a row to that of the next; at least `groups⋅width`.
    pub stride: usize,
}

impl Rows {
    /// Rows that are normalised as they are.
    pub fn whole(count: usize, width: usize) -> Self {
        Self { count, width, groups: 1, stride: width }
    }
}

/// What is normalised, all of the same rows and, but for `bias`, of the element's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summands {
    /// The rows.
    pub x: Address,
    /// f32 `[groups⋅width]`, of the linear layer that made them; or absent.
    pub bias: Address,
    /// Other rows; or absent.
    pub residual: Address,
}

/// What is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outputs {
    /// Added to what is normalised; or absent.
    pub added: Address,
    /// The summands' sum, rounded; or absent. Not where `added` is.
    pub sum: Address,
    /// The normalised rows, with `added`.
    pub out: Address,
}

/// `out` = norm(`x` + `bias` + `residual`) + `added`, and `sum` = `x` + `bias` + `residual`. The sum that is normalised
/// is not rounded. Outputs may be where inputs are. `None` if there are no rows.
///
/// # Panics
/// If a row is empty or too wide, rows overlap, or there are 2³¹ groups or more.
pub fn norm(element: Element, norm: Norm, rows: Rows, summands: Summands, outputs: Outputs) -> Option<Launch> {
    let Rows { count, width, groups, stride } = rows;
    assert!(groups > 0 && stride >= groups * width, "rows side by side");
    let Summands { x, bias, residual } = summands;
    let Outputs { added, sum, out } = outputs;
    let addresses = [x, bias, residual, added, norm.weight, norm.bias, sum, out];
    let vectors = stride.is_multiple_of(vector(element)) && addresses.iter().all(|address| address.is_aligned_to(16));
    let mut arguments: Vec<Argument> = addresses.map(Argument::from).to_vec();
    let rows = count * groups;
    arguments.extend([
        count_argument(rows),
        (width as i32).into(),
        (groups as i32).into(),
        (stride as i64).into(),
        (norm.kind as i32).into(),
        norm.epsilon.into(),
    ]);
    Team::of(element, width, vectors).launch("norm", element, rows, arguments)
}

/// The threads that have a row in their registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Team {
    form: &'static str,
    threads: usize,
}

impl Team {
    /// For rows of `width`; `vectors`: whether they may be read and written as vectors, as far as their width allows
    /// it.
    ///
    /// # Panics
    /// If a row is empty or too wide.
    pub(super) fn of(element: Element, width: usize, vectors: bool) -> Self {
        assert!((1..=MOST_WIDTH).contains(&width), "rows of 1 to {MOST_WIDTH} columns");
        let threads = |values: usize| width.div_ceil(values).next_multiple_of(WARP);
        if !(vectors && width.is_multiple_of(vector(element))) {
            return Self { form: "values_16", threads: threads(16) };
        }
        let forms = [("vectors_8", 8), ("vectors_16", 16), ("vectors_32", 32)];
        let in_warp = forms.iter().find(|(_, values)| threads(*values) == WARP);
        let (form, values) = in_warp.unwrap_or(&forms[1]);
        Self { form, threads: threads(*values) }
    }

    /// A launch for so many rows, of a kernel named as its source is; `None` if there are none.
    pub(super) fn launch(
        self,
        kernel: &'static str,
        element: Element,
        rows: usize,
        arguments: Vec<Argument>,
    ) -> Option<Launch> {
        let together = if self.threads == WARP { THREADS / WARP } else { 1 };
        (rows > 0).then(|| Launch {
            source: kernel,
            kernel: format!("{kernel}_{}_{}", self.form, element.suffix()),
            grid: [rows.div_ceil(together) as u32, 1, 1],
            block: [self.threads as u32, together as u32, 1],
            shared_bytes: 0,
            arguments,
        })
    }
}

/// The values of a vector.
pub(super) fn vector(element: Element) -> usize {
    16 / element.bytes()
}

/// A count of things that kernels number with 32 bits.
pub(super) fn count_argument(count: usize) -> Argument {
    i32::try_from(count).expect("fewer than 2^31").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_spread_over_as_few_threads_as_have_registers() {
        let team = |element, width, vectors| {
            let Team { form, threads } = Team::of(element, width, vectors);
            (form, threads)
        };
        assert_eq!(team(Element::F16, 64, true), ("vectors_8", 32));
        assert_eq!(team(Element::F16, 384, true), ("vectors_16", 32));
        assert_eq!(team(Element::F32, 1024, true), ("vectors_32", 32));
        assert_eq!(team(Element::Bf16, 1032, true), ("vectors_16", 96));
        assert_eq!(team(Element::F16, 4096, true), ("vectors_16", 256));
        assert_eq!(team(Element::F16, MOST_WIDTH, true), ("vectors_16", 512));
        assert_eq!(team(Element::F16, 384, false), ("values_16", 32));
        assert_eq!(team(Element::F16, 513, true), ("values_16", 64));
        assert_eq!(team(Element::F16, 20, true), ("values_16", 32));
        assert_eq!(team(Element::F32, 20, true), ("vectors_8", 32));
        assert_eq!(team(Element::F32, MOST_WIDTH, false), ("values_16", 512));
    }

    #[test]
    fn no_rows_are_no_launch() {
        let parameters = Norm { kind: Kind::Rms, epsilon: 0.0, weight: Address(256), bias: Address::ABSENT };
        let summands = Summands { x: Address(512), bias: Address::ABSENT, residual: Address::ABSENT };
        let outputs = Outputs { added: Address::ABSENT, sum: Address::ABSENT, out: Address(512) };
        let launch = |count| norm(Element::F16, parameters, Rows::whole(count, 20), summands, outputs);
        assert_eq!(launch(0), None);
        assert_eq!(launch(9).map(|launch| (launch.grid, launch.block)), Some(([3, 1, 1], [32, 4, 1])));
    }
}
