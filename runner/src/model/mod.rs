//! Dense encoders: open the folder, check it, build the encoder; then encode batches and pool them.

mod bert;
mod error;
mod folder;
mod pooling;
mod weights;

use std::path::Path;

use candle_core::{Device, Tensor};

use self::{bert::Bert, folder::ModelFolder, pooling::l2_normalize, weights::Weights};
pub use self::{
    error::ModelError,
    pooling::{Pooling, UnsupportedPooling},
};
use crate::{
    batch::Rows,
    text::{Tokenizer, Tokens},
};

/// What overrides the model folder.
#[derive(Clone, Debug, Default)]
pub struct DenseOptions {
    /// The pooling; that of the folder when not given.
    pub pooling: Option<Pooling>,
    /// The longest sequence in tokens, special tokens included; a lower limit of the folder still holds.
    pub max_tokens: Option<usize>,
    /// Whether vectors are scaled to length 1; as the folder has it when not given.
    pub normalize: Option<bool>,
}

/// A dense encoder on a device, with its tokenizer.
pub struct DenseModel {
    name: String,
    digest: String,
    dimensions: usize,
    pooling: Pooling,
    normalize: bool,
    tokenizer: Tokenizer,
    encoder: Bert,
    device: Device,
}

impl DenseModel {
    /// Loads the model in `dir`; `name` is what errors and records call it.
    ///
    /// # Errors
    /// If anything in the folder is missing, not supported or does not fit together; nothing is guessed.
    pub fn load(name: &str, dir: &Path, options: &DenseOptions, device: &Device) -> Result<Self, ModelError> {
        let folder = ModelFolder::open(name, dir)?;
        let pooling = options.pooling.map_or_else(|| folder.pooling(), Ok)?;
        let tokenizer = open_tokenizer(&folder, options.max_tokens)?;
        let weights = Weights::read(name, &folder.weights()?)?;
        let tensors = weights.load(&folder.config.tensors(), device)?;
        let encoder = Bert::new(&folder.config, tensors, device).map_err(|error| ModelError::device(name, error))?;
        Ok(Self {
            name: name.to_owned(),
            digest: weights.digest().to_owned(),
            dimensions: folder.config.hidden_size,
            pooling,
            normalize: options.normalize.unwrap_or(folder.normalize),
            tokenizer,
            encoder,
            device: device.clone(),
        })
    }

    /// The name that the model was loaded under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The sha256 of the weights file, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The width of a vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// How token vectors become one vector.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// The longest sequence in tokens, special tokens included.
    pub fn max_tokens(&self) -> usize {
        self.tokenizer.max_tokens()
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Where the model is.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Encodes one batch: row N out is row N in. The rows are padded to the longest and the padding is masked, so
    /// that a row's vector does not depend, beyond rounding, on what else is in the batch.
    ///
    /// # Errors
    /// If the device fails, or a vector has a value that is not finite; the error names its row.
    pub fn embed(&self, rows: &[&Tokens]) -> Result<Rows, ModelError> {
        if rows.is_empty() {
            return Ok(Rows::new(self.dimensions, Vec::new()));
        }
        let values = self.forward(rows).map_err(|error| ModelError::device(&self.name, error))?;
        let vectors = Rows::new(self.dimensions, values);
        let broken = vectors.iter().position(|vector| !vector.iter().all(|value| value.is_finite()));
        match broken {
            Some(row) => Err(ModelError::NotFinite { model: self.name.clone(), row }),
            None => Ok(vectors),
        }
    }

    fn forward(&self, rows: &[&Tokens]) -> candle_core::Result<Vec<f32>> {
        let (ids, mask) = pad(rows);
        let shape = (rows.len(), ids.len() / rows.len());
        let ids = Tensor::from_vec(ids, shape, &self.device)?;
        let mask = Tensor::from_vec(mask, shape, &self.device)?;
        let hidden = self.encoder.forward(&ids, &mask)?;
        let vectors = self.pooling.apply(&hidden, &mask)?;
        let vectors = if self.normalize { l2_normalize(&vectors)? } else { vectors };
        vectors.flatten_all()?.to_vec1()
    }
}

fn open_tokenizer(folder: &ModelFolder, max_tokens: Option<usize>) -> Result<Tokenizer, ModelError> {
    let file = folder.tokenizer()?;
    let max_tokens = max_tokens.map_or(folder.max_tokens, |asked| asked.min(folder.max_tokens));
    let tokenizer = Tokenizer::open(&file, max_tokens).map_err(|source| ModelError::tokenizer(&folder.name, source))?;
    let (vocabulary, embedding) = (tokenizer.vocabulary(), folder.config.vocab_size);
    if vocabulary > embedding {
        return Err(ModelError::Vocabulary { model: folder.name.clone(), file, tokenizer: vocabulary, embedding });
    }
    Ok(tokenizer)
}

/// The ids and the mask (1 for a token, 0 for padding) of a batch, each rows × longest row. What id stands in the
/// padding does not matter: it is masked.
fn pad(rows: &[&Tokens]) -> (Vec<u32>, Vec<f32>) {
    let width = rows.iter().map(|row| row.ids.len()).max().unwrap_or(0).max(1);
    let (mut ids, mut mask) = (vec![0; rows.len() * width], vec![0.0; rows.len() * width]);
    for (row, start) in rows.iter().zip((0..).step_by(width)) {
        ids[start..][..row.ids.len()].copy_from_slice(&row.ids);
        mask[start..][..row.ids.len()].fill(1.0);
    }
    (ids, mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_padded_to_the_longest_and_masked() {
        let tokens = |ids: &[u32]| Tokens { ids: ids.to_vec(), lost: 0 };
        let (ids, mask) = pad(&[&tokens(&[1, 2]), &tokens(&[3, 4, 5])]);
        assert_eq!(ids, [1, 2, 0, 3, 4, 5]);
        assert_eq!(mask, [1.0, 1.0, 0.0, 1.0, 1.0, 1.0]);
    }
}
