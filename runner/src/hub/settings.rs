//! The location of the hub and its cache, from the environment variables that the hub's own libraries read.

use std::path::PathBuf;

use reqwest::Url;

use super::{
    error::HubFailure,
    token::{self, Token},
};

const ENDPOINT: &str = "https://huggingface.co";

/// The values that enable a switch, in capitals.
const ON: [&str; 4] = ["1", "ON", "TRUE", "YES"];

/// The location of the hub and its cache.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The hub's URL.
    pub endpoint: Url,
    /// The token of an account; requests are anonymous without one.
    pub token: Option<Token>,
    /// The folder of the cache.
    pub cache: PathBuf,
    /// Whether requests to the hub are disabled.
    pub offline: bool,
}

impl Settings {
    /// `HF_ENDPOINT`; the file `EMBEDRUN_HUB_TOKEN_FILE`, `HF_TOKEN`, the file `HF_TOKEN_PATH`, or `token` in `HF_HOME`; `HF_HUB_CACHE`, or `hub` in
    /// `HF_HOME`; `HF_HUB_OFFLINE`. `HF_HOME` is `~/.cache/huggingface` when not set.
    pub(super) fn from_env() -> Result<Self, HubFailure> {
        Self::of_variables(token::variable)
    }

    fn of_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, HubFailure> {
        let variable =
            |name: &str| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let path = |name: &str| variable(name).map(PathBuf::from);
        let home = path("HF_HOME")
            .or_else(|| Some(path("XDG_CACHE_HOME")?.join("huggingface")))
            .or_else(|| Some(path("HOME")?.join(".cache/huggingface")));

        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into());
        let endpoint = Url::parse(&endpoint)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| HubFailure::Setting {
                variable: "HF_ENDPOINT",
                expected: "a URL like https://hub.example.com",
            })?;
        let cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(home.as_ref()?.join("hub")))
            .ok_or(HubFailure::Setting { variable: "HF_HOME", expected: "a folder for the cache of the hub" })?;
        let token_file = path("HF_TOKEN_PATH").or_else(|| Some(home?.join("token")));
        let token = Token::find(variable, token_file)?;
        let offline = variable("HF_HUB_OFFLINE").is_some_and(|value| ON.contains(&value.to_ascii_uppercase().as_str()));
        Ok(Self { endpoint, token, cache, offline })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings, HubFailure> {
        Settings::of_variables(|name| {
            let entry = variables.iter().find(|(variable, _)| *variable == name);
            entry.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_cache_is_in_the_folder_of_the_hubs_libraries() {
        let cache = |variables: &[(&str, &str)]| settings(variables).expect("settings").cache;
        assert_eq!(cache(&[("HOME", "/home/a")]), Path::new("/home/a/.cache/huggingface/hub"));
        assert_eq!(cache(&[("HOME", "/home/a"), ("XDG_CACHE_HOME", "/c")]), Path::new("/c/huggingface/hub"));
        assert_eq!(cache(&[("HOME", "/home/a"), ("HF_HOME", "/models")]), Path::new("/models/hub"));
        assert_eq!(cache(&[("HF_HOME", "/models"), ("HF_HUB_CACHE", "/hub")]), Path::new("/hub"));
        let error = settings(&[("HOME", "")]).expect_err("no place");
        assert!(error.to_string().contains("HF_HOME"), "{error}");
    }

    fn path(file: &tempfile::NamedTempFile) -> &str {
        file.path().to_str().expect("UTF-8")
    }

    #[test]
    fn the_token_is_the_variable_or_the_file_and_is_never_printed() {
        let home = tempfile::tempdir().expect("a folder");
        std::fs::write(home.path().join("token"), "from-file\n").expect("a file");
        let home = home.path().to_str().expect("UTF-8");
        let token = |variables: &[(&str, &str)]| {
            let token = settings(variables).expect("settings").token.expect("a token");
            assert!(!format!("{token:?} {:?}", token.header()).contains("from-"));
            token.header().to_str().expect("ASCII").to_owned()
        };
        assert_eq!(token(&[("HF_HOME", home)]), "Bearer from-file");
        assert_eq!(token(&[("HF_HOME", home), ("HF_TOKEN", "from-variable")]), "Bearer from-variable");
        assert!(settings(&[("HF_HOME", "/nowhere")]).expect("settings").token.is_none());
        let file = tempfile::NamedTempFile::new().expect("a file");
        let named = [("HF_HOME", home), ("HF_TOKEN", "from-variable"), ("EMBEDRUN_HUB_TOKEN_FILE", path(&file))];
        let error = settings(&named).expect_err("an empty file").to_string();
        assert!(error.contains("EMBEDRUN_HUB_TOKEN_FILE"), "{error}");
        std::fs::write(&file, "from-secret\n").expect("a file");
        assert_eq!(token(&named), "Bearer from-secret");
        let error = settings(&[("HF_HOME", home), ("EMBEDRUN_HUB_TOKEN_FILE", "/nowhere/token")]).expect_err("no file");
        let error = error.to_string();
        assert!(error.contains("EMBEDRUN_HUB_TOKEN_FILE") && error.contains("/nowhere/token"), "{error}");
        let error = settings(&[("HF_HOME", "/nowhere"), ("HF_TOKEN", "two\nlines")]).expect_err("no header");
        assert!(!format!("{error} {error:?}").contains("lines\""), "{error:?}");
    }

    #[test]
    fn offline_and_the_endpoint_are_read_strictly() {
        let home = ("HF_HOME", "/models");
        for (value, offline) in [("1", true), ("true", true), ("0", false), ("no", false)] {
            assert_eq!(settings(&[home, ("HF_HUB_OFFLINE", value)]).expect("settings").offline, offline, "{value}");
        }
        assert_eq!(settings(&[home]).expect("settings").endpoint.as_str(), "https://huggingface.co/");
        for endpoint in ["hub.example.com", "file:///hub"] {
            let error = settings(&[home, ("HF_ENDPOINT", endpoint)]).expect_err(endpoint);
            assert!(error.to_string().contains("HF_ENDPOINT"), "{error}");
        }
    }
}
