//! The token of the hub: a secret, which is sent to the hub and shown to nobody.
//!
//! In a pod it is a file. On one machine it may be the variable `HF_TOKEN`, which every library of the hub reads; the
//! process takes it out of its environment before anything else, so that neither its children nor `/proc/self/environ`
//! show it.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crds::contract::HUB_TOKEN_VARIABLE;
use reqwest::header::HeaderValue;

use super::error::HubFailure;

const VARIABLE: &str = "HF_TOKEN";

/// What [`take_from_environment`] found.
static TAKEN: OnceLock<Option<String>> = OnceLock::new();

/// A token of the hub. It is a secret and is never printed.
#[derive(Clone)]
pub struct Token(HeaderValue);

impl Token {
    /// The token of [`HUB_TOKEN_VARIABLE`], else of `HF_TOKEN`, else of `file`.
    ///
    /// # Errors
    /// If the file of [`HUB_TOKEN_VARIABLE`] cannot be read or is empty, or the token has line breaks.
    pub(super) fn find(
        variable: impl Fn(&str) -> Option<String>,
        file: Option<PathBuf>,
    ) -> Result<Option<Self>, HubFailure> {
        if let Some(path) = variable(HUB_TOKEN_VARIABLE) {
            return Self::of_file(Path::new(&path)).map(Some);
        }
        let token = variable(VARIABLE).or_else(|| {
            let text = fs::read_to_string(file?).ok()?;
            Some(text.trim().to_owned()).filter(|token| !token.is_empty())
        });
        token.map(|token| Self::new(&token, VARIABLE)).transpose()
    }

    /// A file that was named must have a token: without it a private model would look as if it did not exist.
    fn of_file(path: &Path) -> Result<Self, HubFailure> {
        let unreadable = |source| HubFailure::TokenFile { path: path.to_owned(), source };
        let text = fs::read_to_string(path).map_err(unreadable)?;
        match text.trim() {
            "" => Err(HubFailure::Setting {
                variable: HUB_TOKEN_VARIABLE,
                expected: "a file with a token, not an empty one",
            }),
            token => Self::new(token, HUB_TOKEN_VARIABLE),
        }
    }

    fn new(token: &str, variable: &'static str) -> Result<Self, HubFailure> {
        let mut header = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| HubFailure::Setting { variable, expected: "a token, without line breaks" })?;
        header.set_sensitive(true);
        Ok(Self(header))
    }

    /// The value of the `Authorization` header.
    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A variable of the environment, or what [`take_from_environment`] took out of it.
pub(super) fn variable(name: &str) -> Option<String> {
    match (name, TAKEN.get()) {
        (VARIABLE, Some(taken)) => taken.clone(),
        _ => env::var(name).ok(),
    }
}

/// Takes `HF_TOKEN` out of the environment of this process, and overwrites it where `/proc/self/environ` shows it.
///
/// To be called before the process has a second thread: the environment may not change while another thread reads it.
#[allow(unsafe_code)]
pub fn take_from_environment() {
    let token = env::var(VARIABLE).ok();
    if token.is_some() {
        // SAFETY: no other thread runs yet. `getenv` gives the value of the variable within the environment that the
        // process was started with, which is its own writable memory and ends with a zero byte.
        unsafe {
            let value = libc::getenv(c"HF_TOKEN".as_ptr());
            if !value.is_null() {
                let length = libc::strlen(value);
                std::ptr::write_bytes(value, b'*', length);
            }
            env::remove_var(VARIABLE);
        }
    }
    // A second call finds nothing and changes nothing.
    let _ = TAKEN.set(token);
}
