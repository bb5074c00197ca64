//! The tokens that are added to those of `tokenizer.json` (`TokenizersBackend.__init__`).

use std::collections::BTreeMap;

use serde_json::Value;
use tokenizers::{AddedToken, Tokenizer};

use super::{
    class::Class,
    fields::Fields,
    keys::SPECIAL_TOKENS,
    settings::{ADDED, EXTRA, Settings},
    token::Token,
};
use crate::tokenizer::error::{TokenizerError, TokenizersError};

/// All tokens that the files and the class name.
pub struct NamedTokens {
    /// Special tokens by the names of their settings, the common ones first.
    special: Vec<(String, Token)>,
    /// Special tokens without a name.
    extra: Vec<Token>,
    /// Added tokens by id.
    by_id: BTreeMap<u32, Token>,
    /// Whether the class adds all special tokens again, without their properties.
    again: bool,
}

impl NamedTokens {
    /// Finds the tokens. `of_file` are those of `tokenizer.json`, which count unless the settings list the added tokens by id.
    ///
    /// # Errors
    /// If a setting is not a token.
    pub fn of(
        class: Class,
        settings: &Settings,
        added_tokens: &Fields,
        of_file: &BTreeMap<u32, Token>,
    ) -> Result<Self, TokenizerError> {
        let mut named = Vec::new();
        for key in SPECIAL_TOKENS {
            if let Some(token) = settings.token(key)? {
                named.push((key.to_owned(), token));
            }
        }
        let mut extra = settings.extra_tokens()?;
        let unnamed = if settings.extra_tokens_are_special() { extra.as_slice() } else { &[] };
        let is_special =
            |content: &str| named.iter().map(|(_, token)| token).chain(unnamed).any(|token| token.content() == content);
        let mut by_id = BTreeMap::new();
        if let Some(setting) = settings.get(ADDED) {
            let Value::Object(tokens) = &setting.value else { return Err(setting.unsupported("tokens by id")) };
            for (id, token) in tokens {
                let setting = setting.with(token.clone());
                let token = Token::read(&setting)?;
                let id = id.parse().ok().filter(|_| matches!(token, Token::Added(_)));
                by_id.insert(id.ok_or_else(|| setting.unsupported("tokens with properties by id"))?, token);
            }
        } else {
            for (content, setting) in added_tokens.settings() {
                let id = setting.value.as_u64().and_then(|id| u32::try_from(id).ok());
                let id = id.ok_or_else(|| setting.unsupported("an id"))?;
                by_id.insert(id, Token::added(content, is_special(content)));
            }
            by_id.extend(of_file.iter().map(|(id, token)| (*id, token.clone())));
        }
        // A token that is added by id too has the properties that it has there.
        for (_, token) in &mut named {
            if let Some(added) = by_id.values().rfind(|added| added.content() == token.content()) {
                *token = added.clone();
            }
        }
        let mut special = Vec::new();
        for key in SPECIAL_TOKENS {
            let token = match named.iter().find(|(named, _)| named == key) {
                Some((_, token)) => Some(of_class(class, key, token.clone())),
                None if settings.get(key).is_some() => None,
                None => default(class, key).map(|text| of_class(class, key, Token::Text(text.to_owned()))),
            };
            special.extend(token.map(|token| (key.to_owned(), token)));
        }
        special.extend(settings.tokens_of_model()?);
        if class == Class::Camembert && settings.get(EXTRA).is_none() {
            extra = ["<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"].map(|text| Token::Text(text.to_owned())).into();
        }
        Ok(Self { special, extra, by_id, again: class == Class::Qwen2 })
    }

    /// The text of a special token.
    pub fn content(&self, key: &str) -> Option<&str> {
        self.special.iter().find(|(name, _)| name == key).map(|(_, token)| token.content())
    }

    /// Adds the tokens that `backend` does not have. A token with an entry in the vocabulary keeps its id, others get the next ids.
    ///
    /// # Errors
    /// If a token cannot be normalised.
    pub fn add_to(&self, backend: &mut Tokenizer) -> Result<(), TokenizersError> {
        let existing: Vec<AddedToken> = backend.get_added_tokens_decoder().into_values().collect();
        let is_named = |token: &Token| self.special.iter().any(|(_, named)| named.content() == token.content());
        let mut adding: Vec<Token> =
            self.by_id.values().filter(|token| !existing.contains(&token.to_added())).cloned().collect();
        let known: Vec<String> = existing
            .iter()
            .map(|token| token.content.clone())
            .chain(adding.iter().map(|token| token.content().to_owned()))
            .collect();
        for token in self.special.iter().map(|(_, token)| token).chain(&self.extra) {
            if !known.iter().any(|content| content == token.content()) && !adding.contains(token) {
                adding.push(token.clone());
            }
        }
        let adding = adding.into_iter().map(|token| if is_named(&token) { token.into_special() } else { token });
        let adding: Vec<AddedToken> = adding.map(|token| token.to_added()).collect();
        backend.add_tokens(adding)?;
        if self.again {
            let special = self.special.iter().map(|(_, token)| token).chain(&self.extra);
            let special: Vec<AddedToken> =
                special.map(|token| AddedToken::from(token.content().to_owned(), true)).collect();
            backend.add_tokens(special)?;
        }
        Ok(())
    }
}

/// A special token as the class passes it on.
fn of_class(class: Class, key: &str, token: Token) -> Token {
    match (class, token) {
        (Class::Mpnet, Token::Text(text)) if key == "mask_token" => Token::stripped_left(&text, false),
        (Class::Mpnet, Token::Text(text)) => Token::added(&text, false),
        (Class::Camembert, Token::Text(text)) if key == "mask_token" => Token::stripped_left(&text, true),
        (_, token) => token,
    }
}

/// The special token of a class that no setting names.
fn default(class: Class, key: &str) -> Option<&'static str> {
    let tokens: [Option<&'static str>; 7] = match class {
        Class::AsFile => [None; 7],
        Class::Bert | Class::DistilBert => {
            [None, None, Some("[UNK]"), Some("[SEP]"), Some("[PAD]"), Some("[CLS]"), Some("[MASK]")]
        }
        Class::Mpnet => ["<s>", "</s>", "[UNK]", "</s>", "<pad>", "<s>", "<mask>"].map(Some),
        Class::Roberta | Class::XlmRoberta | Class::Camembert => {
            ["<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>"].map(Some)
        }
        Class::Gemma => [Some("<bos>"), Some("<eos>"), Some("<unk>"), None, Some("<pad>"), None, Some("<mask>")],
        Class::Qwen2 => [None, Some("<|endoftext|>"), Some("<|endoftext|>"), None, Some("<|endoftext|>"), None, None],
    };
    SPECIAL_TOKENS.iter().position(|known| *known == key).and_then(|at| tokens[at])
}
