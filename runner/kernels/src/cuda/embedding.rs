//! Embeddings: rows of tables, gathered, summed and normalised.

use super::{
    element::Element,
    launch::{Address, Argument, Launch},
    norm::{Norm, RowTeam},
};

/// A table with the index of a row for each token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableLookup {
    /// `[entries, width]`, of the element's type.
    pub table: Address,
    /// u32 `[tokens]`: indices of rows. The caller guarantees that they are below the number of entries.
    pub indices: Address,
}

/// The embedding layer of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Embedding {
    /// The type of the tables and of the output.
    pub element: Element,
    /// The width of a row, at most [`super::norm::MAX_WIDTH`].
    pub width: usize,
    /// Word embeddings, by token id.
    pub words: TableLookup,
    /// Position embeddings, by position.
    pub positions: Option<TableLookup>,
    /// Token type embeddings, by token type.
    pub types: Option<TableLookup>,
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
        let absent = TableLookup { table: Address::ABSENT, indices: Address::ABSENT };
        let parts = [words, positions.unwrap_or(absent), types.unwrap_or(absent)];
        let norm_addresses = norm.map_or([Address::ABSENT; 2], |norm| [norm.weight, norm.bias]);
        let aligned = |address: Address| address.is_aligned_to(16);
        let all_aligned = parts.iter().all(|part| aligned(part.table)) && norm_addresses.iter().all(|at| aligned(*at));
        let mut arguments: Vec<Argument> =
            parts.iter().flat_map(|part| [part.table.into(), part.indices.into()]).collect();
        arguments.extend(norm_addresses.map(Argument::from));
        arguments.extend([
            out.into(),
            Argument::count(tokens),
            (width as i32).into(),
            scale.unwrap_or(1.0).into(),
            norm.map_or(0, |norm| norm.kind as i32).into(),
            norm.map_or(0.0, |norm| norm.epsilon).into(),
        ]);
        RowTeam::of(element, width, all_aligned && aligned(out)).launch("embedding", element, tokens, arguments)
    }
}
