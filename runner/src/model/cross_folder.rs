//! The folder of a cross-encoder, opened and checked before any weights are read.

use std::path::Path;

use serde::Deserialize;

use super::{
    ModelError, Weights,
    chat_template::ChatTemplate,
    files::CONFIG,
    folder::{ModelFolder, ModuleKind, Task, activation_of_class},
    head::classifier::{Answers, Classifier},
    loading::{Checked, OpenTransformer},
};
use crate::{ops::Activation, tokenizer::Tokenizer};

/// The template of the model card of Qwen3-Reranker: the texts before and after a pair.
const CARD_START: &str = "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the \
                          Instruct provided. Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n\
                          <|im_start|>user\n";
const CARD_END: &str = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";

/// How a pair becomes a sequence.
pub(super) enum PairInput {
    /// As the tokenizer joins two texts; the prompt, if there is one, precedes the query.
    Pair(Option<String>),
    /// Within the template of the model card of Qwen3-Reranker: the tokens before and after; the prompt precedes the query.
    Card([Vec<u32>; 2], Option<String>),
    /// Within the folder's own template, of which the prompt is a part.
    Chat(Box<ChatTemplate>),
}

/// A cross-encoder without its weights.
pub(super) struct CrossFolder {
    pub(super) folder: ModelFolder,
    pub(super) transformer: OpenTransformer,
    pub(super) tokenizer: Tokenizer,
    pub(super) activation: Activation,
    /// The tokens of a generative model's answers.
    pub(super) answers: Option<Answers>,
    /// How a pair becomes a sequence.
    pub(super) input: PairInput,
}

impl CrossFolder {
    /// Opens the folder `dir` of the model `name`.
    ///
    /// # Errors
    /// If a part of the folder is missing, unsupported, or inconsistent with the rest; nothing is guessed.
    pub(super) fn open(name: &str, dir: &Path, max_tokens: Option<usize>) -> Result<Self, ModelError> {
        use ModuleKind::{LogitScore, Transformer};
        let folder = ModelFolder::open(name, dir)?;
        folder.modules.expect_one_of(&[&[Transformer], &[Transformer, LogitScore]])?;
        let transformer = OpenTransformer::open(&folder)?;
        Classifier::check(&transformer.config)?;
        let activation = activation(&folder, &transformer)?;
        let tokenizer = transformer.tokenizer(&folder, max_tokens)?;
        transformer.config.reject_unknown()?;
        let score = folder.modules.of_kind(LogitScore).next();
        let task = if score.is_some() { Task::TextGeneration } else { Task::SequenceClassification };
        folder.settings.expect_task(&[task])?;
        let prompt = folder.prompts.of_pair().map(ToOwned::to_owned);
        let input = match &score {
            Some(_) => match ChatTemplate::open(&folder, &tokenizer, prompt.as_deref())? {
                Some(template) => PairInput::Chat(Box::new(template)),
                None => PairInput::Pair(prompt),
            },
            None if Classifier::is_generative(&transformer.config) => {
                if tokenizer.truncates_left() {
                    // It would remove the beginning of the template.
                    let file = folder.encoder_dir.join("tokenizer_config.json");
                    return Err(ModelError::unsupported(name, &file, "truncation_side", "left", &["right"]));
                }
                let ids = |text| tokenizer.ids(text).map_err(|source| ModelError::tokenizer(name, source));
                PairInput::Card([ids(CARD_START)?, ids(CARD_END)?], prompt)
            }
            None => PairInput::Pair(prompt),
        };
        let answers = match score {
            Some(module) => Some(read_score(&folder, &module.dir, &transformer)?),
            None => tokenizer
                .id("yes")
                .zip(tokenizer.id("no"))
                .map(|(positive, negative)| Answers { positive, negative: Some(negative) }),
        };
        Ok(Self { folder, transformer, tokenizer, activation, answers, input })
    }

    /// Checks the folder without reading weights beyond their headers. Without `weights` only the settings are there.
    ///
    /// # Errors
    /// Same as [`CrossFolder::open`]; or if weights are missing, truncated, or pickles.
    pub(super) fn check(
        name: &str,
        dir: &Path,
        max_tokens: Option<usize>,
        weights: bool,
    ) -> Result<Checked, ModelError> {
        let Self { folder, .. } = Self::open(name, dir, max_tokens)?;
        let files = folder.files.read_so_far();
        if weights {
            Weights::check_headers(&folder.files, &folder.weights_files(&folder.encoder_dir)?)?;
        }
        Ok(Checked { files, dimensions: None })
    }
}

/// The answers of a `LogitScore` module (`sentence_transformers/cross_encoder/modules/logit_score.py`).
fn read_score(folder: &ModelFolder, dir: &Path, transformer: &OpenTransformer) -> Result<Answers, ModelError> {
    const INPUT: &str = "causal_logits";
    #[derive(Deserialize)]
    struct Score {
        true_token_id: u32,
        false_token_id: Option<u32>,
        module_input_name: Option<String>,
    }
    let file = dir.join(CONFIG);
    let score: Score = folder.files.strict_json(&file, &[])?;
    let unsupported = |field, found: &str, supported: &str| {
        Err(ModelError::unsupported(&folder.name, &file, field, found, &[supported]))
    };
    if let Some(name) = score.module_input_name.filter(|name| name != INPUT) {
        return unsupported("module_input_name", &name, INPUT);
    }
    if !Classifier::is_generative(&transformer.config) {
        return unsupported("type", transformer.config.model_type(), "LogitScore behind qwen2 or qwen3");
    }
    let vocabulary = transformer.outline.vocabulary;
    for (field, id) in [("true_token_id", Some(score.true_token_id)), ("false_token_id", score.false_token_id)] {
        if let Some(id) = id.filter(|id| *id as usize >= vocabulary) {
            return unsupported(field, &id.to_string(), &format!("an id below {vocabulary}"));
        }
    }
    Ok(Answers { positive: score.true_token_id, negative: score.false_token_id })
}

/// The activation that the folder's files request, in the order of `sentence_transformers.CrossEncoder`: what it was saved
/// with, then the encoder's configuration; the logistic function by default.
fn activation(folder: &ModelFolder, transformer: &OpenTransformer) -> Result<Activation, ModelError> {
    let (saved, config) = (folder.dir.join("config_sentence_transformers.json"), folder.encoder_dir.join(CONFIG));
    let settings = &transformer.config;
    settings.expect_fields("sentence_transformers", &["activation_fn", "version"]);
    // Without modules the reference reads the encoder's configuration only.
    let of_folder = folder.prompts.activation_fn.as_deref().filter(|_| !folder.modules.all().is_empty());
    let requests = [
        (of_folder, &saved, "activation_fn"),
        (
            settings.get("sentence_transformers")["activation_fn"].as_str(),
            &config,
            "sentence_transformers.activation_fn",
        ),
        (
            settings.get("sbert_ce_default_activation_function").as_str(),
            &config,
            "sbert_ce_default_activation_function",
        ),
    ];
    let requested = requests.into_iter().find_map(|(class, file, field)| Some((class?, file, field)));
    requested
        .map_or(Ok(Activation::Sigmoid), |(class, file, field)| activation_of_class(&folder.name, file, field, class))
}
