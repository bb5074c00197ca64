//! A dense encoder: texts to one vector each, through the modules of its folder.

use std::{num::NonZeroUsize, path::Path};

use candle_core::{DType, Device, Tensor};
use crds::v1alpha1::Dtype;

use super::{
    ModelError, Weights, architecture,
    folder::{ModelFolder, ModuleKind},
    head::projection::Projection,
    transformer::{Embeddings, Encoder, TokenBatch},
};
use crate::{
    ops::{Pooling, TokenSelection, device, l2_normalize},
    tokenizer::{SpecialTokens, Tokenizer, Tokens},
    vectors::Rows,
};

/// What overrides the model folder.
#[derive(Clone, Debug)]
pub struct DenseOptions {
    /// The pooling; that of the folder when not given.
    pub pooling: Option<Pooling>,
    /// The longest sequence in tokens, special tokens included; a lower limit of the folder still holds.
    pub max_tokens: Option<usize>,
    /// Whether vectors are scaled to length 1; as the folder has it when not given.
    pub normalize: Option<bool>,
    /// The width that vectors are cut to, then normalised again (Kusupati et al., 2022).
    pub dimensions: Option<usize>,
    /// What stands before a document; that of the folder when not given, none when empty.
    pub document_prompt: Option<String>,
    /// What stands before a query; that of the folder when not given, none when empty.
    pub query_prompt: Option<String>,
    /// The type of the numbers. On a CPU the weights are rounded to floats of 16 bits and the arithmetic is that of f32;
    /// 8-bit integers are of the CPU alone.
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

/// What a text is to a model whose two sides have prompts of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What is searched.
    Document,
    /// What is asked.
    Query,
}

/// What stands before a text of one side.
struct Prompt {
    text: Option<String>,
    /// Tokens at the beginning that are not pooled.
    unpooled: usize,
}

/// A dense encoder on a device, with its tokenizer.
pub struct DenseEncoder {
    name: String,
    digest: String,
    dtype: Dtype,
    dimensions: usize,
    encoder: Encoder,
    pooling: Pooling,
    projections: Vec<Projection>,
    normalize: bool,
    cut: Option<usize>,
    prompts: [Prompt; 2],
    tokenizer: Tokenizer,
    lower_case: bool,
    device: Device,
}

