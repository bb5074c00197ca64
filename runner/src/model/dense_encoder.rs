//! A dense encoder: computes one vector per text, through the modules of its folder.

use std::{num::NonZeroUsize, path::Path};

use candle_core::{D, DType, Device, Tensor};
use crds::v1alpha1::{Dtype, Similarity};

use super::{
    DenseOptions, ModelError, Side, Weights,
    dense_folder::{DenseFolder, Prompt},
    folder::{ModelFolder, Step},
    head::projection::Projection,
    loading::{Checked, tokenizer_digest},
    transformer::{Embeddings, Encoder, TokenBatch},
    weights::natural_dtype,
};
use crate::{
    ops::{Pooling, Table, TokenSelection, device, l2_normalize},
    plan::ModelFiles,
    tokenizer::{Tokenizer, Tokens},
    vectors::Rows,
};

/// A loaded step over vectors.
enum LoadedStep {
    Project(Box<Projection>),
    Normalize,
}

/// A dense encoder on a device, with its tokenizer.
pub struct DenseEncoder {
    name: String,
    weights_digest: String,
    files: ModelFiles,
    tokenizer_digest: String,
    similarity: Similarity,
    dtype: Dtype,
    dimensions: usize,
    encoder: Encoder,
    poolings: Vec<Pooling>,
    /// The steps over the vectors of the tokens.
    of_tokens: Vec<LoadedStep>,
    /// The steps over the vector of a text.
    of_text: Vec<LoadedStep>,
    /// The width that vectors are truncated to, if it is lower than the model's.
    truncated: Option<usize>,
    prompts: [Prompt; 2],
    tokenizer: Tokenizer,
    device: Device,
}

impl DenseEncoder {
    /// Checks the model in `dir` without its weights, beyond their headers if `weights` is set.
    ///
    /// # Errors
    /// Same as [`DenseEncoder::load`], as far as the settings show it.
    pub fn check(name: &str, dir: &Path, options: &DenseOptions, weights: bool) -> Result<Checked, ModelError> {
        DenseFolder::check(name, dir, options, weights)
    }

    /// Loads the model in `dir`; errors and records call it `name`.
    ///
    /// # Errors
    /// If a part of the folder is missing, unsupported, or inconsistent with the rest; nothing is guessed.
    pub fn load(name: &str, dir: &Path, options: &DenseOptions, device: &Device) -> Result<Self, ModelError> {
        let mut opened = DenseFolder::open(name, dir, options)?;
        let folder = &opened.folder;
        let (encoder, weights_digest, dtype) = if let Some(transformer) = opened.transformer.take() {
            let loaded = transformer.load(folder, options.dtype, device)?;
            loaded.reject_unused()?;
            (loaded.encoder, loaded.weights.digest().to_owned(), loaded.dtype)
        } else {
            let dtype = options.dtype.unwrap_or_else(|| natural_dtype(device, None));
            let (encoder, digest) = load_static_embedding(folder, dtype, device)?;
            (encoder, digest, dtype)
        };
        let width = opened.width(encoder.hidden_size)?;
        opened.check_dimensions(options, width)?;
        let load = |steps: &[Step]| -> Result<Vec<LoadedStep>, ModelError> {
            let load = |step: &Step| match step {
                Step::Project(config) => {
                    Ok(LoadedStep::Project(Box::new(Projection::load(folder, config, dtype, device)?)))
                }
                Step::Normalize => Ok(LoadedStep::Normalize),
            };
            steps.iter().map(load).collect()
        };
        let (of_tokens, mut of_text) = (load(&opened.chain.of_tokens)?, load(&opened.chain.of_text)?);
        match options.normalize {
            None => {}
            Some(true) => of_text.push(LoadedStep::Normalize),
            Some(false) => while of_text.pop_if(|step| matches!(step, LoadedStep::Normalize)).is_some() {},
        }
        let dimensions = opened.dimensions.map_or(width, |requested| requested.min(width));
        Ok(Self {
            name: name.to_owned(),
            weights_digest,
            files: folder.files.read_so_far(),
            tokenizer_digest: tokenizer_digest(folder)?,
            similarity: opened.similarity,
            dtype,
            dimensions,
            poolings: opened.poolings,
            of_tokens,
            of_text,
            truncated: (dimensions < width).then_some(dimensions),
            prompts: opened.prompts,
            tokenizer: opened.tokenizer.with_rows(encoder.vocabulary),
            encoder,
            device: device.clone(),
        })
    }

    /// The name that the model was loaded under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The sha256 of the weights file, in hexadecimal; for several files, the sha256 of their concatenated digests.
    pub fn weights_digest(&self) -> &str {
        &self.weights_digest
    }

