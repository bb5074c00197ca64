//! A dense encoder: computes one vector per text, through the modules of its folder.

use std::{num::NonZeroUsize, path::Path};

use candle_core::{DType, Device, Tensor};
use crds::v1alpha1::{Dtype, Similarity};

use super::{
    ModelError, Weights,
    folder::{ModelFolder, ModuleKind},
    head::projection::Projection,
    loading::{LoadedTransformer, open_tokenizer, tokenizer_digest},
    transformer::{Embeddings, Encoder, TokenBatch},
    weights::Tensors,
};
use crate::{
    ops::{Pooling, TokenSelection, device, l2_normalize},
    tokenizer::{SpecialTokens, Tokenizer, Tokens},
    vectors::Rows,
};

/// The similarities of dense vectors.
const SIMILARITIES: [Similarity; 4] =
    [Similarity::Cosine, Similarity::Dot, Similarity::Euclidean, Similarity::Manhattan];

/// Settings of a run that override those of the model folder.
#[derive(Clone, Debug)]
pub struct DenseOptions {
    /// The pooling; `None` uses that of the folder.
    pub pooling: Option<Pooling>,
    /// The longest sequence in tokens, special tokens included; a lower limit of the folder still applies.
    pub max_tokens: Option<usize>,
    /// Whether vectors are scaled to length 1; `None` follows the folder.
    pub normalize: Option<bool>,
    /// The width that vectors are truncated to before they are normalised again (Kusupati et al., 2022).
    pub dimensions: Option<usize>,
    /// The prompt before a document; `None` uses that of the folder, an empty text none.
    pub document_prompt: Option<String>,
    /// The prompt before a query; `None` uses that of the folder, an empty text none.
    pub query_prompt: Option<String>,
    /// The type of the weights. For the 16-bit floats, a CPU rounds the weights and computes in f32; 8-bit integers are
    /// supported on a CPU only.
    pub dtype: Dtype,
}

impl Default for DenseOptions {
    fn default() -> Self {
        Self {
            pooling: None,
            max_tokens: None,
            normalize: None,
            dimensions: None,
            document_prompt: None,
            query_prompt: None,
            dtype: Dtype::F32,
        }
    }
}

/// The role of a text in retrieval; each role has its own prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A text that is searched.
    Document,
    /// A text that searches.
    Query,
}

/// The text that precedes the texts of one side.
struct Prompt {
    text: Option<String>,
    /// The number of leading tokens that are not pooled.
    unpooled: usize,
}

/// A dense encoder on a device, with its tokenizer.
pub struct DenseEncoder {
    name: String,
    digest: String,
    tokenizer_digest: String,
    similarity: Similarity,
    dtype: Dtype,
    dimensions: usize,
    encoder: Encoder,
    pooling: Pooling,
    projections: Vec<Projection>,
    normalize: bool,
    /// The width that vectors are truncated to, if it is lower than the model's.
    truncated: Option<usize>,
    prompts: [Prompt; 2],
    tokenizer: Tokenizer,
    lower_case: bool,
    device: Device,
}