impl DenseEncoder {
    /// Loads the model in `dir`; `name` is what errors and records call it.
    ///
    /// # Errors
    /// If anything in the folder is missing, not supported or does not fit together; nothing is guessed.
    pub fn load(name: &str, dir: &Path, options: &DenseOptions, device: &Device) -> Result<Self, ModelError> {
        let folder = ModelFolder::open(name, dir)?;
        folder.expect_chain(
            &[ModuleKind::Transformer, ModuleKind::StaticEmbedding],
            &[ModuleKind::Pooling, ModuleKind::Dense, ModuleKind::Normalize],
        )?;
        let is_static = folder.modules(ModuleKind::StaticEmbedding).next().is_some();
        let pooling = match options.pooling {
            // A table of embeddings has no pooling of its own: its rows are averaged.
            None if is_static => Pooling::Mean,
            Some(pooling) => pooling,
            None => folder.pooling()?,
        };
        let (encoder, digest, special) = if is_static {
            static_embedding(&folder, options.dtype, device)?
        } else {
            transformer(&folder, options.dtype, device)?
        };
        let projections: Vec<Projection> = folder
            .modules(ModuleKind::Dense)
            .map(|module| Projection::load(&folder, &module.dir, options.dtype, device))
            .collect::<Result<_, _>>()?;
        let mut width = encoder.hidden_size;
        for projection in &projections {
            width = projection.check_input(width)?;
        }
        let tokenizer = open_tokenizer(&folder, &encoder, options.max_tokens, special)?;
        let (pools_prompt, lower_case) = (folder.pools_prompt()?, folder.lower_case()?);
        let prompt = |given: &Option<String>, of_folder: Option<&str>| -> Result<Prompt, ModelError> {
            let text = given.as_deref().or(of_folder).filter(|prompt| !prompt.is_empty()).map(ToOwned::to_owned);
            let unpooled = match &text {
                Some(text) if !pools_prompt => {
                    let cased = if lower_case { &text.to_lowercase() } else { text };
                    tokenizer.leading_tokens(cased).map_err(|source| ModelError::tokenizer(name, source))?
                }
                _ => 0,
            };
            Ok(Prompt { text, unpooled })
        };
        if let Some(asked) = options.dimensions.filter(|asked| *asked == 0 || *asked > width) {
            return Err(ModelError::Dimensions { model: name.to_owned(), asked, width });
        }
        Ok(Self {
            name: name.to_owned(),
            digest,
            dtype: options.dtype,
            dimensions: options.dimensions.unwrap_or(width),
            pooling,
            projections,
            normalize: options.normalize.unwrap_or_else(|| folder.modules(ModuleKind::Normalize).next().is_some()),
            cut: options.dimensions.filter(|asked| *asked < width),
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

    /// The sha256 of the weights file, in hexadecimal; of several files, that of their digests.
    pub fn digest(&self) -> &str {
        &self.digest
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

    /// What stands before a text of that side.
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

    /// The tokens of a text, behind the prompt of its side.
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
    /// As [`DenseEncoder::encode`]; the error names the text's row.
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
            let text = |text: &T| format!("{}{}", prompt.unwrap_or_default(), text.as_ref());
            let texts =
                texts.iter().map(|given| if self.lower_case { text(given).to_lowercase() } else { text(given) });
            self.tokenizer.encode_batch(&texts.collect::<Vec<_>>(), threads)
        };
        let mut tokens = tokens.map_err(|source| ModelError::tokenizer(&self.name, source))?;
        let unpooled = self.prompts[side as usize].unpooled;
        for tokens in &mut tokens {
            tokens.unpooled = unpooled;
        }
        Ok(tokens)
    }

    /// Computes one batch: row N out is row N in. The rows are packed without padding, so that a row's vector does not
    /// depend, beyond rounding, on what else is in the batch.
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
        let batch = TokenBatch::new(rows);
        let hidden = self.encoder.forward(&batch, self.pooling.reads())?;
        let skips = rows.iter().any(|row| row.unpooled > 0) && self.pooling.reads() == TokenSelection::All;
        // Without projections all of it is one kernel of a device, and only vectors come back from there.
        let skipped: Option<Vec<u32>> = skips.then(|| rows.iter().map(|row| row.unpooled as u32).collect());
        let (dimensions, normalised) = if self.projections.is_empty() {
            (self.dimensions, self.normalize || self.cut.is_some())
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
        if let Some(width) = self.cut {
            vectors = l2_normalize(&vectors.narrow(1, 0, width)?.contiguous()?)?;
        } else if self.normalize {
            vectors = l2_normalize(&vectors)?;
        }
        device::download(&vectors)
    }
}

/// An encoder of transformer layers, the digest of its weights, and whether its sequences need special tokens.
fn transformer(
    folder: &ModelFolder,
    dtype: Dtype,
    device: &Device,
) -> Result<(Encoder, String, SpecialTokens), ModelError> {
    let config = folder.config()?;
    let architecture = architecture::find(&config)?;
    let weights = Weights::open(&folder.name, &folder.weights(&folder.encoder)?, dtype, device)?;
    let encoder = (architecture.load)(&config, &weights)?;
    weights.reject_unused(architecture.prefixes, architecture.probe, architecture.ignored)?;
    Ok((encoder, weights.digest().to_owned(), architecture.special_tokens))
}

/// A table of embeddings as an encoder without layers.
fn static_embedding(
    folder: &ModelFolder,
    dtype: Dtype,
    device: &Device,
) -> Result<(Encoder, String, SpecialTokens), ModelError> {
    const TABLE: &str = "embedding.weight";
    let weights = Weights::open(&folder.name, &folder.weights(&folder.encoder)?, dtype, device)?;
    let tensors = weights.scope(&[""], TABLE);
    let table: Tensor = tensors.matrix(TABLE)?;
    weights.reject_unused(&[""], TABLE, &[])?;
    let (vocabulary, hidden_size) = tensors.made(table.dims2())?;
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

/// The tokenizer of a folder, checked against the encoder.
pub(super) fn open_tokenizer(
    folder: &ModelFolder,
    encoder: &Encoder,
    max_tokens: Option<usize>,
    special: SpecialTokens,
) -> Result<Tokenizer, ModelError> {
    let file = folder.tokenizer()?;
    let limits = [max_tokens, folder.max_tokens()?];
    let max_tokens = limits.into_iter().flatten().fold(encoder.longest, usize::min);
    let tokenizer =
        Tokenizer::open(&file, max_tokens, special).map_err(|source| ModelError::tokenizer(&folder.name, source))?;
    let (vocabulary, embedding) = (tokenizer.vocabulary(), encoder.vocabulary);
    if vocabulary > embedding {
        return Err(ModelError::Vocabulary { model: folder.name.clone(), file, tokenizer: vocabulary, embedding });
    }
    Ok(tokenizer)
}
