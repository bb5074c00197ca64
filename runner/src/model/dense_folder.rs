//! The folder of a dense encoder, opened and checked with the options of a run before any weights are read.

use std::path::{Path, PathBuf};

use crds::v1alpha1::Similarity;

use super::{
    DenseOptions, ModelError, Weights,
    folder::{Chain, ModelFolder, ModuleKind, Step, Task},
    loading::{Checked, OpenTransformer, bare_tokenizer},
};
use crate::{ops::Pooling, tokenizer::Tokenizer};

/// The similarities of dense vectors.
const SIMILARITIES: [Similarity; 4] =
    [Similarity::Cosine, Similarity::Dot, Similarity::Euclidean, Similarity::Manhattan];

/// The text that precedes the texts of one side.
pub(super) struct Prompt {
    pub(super) text: Option<String>,
    /// The number of leading tokens that are not pooled.
    pub(super) unpooled: usize,
}

/// A dense encoder without its weights.
pub(super) struct DenseFolder {
    pub(super) folder: ModelFolder,
    /// `None` for a static embedding.
    pub(super) transformer: Option<OpenTransformer>,
    pub(super) chain: Chain,
    /// The modes of the pooling; their vectors stand side by side.
    pub(super) poolings: Vec<Pooling>,
    /// By side: of documents, of queries.
    pub(super) prompts: [Prompt; 2],
    pub(super) tokenizer: Tokenizer,
    /// The similarity that the model was made for.
    pub(super) similarity: Similarity,
    /// The width that vectors are truncated to, if the run or the folder requests one.
    pub(super) dimensions: Option<usize>,
}

impl DenseFolder {
    /// Opens the folder `dir` of the model `name`.
    ///
    /// # Errors
    /// If a part of the folder is missing, unsupported, or inconsistent with the rest; nothing is guessed.
    pub(super) fn open(name: &str, dir: &Path, options: &DenseOptions) -> Result<Self, ModelError> {
        let folder = ModelFolder::open(name, dir)?;
        let chain = folder.chain(options.pooling.is_some())?;
        let is_static = folder.modules.has(ModuleKind::StaticEmbedding);
        let of_folder = chain.pooling.as_deref().map(|dir| folder.pooling(dir)).transpose()?;
        let pools_prompt = of_folder.as_ref().is_none_or(|pooling| pooling.includes_prompt);
        let poolings = match (options.pooling, of_folder) {
            // A static embedding has no pooling module: the rows of its table are averaged.
            (None, None) if is_static => vec![Pooling::Mean],
            (Some(pooling), _) => vec![pooling],
            (None, Some(pooling)) => pooling.modes,
            (None, None) => {
                return Err(ModelError::PoolingUnknown { model: name.to_owned(), dir: folder.dir.clone() });
            }
        };
        let transformer = if is_static { None } else { Some(OpenTransformer::open(&folder)?) };
        let tokenizer = match &transformer {
            None => bare_tokenizer(&folder, options.max_tokens)?,
            Some(transformer) => {
                folder.settings.expect_task(&[Task::FeatureExtraction])?;
                let tokenizer = transformer.tokenizer(&folder, options.max_tokens)?;
                transformer.config.reject_unknown()?;
                tokenizer
            }
        };
        let prompt = |of_run: &Option<String>, of_folder: Option<&str>| -> Result<Prompt, ModelError> {
            let text = of_run.as_deref().or(of_folder).filter(|prompt| !prompt.is_empty()).map(ToOwned::to_owned);
            let unpooled = match &text {
                Some(text) if !pools_prompt => {
                    tokenizer.leading_tokens(text).map_err(|source| ModelError::tokenizer(name, source))?
                }
                _ => 0,
            };
            Ok(Prompt { text, unpooled })
        };
        let prompts = [
            prompt(&options.document_prompt, folder.prompts.document())?,
            prompt(&options.query_prompt, folder.prompts.query())?,
        ];
        let opened = Self {
            dimensions: options.dimensions.or(folder.prompts.truncate_dim),
            similarity: folder.similarity(&SIMILARITIES)?.unwrap_or_default(),
            folder,
            transformer,
            chain,
            poolings,
            prompts,
            tokenizer,
        };
        if let Some(transformer) = &opened.transformer {
            let width = opened.width(transformer.outline.hidden_size)?;
            opened.check_dimensions(options, width)?;
        }
        Ok(opened)
    }

    /// The width of a vector before it is truncated; that of a hidden state is `hidden_size`.
    ///
    /// # Errors
    /// If a projection takes vectors of another width.
    pub(super) fn width(&self, hidden_size: usize) -> Result<usize, ModelError> {
        let project = |width: usize, step: &Step| match step {
            Step::Project(config) => config.check_input(&self.folder.name, width),
            Step::Normalize => Ok(width),
        };
        let of_token = self.chain.of_tokens.iter().try_fold(hidden_size, project)?;
        self.chain.of_text.iter().try_fold(of_token * self.poolings.len(), project)
    }

    /// Checks the dimensions that the run requests against the `width` of the vectors.
    ///
    /// # Errors
    /// If the run requests none, or more than there are.
    pub(super) fn check_dimensions(&self, options: &DenseOptions, width: usize) -> Result<(), ModelError> {
        match options.dimensions.filter(|requested| *requested == 0 || *requested > width) {
            None => Ok(()),
            Some(requested) => Err(ModelError::Dimensions { model: self.folder.name.clone(), requested, width }),
        }
    }

    /// The folders of the modules that have weights.
    fn weights_dirs(&self) -> Vec<PathBuf> {
        let steps = self.chain.of_tokens.iter().chain(&self.chain.of_text);
        let projections = steps.filter_map(|step| match step {
            Step::Project(config) => Some(config.dir.clone()),
            Step::Normalize => None,
        });
        [self.folder.encoder_dir.clone()].into_iter().chain(projections).collect()
    }

    /// Checks the folder without reading weights beyond their headers. Without `weights` only the settings are there.
    ///
    /// # Errors
    /// Same as [`DenseFolder::open`]; or if weights are missing, truncated, or pickles.
    pub(super) fn check(name: &str, dir: &Path, options: &DenseOptions, weights: bool) -> Result<Checked, ModelError> {
        let opened = Self::open(name, dir, options)?;
        let files = opened.folder.files.read_so_far();
        if weights {
            for dir in opened.weights_dirs() {
                Weights::check_headers(&opened.folder.files, &opened.folder.weights_files(&dir)?)?;
            }
        }
        let hidden_size = opened.transformer.as_ref().map(|transformer| transformer.outline.hidden_size);
        let width = hidden_size.map(|hidden_size| opened.width(hidden_size)).transpose()?;
        let dimensions = width.map(|width| opened.dimensions.map_or(width, |requested| requested.min(width)));
        Ok(Checked { files, dimensions })
    }
}
