//! The transformer encoder that all architectures are made of: embeddings, layers, a last norm.
//!
//! An architecture's file reads a configuration and fills in these parts; the computation on the hidden states is the same
//! for all and is here. Hidden states are `[tokens, hidden]` of all sequences of a batch, one after another.

use candle_core::{Result, Tensor};

use crate::{
    ops::{Epilogue, FeedForward, Norm, SelfAttention, Sequences, Table, TokenSelection},
    tokenizer::Tokens,
};

/// The tokens of a packed batch.
#[derive(Clone, Debug)]
pub struct TokenBatch {
    /// The ids of all tokens.
    pub ids: Vec<u32>,
    /// The token types (segments) of all tokens.
    pub types: Vec<u32>,
    /// The bounds of the sequences.
    pub sequences: Sequences,
}

impl TokenBatch {
    /// Packs rows; each has at least one token.
    pub fn new(rows: &[&Tokens]) -> Self {
        let mut types = Vec::with_capacity(rows.iter().map(|row| row.ids.len()).sum());
        for row in rows {
            types.extend((0..row.ids.len()).map(|at| row.types.get(at).copied().unwrap_or(0)));
        }
        Self {
            ids: rows.iter().flat_map(|row| &row.ids).copied().collect(),
            types,
            sequences: Sequences::of_lengths(rows.iter().map(|row| row.ids.len())),
        }
    }
}

/// An encoder.
#[derive(Debug)]
pub struct Encoder {
    /// Compute the first hidden states from the ids.
    pub embeddings: Embeddings,
    /// The layers.
    pub layers: Vec<Layer>,
    /// Applied after the last layer.
    pub final_norm: Option<Norm>,
    /// The width of a hidden state.
    pub hidden_size: usize,
    /// Rows of the word embedding.
    pub vocabulary: usize,
    /// The longest supported sequence, in tokens.
    pub longest: usize,
}

impl Encoder {
    /// Estimated bytes per token during the computation: hidden states before and after a step, queries, keys, values and
    /// the result of attention, in f32.
    pub fn bytes_per_token(&self) -> u64 {
        10 * size_of::<f32>() as u64 * self.hidden_size as u64
    }

    /// The hidden states of the `selected` tokens after the last layer, `[selected tokens, hidden]`.
    pub fn forward(&self, batch: &TokenBatch, selected: TokenSelection) -> Result<Tensor> {
        let mut x = self.embeddings.forward(batch)?;
        let last = self.layers.len().saturating_sub(1);
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, &batch.sequences, if index == last { selected } else { TokenSelection::All })?;
        }
        match &self.final_norm {
            Some(norm) => norm.forward(&x),
            None => Ok(x),
        }
    }
}

/// Compute the first hidden states from the ids.
#[derive(Debug)]
pub struct Embeddings {
    /// By token id.
    pub words: Table,
    /// By position.
    pub positions: Option<Positions>,
    /// By token type.
    pub types: Option<Table>,
    /// Multiplied with the rows of `words`.
    pub scale: Option<f64>,
    /// Applied to the sum.
    pub norm: Option<Norm>,
}

/// Learned positions.
#[derive(Debug)]
pub struct Positions {
    /// By position plus offset.
    pub table: Table,
    /// The index of the first position.
    pub offset: usize,
    /// The id of a token that has the index before the first and consumes no position: RoBERTa's padding token, if it
    /// occurs in a text.
    pub skipped: Option<u32>,
}

impl Positions {
    fn indices(&self, batch: &TokenBatch) -> Vec<u32> {
        let mut indices = Vec::with_capacity(batch.ids.len());
        for range in batch.sequences.ranges() {
            let mut next = self.offset as u32;
            for id in &batch.ids[range] {
                if self.skipped == Some(*id) {
                    indices.push((self.offset as u32).saturating_sub(1));
                } else {
                    indices.push(next);
                    next += 1;
                }
            }
        }
        indices
    }
}

impl Embeddings {
    /// The words alone, without positions, types or norm.
    pub fn of_words(words: Table) -> Self {
        Self { words, positions: None, types: None, scale: None, norm: None }
    }

    fn forward(&self, batch: &TokenBatch) -> Result<Tensor> {
        let positions = self.positions.as_ref().map(|positions| (&positions.table, positions.indices(batch)));
        let mut parts = vec![(&self.words, &batch.ids[..])];
        if let Some((table, indices)) = &positions {
            parts.push((table, indices));
        }
        if let Some(types) = &self.types {
            parts.push((types, &batch.types));
        }
        Table::embed(&parts, self.scale, self.norm.as_ref())
    }
}

/// One layer.
#[derive(Debug)]
pub struct Layer {
    /// Mixes the tokens of a sequence.
    pub attention: SelfAttention,
    /// Transforms each token.
    pub feed_forward: FeedForward,
    /// The norms and their placement.
    pub norms: Norms,
}

/// The norms of a layer and their placement.
#[derive(Debug)]
pub enum Norms {
    /// After each sum: x ← norm(x + f(x)), as in the first transformer.
    Post {
        /// After the attention.
        attention: Norm,
        /// After the feed-forward network.
        feed_forward: Norm,
    },
    /// After each sum, with the input added a second time to the attention's normalised sum: JinaBERT for code.
    PostTwice {
        /// After the attention.
        attention: Norm,
        /// After the second sum.
        again: Norm,
        /// After the feed-forward network.
        feed_forward: Norm,
    },
    /// Before each function: x ← x + f(norm(x)).
    Pre {
        /// Before the attention; `None` if the embeddings are already normalised.
        attention: Option<Norm>,
        /// Before the feed-forward network.
        feed_forward: Norm,
    },
    /// Before and after each function: x ← x + norm(f(norm(x))).
    Around {
        /// Before and after the attention.
        attention: [Norm; 2],
        /// Before and after the feed-forward network.
        feed_forward: [Norm; 2],
    },
}

impl Layer {
    fn forward(&self, x: &Tensor, sequences: &Sequences, selected: TokenSelection) -> Result<Tensor> {
        let residual = selected.rows(x, sequences)?;
        match &self.norms {
            Norms::Post { attention, feed_forward } => {
                let epilogue = Epilogue::norm_of_sum(attention, &residual);
                let x = self.attention.forward(x, sequences, selected, epilogue)?;
                self.feed_forward.forward(&x, Epilogue::norm_of_sum(feed_forward, &x))
            }
            Norms::PostTwice { attention, again, feed_forward } => {
                let epilogue = Epilogue::norm_of_sum(attention, &residual);
                let attended = self.attention.forward(x, sequences, selected, epilogue)?;
                let x = again.forward(&(residual + attended)?)?;
                self.feed_forward.forward(&x, Epilogue::norm_of_sum(feed_forward, &x))
            }
            Norms::Pre { attention, feed_forward } => {
                let normalised = attention.as_ref().map_or_else(|| Ok(x.clone()), |norm| norm.forward(x))?;
                let x = self.attention.forward(&normalised, sequences, selected, Epilogue::sum(&residual))?;
                self.feed_forward.forward(&feed_forward.forward(&x)?, Epilogue::sum(&x))
            }
            Norms::Around { attention: [before_attention, after_attention], feed_forward: [before, after] } => {
                let normalised = before_attention.forward(x)?;
                let attended =
                    self.attention.forward(&normalised, sequences, selected, Epilogue::norm(after_attention))?;
                let x = (residual + attended)?;
                let fed = self.feed_forward.forward(&before.forward(&x)?, Epilogue::norm(after))?;
                x + fed
            }
        }
    }
}
