//! Texts as a padded batch: what the runner never has.

use candle_core::{DType, Device, Tensor};
use runner::tokenizer::Tokens;

/// A batch that is padded on the right to its longest text.
pub struct Padded {
    /// Token ids [rows, longest].
    pub ids: Tensor,
    /// Token types [rows, longest].
    pub types: Tensor,
    /// 1 for a token and 0 for padding [rows, longest].
    pub mask: Tensor,
    /// The number of tokens of each row.
    pub lengths: Vec<usize>,
}

impl Padded {
    /// Pads `rows` with the token `padding`.
    pub fn new(rows: &[&Tokens], padding: u32) -> Self {
        let longest = rows.iter().map(|row| row.ids.len()).max().expect("a row");
        let fill = |of: &dyn Fn(&Tokens, usize) -> u32| {
            let cells = rows.iter().flat_map(|row| (0..longest).map(|at| of(row, at))).collect();
            Tensor::from_vec(cells, (rows.len(), longest), &Device::Cpu).expect("a batch")
        };
        Self {
            ids: fill(&|row, at| row.ids.get(at).copied().unwrap_or(padding)),
            types: fill(&|row, at| row.types.get(at).copied().unwrap_or(0)),
            mask: fill(&|row, at| u32::from(at < row.ids.len())),
            lengths: rows.iter().map(|row| row.ids.len()).collect(),
        }
    }

    /// 1 for padding, in the form [rows, 1, 1, longest].
    pub fn padding(&self) -> candle_core::Result<Tensor> {
        self.mask.eq(0u32)?.to_dtype(DType::U8)?.unsqueeze(1)?.unsqueeze(1)
    }
}
