//! Rows of embedding tables, gathered by index and summed, scaled, normalised.

use super::{Address, Argument, Element, Launch, norm::Norm};

/// Tokens of a block.
const ROWS: usize = 4;
/// Threads of a warp, which has a token.
const WARP: usize = 32;

/// A table and the row of it that each token has.
#[derive(Clone, Copy, Debug)]
pub struct Gathered {
    /// `[entries, width]` of the element's type; may be absent, but for the first table.
    pub table: Address,
    /// i32 `[tokens]`, each below the number of entries.
    pub indices: Address,
}

impl Gathered {
    /// No table.
    pub const NONE: Self = Self { table: Address::ABSENT, indices: Address::ABSENT };
}

/// The sum of a token's rows in up to three tables.
#[derive(Clone, Copy, Debug)]
pub struct Embedding {
    /// The type of the tables and of the sum.
    pub element: Element,
    /// Columns of a row.
    pub width: usize,
    /// Words, positions, types.
    pub tables: [Gathered; 3],
    /// Multiplied with the sum.
    pub scale: f32,
    /// Applied to the scaled sum; of the same element and width.
    pub norm: Option<Norm>,
}

impl Embedding {
    /// Writes `out`, `[tokens, width]`. `None` if there are no tokens.
    pub fn launch(&self, tokens: usize, out: Address) -> Option<Launch> {
        if tokens == 0 || self.width == 0 {
            return None;
        }
        let of_table = |Gathered { table, indices }: Gathered| [Argument::from(table), indices.into()];
        let mut arguments: Vec<Argument> = self.tables.into_iter().flat_map(of_table).collect();
        let absent = Norm {
            element: self.element,
            width: self.width,
            weight: Address::ABSENT,
            bias: Address::ABSENT,
            epsilon: 0.0,
            centre: false,
        };
        let norm = self.norm.unwrap_or(absent);
        arguments.extend([
            Argument::from(norm.weight),
            norm.bias.into(),
            out.into(),
            (tokens as i64).into(),
            (self.width as i32).into(),
            self.scale.into(),
            norm.epsilon.into(),
            i32::from(norm.centre).into(),
        ]);
        let blocks = u32::try_from(tokens.div_ceil(ROWS)).expect("fewer than 2^32 blocks");
        Some(Launch::linear(format!("embedding_{}", self.element.suffix()), blocks, (ROWS * WARP) as u32, arguments))
    }
}