    /// The files of the folder that were read, with their digests.
    pub fn files(&self) -> &ModelFiles {
        &self.files
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

    /// How token vectors become one vector: the vectors of several poolings stand side by side.
    pub fn poolings(&self) -> &[Pooling] {
        &self.poolings
    }

    /// The prompt before a text of the side.
    pub fn prompt(&self, side: Side) -> Option<&str> {
        self.prompts[side as usize].text.as_deref()
    }

    /// The longest sequence of a document in tokens, special tokens included.
    pub fn max_tokens(&self) -> usize {
        self.tokenizer.max_tokens().document
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
        let limits = self.tokenizer.max_tokens();
        let max_tokens = match side {
            Side::Document => limits.document,
            Side::Query => limits.query,
        };
        let tokens = match self.prompt(side) {
            None => self.tokenizer.encode_batch(texts, max_tokens, threads),
            Some(prompt) => {
                let texts: Vec<String> = texts.iter().map(|text| format!("{prompt}{}", text.as_ref())).collect();
                self.tokenizer.encode_batch(&texts, max_tokens, threads)
            }
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
        let skipped: Vec<u32> = rows.iter().map(|row| row.unpooled as u32).collect();
        let skipped = Some(&skipped[..]).filter(|skipped| skipped.iter().any(|count| *count > 0));
        let reads = self.reads(skipped.is_some());
        let mut hidden = self.encoder.forward(&batch, reads)?;
        for step in &self.of_tokens {
            hidden = step.forward(&hidden)?;
        }
        // Without further steps, pooling and normalisation are one kernel on a device, and only vectors are downloaded.
        let normalised = match &self.of_text[..] {
            [] => Some(self.truncated.is_some()),
            [LoadedStep::Normalize] => Some(true),
            _ => None,
        };
        if let ([pooling], Some(normalised)) = (&self.poolings[..], normalised) {
            let skipped = skipped.filter(|_| reads == TokenSelection::All);
            let fused = pooling.forward_on_device(&hidden, &batch.sequences, skipped, self.dimensions, normalised)?;
            if let Some(vectors) = fused {
                return device::download(&vectors);
            }
        }
        let pool = |pooling: &Pooling| {
            let pooled = match skipped {
                Some(_) if reads == TokenSelection::All => pooling.forward_without(&hidden, &batch.sequences, skipped),
                _ => pooling.forward(&hidden, &batch.sequences),
            };
            pooled?.to_dtype(DType::F32)
        };
        let pooled = self.poolings.iter().map(pool).collect::<candle_core::Result<Vec<_>>>()?;
        let mut vectors = if let [vectors] = &pooled[..] { vectors.clone() } else { Tensor::cat(&pooled, D::Minus1)? };
        for step in &self.of_text {
            vectors = step.forward(&vectors)?;
        }
        let mut vectors = vectors.to_dtype(DType::F32)?;
        if let Some(width) = self.truncated {
            vectors = l2_normalize(&vectors.narrow(1, 0, width)?.contiguous()?)?;
        }
        device::download(&vectors)
    }

    /// The tokens whose vectors the poolings read; the first token that is pooled may be any if some are skipped.
    fn reads(&self, skips: bool) -> TokenSelection {
        let of =
            |pooling: &Pooling| if skips && *pooling == Pooling::Cls { TokenSelection::All } else { pooling.reads() };
        let mut selections = self.poolings.iter().map(of);
        let first = selections.next().unwrap_or(TokenSelection::All);
        if selections.all(|selection| selection == first) { first } else { TokenSelection::All }
    }
}

impl LoadedStep {
    /// `[rows, width]` → `[rows, width of the step]`.
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Project(projection) => projection.forward(x),
            Self::Normalize => l2_normalize(&x.to_dtype(DType::F32)?),
        }
    }
}

/// Loads an embedding table as an encoder without layers. Returns it with the digest of the weights.
fn load_static_embedding(folder: &ModelFolder, dtype: Dtype, device: &Device) -> Result<(Encoder, String), ModelError> {
    let weights = Weights::open(&folder.files, &folder.weights_files(&folder.encoder_dir)?, dtype, device)?;
    let table = weights.static_table()?;
    let (vocabulary, hidden_size) = table.dims2().map_err(|source| ModelError::device(&folder.name, source))?;
    let encoder = Encoder {
        embeddings: Embeddings::of_words(Table::new(table)),
        layers: Vec::new(),
        final_norm: None,
        hidden_size,
        vocabulary,
        longest: usize::MAX,
    };
    Ok((encoder, weights.digest().to_owned()))
}