impl DenseEncoder {
    /// Loads the model in `dir`; errors and records call it `name`.
    ///
    /// # Errors
    /// If a part of the folder is missing, unsupported, or inconsistent with the rest; nothing is guessed.
    pub fn load(name: &str, dir: &Path, options: &DenseOptions, device: &Device) -> Result<Self, ModelError> {
        let folder = ModelFolder::open(name, dir)?;
        folder.modules.expect_chain(
            &[ModuleKind::Transformer, ModuleKind::StaticEmbedding],
            &[ModuleKind::Pooling, ModuleKind::Dense, ModuleKind::Normalize],
        )?;
        let is_static = folder.modules.has(ModuleKind::StaticEmbedding);
        let pooling = match options.pooling {
            // The folder of a static embedding has no pooling module: the rows of its table are averaged.
            None if is_static => Pooling::Mean,
            Some(pooling) => pooling,
            None => folder.pooling()?,
        };
        let (encoder, digest, special_tokens) = if is_static {
            load_static_embedding(&folder, options.dtype, device)?
        } else {
            load_transformer(&folder, options.dtype, device)?
        };
        let projections: Vec<Projection> = folder
            .modules
            .of_kind(ModuleKind::Dense)
            .map(|module| Projection::load(&folder, &module.dir, options.dtype, device))
            .collect::<Result<_, _>>()?;
        let mut width = encoder.hidden_size;
        for projection in &projections {
            width = projection.check_input(width)?;
        }
        let tokenizer = open_tokenizer(&folder, &encoder, options.max_tokens, special_tokens)?;
        let similarity = folder.similarity(&SIMILARITIES)?.unwrap_or_default();
        let (pools_prompt, lower_case) = (folder.pools_prompt()?, folder.lower_case()?);
        let prompt = |of_run: &Option<String>, of_folder: Option<&str>| -> Result<Prompt, ModelError> {
            let text = of_run.as_deref().or(of_folder).filter(|prompt| !prompt.is_empty()).map(ToOwned::to_owned);
            let unpooled = match &text {
                Some(text) if !pools_prompt => {
                    let cased = if lower_case { &text.to_lowercase() } else { text };
                    tokenizer.leading_tokens(cased).map_err(|source| ModelError::tokenizer(name, source))?
                }
                _ => 0,
            };
            Ok(Prompt { text, unpooled })
        };
        if let Some(requested) = options.dimensions.filter(|requested| *requested == 0 || *requested > width) {
            return Err(ModelError::Dimensions { model: name.to_owned(), requested, width });
        }
        Ok(Self {
            name: name.to_owned(),
            digest,
            tokenizer_digest: tokenizer_digest(&folder)?,
            similarity,
            dtype: options.dtype,
            dimensions: options.dimensions.unwrap_or(width),
            pooling,
            projections,
            normalize: options.normalize.unwrap_or_else(|| folder.modules.has(ModuleKind::Normalize)),
            truncated: options.dimensions.filter(|requested| *requested < width),
            prompts: [
                prompt(&options.document_prompt, folder.prompts.document())?,
                prompt(&options.query_prompt, folder.prompts.query())?,
            ],
            tokenizer,
            lower_case,
            encoder,
            device: device.clone(),
        })
    }

    /// The name that the model was loaded under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The sha256 of the weights file, in hexadecimal; for several files, the sha256 of their concatenated digests.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The sha256 of the tokenizer's file, in hexadecimal.
    pub fn tokenizer_digest(&self) -> &str {
        &self.tokenizer_digest
    }

    /// The similarity that the model was made for.
    pub fn similarity(&self) -> Similarity {
        self.similarity
    }

    /// The type of the arithmetic.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The width of a vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// How token vectors become one vector.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// The prompt before a text of the side.
    pub fn prompt(&self, side: Side) -> Option<&str> {
        self.prompts[side as usize].text.as_deref()
    }

