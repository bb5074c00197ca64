//! The tokenizer of a model folder, loaded as `transformers` 5.24 loads it.
//!
//! `tokenizer.json` alone does not decide the ids of a text. [`settings`] merges `tokenizer_config.json` and the files beside it
//! in the order of the reference, and rejects what [`keys`] does not list. [`class`] finds the Python class that they or the
//! architecture name. Some classes keep only the vocabulary of `tokenizer.json` and build the rest anew, which [`rebuild`] does.
//! [`added`] then adds the tokens that the other files name; a [`token`] has the properties by which it is found in a text.

use std::path::{Path, PathBuf};

use tokenizers::{
    NormalizerWrapper, TruncationDirection,
    normalizers::{Lowercase, Sequence},
};

use self::{class::Class, settings::Settings};
use super::{error::TokenizerError, library};

mod added;
mod class;
mod fields;
mod files;
mod keys;
mod rebuild;
mod settings;
mod token;

pub use self::{fields::Fields, files::TokenizerFiles};

/// A tokenizer of the `tokenizers` library with all settings of its folder.
pub struct Pretrained {
    pub(super) backend: tokenizers::Tokenizer,
    pub(super) path: PathBuf,
    /// The side of a text that truncation removes.
    pub(super) truncation_side: TruncationDirection,
    /// Whether the model gets the token types (segments).
    pub(super) segments: bool,
    /// The longest sequence that the files allow, in tokens; `None` if they set no limit.
    pub max_length: Option<usize>,
}

impl Pretrained {
    /// Opens a `tokenizer.json` without files beside it.
    ///
    /// # Errors
    /// If the file cannot be read or is not a tokenizer.
    pub fn of_file(path: &Path) -> Result<Self, TokenizerError> {
        let backend = library::from_bytes(files::read(path)?)
            .map_err(|source| TokenizerError::Open { path: path.to_owned(), source })?;
        let truncation = backend.get_truncation();
        Ok(Self {
            path: path.to_owned(),
            truncation_side: truncation.map_or(TruncationDirection::Right, |truncation| truncation.direction),
            segments: true,
            max_length: truncation.map(|truncation| truncation.max_length),
            backend,
        })
    }

    /// Opens a tokenizer with the files beside it.
    ///
    /// # Errors
    /// If `tokenizer.json` cannot be read or is not a tokenizer, or a file has a setting that is not implemented.
    pub fn of_folder(files: &TokenizerFiles) -> Result<Self, TokenizerError> {
        let class = Class::of(files)?;
        let settings = Settings::merge(files)?;
        let path = &files.tokenizer;
        let open_error = |source| TokenizerError::Open { path: path.clone(), source };
        let (mut backend, of_file) = if class == Class::AsFile {
            let backend = library::from_bytes(files::read(path)?).map_err(open_error)?;
            let added = backend.get_added_tokens_decoder().into_iter();
            let added = added.map(|(id, token)| (id, token::Token::of(&token))).collect();
            (backend, added)
        } else {
            rebuild::backend(class, path, &settings)?
        };
        let truncation = backend.get_truncation().map(|truncation| truncation.direction);
        let named = added::NamedTokens::of(class, &settings, &files.added_tokens, &of_file)?;
        named.add_to(&mut backend).map_err(open_error)?;
        rebuild::set_post_processor(class, &mut backend, &named, &settings)?;
        backend.set_encode_special_tokens(settings.flag("split_special_tokens")?.unwrap_or(false));
        Ok(Self {
            path: path.clone(),
            truncation_side: settings.truncation_side()?.or(truncation).unwrap_or(TruncationDirection::Right),
            segments: settings.segments()?.unwrap_or_else(|| class.segments()),
            max_length: settings.max_length()?,
            backend,
        })
    }

    /// Maps texts to lower case before the tokenizer's own normalizer, character by character; tokens that are found in the text
    /// as it is written, such as special ones, stay as they are. A tokenizer that does so itself is left as it is.
    ///
    /// # Errors
    /// If an added token cannot be normalised.
    pub fn lower_case(&mut self) -> Result<(), TokenizerError> {
        let is_lowercase = |normalizer: &NormalizerWrapper| matches!(normalizer, NormalizerWrapper::Lowercase(_));
        let own: Vec<NormalizerWrapper> = match self.backend.get_normalizer() {
            Some(NormalizerWrapper::Sequence(sequence)) => sequence.as_ref().to_vec(),
            own => own.cloned().into_iter().collect(),
        };
        if own.iter().any(is_lowercase) {
            return Ok(());
        }
        let all = [vec![NormalizerWrapper::Lowercase(Lowercase)], own].concat();
        let path = &self.path;
        self.backend
            .with_normalizer(Some(NormalizerWrapper::Sequence(Sequence::new(all))))
            .map_err(|source| TokenizerError::Open { path: path.clone(), source })?;
        Ok(())
    }
}
