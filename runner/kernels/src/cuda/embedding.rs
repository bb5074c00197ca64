//! Rows of embedding tables, gathered, summed and normalised.

use super::{
    Address, Argument, Element, Launch,
    norm::{Norm, Team, count_argument},
};

/// A table, and where each token's row is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// `[entries, width]`, of the element's type.
    pub table: Address,
    /// u32 `[tokens]`: indices of rows. That they are in the table is the caller's to know.
    pub indices: Address,
}

/// The embeddings of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Embedding {
    /// The type of the tables and of what is made.
    pub element: Element,
    /// The width of a row, at most [`super::norm::MOST_WIDTH`].
    pub width: usize,
    /// By token id.
    pub words: Part,
    /// By position.
    pub positions: Option<Part>,
    /// By token type.
    pub types: Option<Part>,
    /// Multiplied with the sum of the rows.
    pub scale: Option<f32>,
    /// Applied last.
    pub norm: Option<Norm>,
}

impl Embedding {
    /// `out` `[tokens, width]` = norm((word + position + type)⋅scale), rounded once. `None` if there are no tokens.
    ///
    /// # Panics
    /// If a row is empty or too wide, or there are 2³¹ tokens or more.
    pub fn launch(&self, tokens: usize, out: Address) -> Option<Launch> {
        let Self { element, width, words, positions, types, scale, norm } = *self;
        let absent = Part { table: Address::ABSENT, indices: Address::ABSENT };
        let parts = [words, positions.unwrap_or(absent), types.unwrap_or(absent)];
        let norm_addresses = norm.map_or([Address::ABSENT; 2], |norm| [norm.weight, norm.bias]);
        let aligned = |address: Address| address.is_aligned_to(16);
        let vectors = parts.iter().all(|part| aligned(part.table)) && norm_addresses.iter().all(|at| aligned(*at));
        let mut arguments: Vec<Argument> =
            parts.iter().flat_map(|part| [part.table.into(), part.indices.into()]).collect();
        arguments.extend(norm_addresses.map(Argument::from));
        arguments.extend([
            out.into(),
            count_argument(tokens),
            (width as i32).into(),
            scale.unwrap_or(1.0).into(),
            norm.map_or(0, |norm| norm.kind as i32).into(),
            norm.map_or(0.0, |norm| norm.epsilon).into(),
        ]);
        Team::of(element, width, vectors && aligned(out)).launch("embedding", element, tokens, arguments)
    }
}