    /// The longest sequence in tokens, special tokens included.
    pub fn max_tokens(&self) -> usize {
        self.tokenizer.max_tokens()
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Estimated bytes that a token takes while its batch is computed.
    pub fn bytes_per_token(&self) -> u64 {
        self.encoder.bytes_per_token()
    }

    /// The device of the model.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The tokens of a text after the prompt of its side.
    ///
    /// # Errors
    /// If the text cannot be encoded, or has no token.
    pub fn encode(&self, text: &str, side: Side) -> Result<Tokens, ModelError> {
        let mut tokens = self.encode_batch(&[text], side, NonZeroUsize::MIN)?;
        Ok(tokens.pop().expect("a row per text"))
    }

    /// The tokens of texts in their order, with up to `threads` threads.
    ///
    /// # Errors
    /// Same as [`DenseEncoder::encode`]; the error names the text's row.
    pub fn encode_batch<T: AsRef<str> + Sync>(
        &self,
        texts: &[T],
        side: Side,
        threads: NonZeroUsize,
    ) -> Result<Vec<Tokens>, ModelError> {
        let prompt = self.prompt(side);
        let tokens = if prompt.is_none() && !self.lower_case {
            self.tokenizer.encode_batch(texts, threads)
        } else {
            let texts = texts.iter().map(|text| {
                let text = format!("{}{}", prompt.unwrap_or_default(), text.as_ref());
                if self.lower_case { text.to_lowercase() } else { text }
            });
            self.tokenizer.encode_batch(&texts.collect::<Vec<_>>(), threads)
        };
        let mut tokens = tokens.map_err(|source| ModelError::tokenizer(&self.name, source))?;
        let unpooled = self.prompts[side as usize].unpooled;
        for tokens in &mut tokens {
            tokens.unpooled = unpooled;
        }
        Ok(tokens)
    }

    /// Computes one batch: output row N belongs to input row N. The rows are packed without padding, so that a row's vector
    /// does not depend, beyond rounding, on the other rows of the batch.
    ///
    /// # Errors
    /// If the device fails, or a vector has a value that is not finite; the error names its row.
    pub fn embed(&self, rows: &[&Tokens]) -> Result<Rows, ModelError> {
        if rows.is_empty() {
            return Ok(Rows::new(self.dimensions, Vec::new()));
        }
        let values = self.forward(rows).map_err(|error| ModelError::device(&self.name, error))?;
        let vectors = Rows::new(self.dimensions, values);
        let not_finite = vectors.iter().position(|vector| !vector.iter().all(|value| value.is_finite()));
        match not_finite {
            Some(row) => Err(ModelError::NotFinite { model: self.name.clone(), row }),
            None => Ok(vectors),
        }
    }

    fn forward(&self, rows: &[&Tokens]) -> candle_core::Result<Vec<f32>> {
        let batch = TokenBatch::new(rows);
        let hidden = self.encoder.forward(&batch, self.pooling.reads())?;
        let skips = rows.iter().any(|row| row.unpooled > 0) && self.pooling.reads() == TokenSelection::All;
        // Without projections, pooling and normalisation are one kernel on a device, and only vectors are downloaded.
        let skipped: Option<Vec<u32>> = skips.then(|| rows.iter().map(|row| row.unpooled as u32).collect());
        let (dimensions, normalised) = if self.projections.is_empty() {
            (self.dimensions, self.normalize || self.truncated.is_some())
        } else {
            (self.encoder.hidden_size, false)
        };
        let on_device =
            self.pooling.forward_on_device(&hidden, &batch.sequences, skipped.as_deref(), dimensions, normalised)?;
        let mut vectors = match on_device {
            Some(vectors) if self.projections.is_empty() => return device::download(&vectors),
            Some(vectors) => vectors,
            None if skips => {
                let unpooled = rows.iter().map(|row| row.unpooled);
                let (hidden, sequences) = batch.sequences.without_leading(&hidden, unpooled)?;
                self.pooling.forward(&hidden, &sequences)?
            }
            None => self.pooling.forward(&hidden, &batch.sequences)?,
        };
        for projection in &self.projections {
            vectors = projection.forward(&vectors)?;
        }
        let mut vectors = vectors.to_dtype(DType::F32)?;
        if let Some(width) = self.truncated {
            vectors = l2_normalize(&vectors.narrow(1, 0, width)?.contiguous()?)?;
        } else if self.normalize {
            vectors = l2_normalize(&vectors)?;
        }
        device::download(&vectors)
    }
}

/// Loads an encoder of transformer layers: the encoder, the digest of its weights, and whether sequences need special tokens.
fn load_transformer(
    folder: &ModelFolder,
    dtype: Dtype,
    device: &Device,
) -> Result<(Encoder, String, SpecialTokens), ModelError> {
    let transformer = LoadedTransformer::load(folder, dtype, device)?;
    transformer.reject_unused()?;
    Ok((transformer.encoder, transformer.weights.digest().to_owned(), transformer.special_tokens))
}

/// Loads an embedding table as an encoder without layers; the results are those of [`load_transformer`].
fn load_static_embedding(
    folder: &ModelFolder,
    dtype: Dtype,
    device: &Device,
) -> Result<(Encoder, String, SpecialTokens), ModelError> {
    const TABLE: &str = "embedding.weight";
    let weights = Weights::open(&folder.name, &folder.weights_files(&folder.encoder_dir)?, dtype, device)?;
    let tensors = Tensors::within(&weights, &[""], TABLE);
    let table: Tensor = tensors.matrix(TABLE)?;
    weights.reject_unused(&[""], TABLE, &[])?;
    let (vocabulary, hidden_size) = tensors.with_context(table.dims2())?;
    let encoder = Encoder {
        embeddings: Embeddings::of_words(crate::ops::Table::new(table)),
        layers: Vec::new(),
        final_norm: None,
        hidden_size,
        vocabulary,
        longest: usize::MAX,
    };
    Ok((encoder, weights.digest().to_owned(), SpecialTokens::Never))
}
