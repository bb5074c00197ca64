//! The operands of a product beside its packed matrix: rows of activations, and the epilogue.

use crate::activation::Activation;

/// `count` rows of activations, `stride` values apart.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// The values, from the first row on.
    pub values: &'a [f32],
    /// The number of rows.
    pub count: usize,
    /// Values from the start of a row to that of the next.
    pub stride: usize,
}

/// The operations on a sum before it is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// Added to every row.
    pub bias: Option<&'a [f32]>,
    /// `[rows, columns]`, added.
    pub residual: Option<&'a [f32]>,
    /// Applied last.
    pub activation: Option<Activation>,
}
