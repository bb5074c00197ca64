//! The source of a model: a parsed URI.

use std::{fmt, str::FromStr};

/// The location of a model folder, parsed from a URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelSource {
    /// A repository of the Hugging Face hub at a revision.
    Hub {
        /// `owner/name`, or `name` for a repository without an owner.
        repo: String,
        /// A commit, tag or branch.
        revision: String,
    },
    /// A folder of a persistent volume claim.
    Claim {
        /// The name of the claim, in the namespace of the run.
        claim: String,
        /// The folder, relative to the root of the volume.
        path: String,
    },
    /// A folder of the runner's file system (in a cluster: of its image).
    File {
        /// The absolute path.
        path: String,
    },
}

/// A model URI that has none of the known forms.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{uri:?} is not a model source: write hf://owner/name@revision, pvc://claim/path or file:///path{hint}")]
pub struct ModelSourceError {
    uri: String,
    hint: &'static str,
}

impl FromStr for ModelSource {
    type Err = ModelSourceError;

    fn from_str(uri: &str) -> Result<Self, Self::Err> {
        let error = |hint| ModelSourceError { uri: uri.to_owned(), hint };
        let has_parent_segment = |path: &str| path.split('/').any(|segment| segment == "..");
        if let Some(rest) = uri.strip_prefix("hf://") {
            let (repo, revision) =
                rest.split_once('@').ok_or_else(|| error(" (@revision is missing: a hub model must be pinned)"))?;
            if !is_repo(repo) {
                return Err(error(" (owner and name may contain letters, digits, '-', '_' and '.')"));
            }
            // The revision is also a path in the cache; the name of a branch may contain '/'.
            if revision.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
                return Err(error(" (revision must be a commit, a tag or a branch)"));
            }
            return Ok(Self::Hub { repo: repo.to_owned(), revision: revision.to_owned() });
        }
        if let Some(rest) = uri.strip_prefix("pvc://") {
            let (claim, path) = rest.split_once('/').unwrap_or((rest, ""));
            if claim.is_empty() || has_parent_segment(path) {
                return Err(error(" (the claim must not be empty and the path must not contain '..')"));
            }
            return Ok(Self::Claim { claim: claim.to_owned(), path: path.to_owned() });
        }
        match uri.strip_prefix("file://") {
            Some(path) if path.starts_with('/') && !has_parent_segment(path) => {
                Ok(Self::File { path: path.to_owned() })
            }
            _ => Err(error("")),
        }
    }
}

/// Whether `repo` is `name` or `owner/name` with the characters that a hub allows.
fn is_repo(repo: &str) -> bool {
    let is_name = |name: &str| {
        !matches!(name, "" | "." | "..")
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    repo.split('/').count() <= 2 && repo.split('/').all(is_name)
}

impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub { repo, revision } => write!(f, "hf://{repo}@{revision}"),
            Self::Claim { claim, path } => write!(f, "pvc://{claim}/{path}"),
            Self::File { path } => write!(f, "file://{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_model_source_is_read_and_written_alike() {
        for uri in [
            "hf://sentence-transformers/all-MiniLM-L6-v2@c9745ed1",
            "hf://gpt2@refs/pr/1",
            "pvc://models/bge/small",
            "file:///models/x",
        ] {
            assert_eq!(uri.parse::<ModelSource>().map(|source| source.to_string()), Ok(uri.to_owned()));
        }
    }

    #[test]
    fn a_hub_model_without_a_revision_and_a_path_that_climbs_are_rejected() {
        for uri in [
            "hf://owner/name",
            "hf://@main",
            "hf://a/b/c@main",
            "hf://../b@main",
            "hf://a/b?x@main",
            "hf://a/b@../main",
            "hf://a/b@/main",
            "pvc:///x",
            "pvc://models/../etc",
            "file://relative",
            "/models/x",
            "",
        ] {
            let error = uri.parse::<ModelSource>().expect_err(uri);
            assert!(error.to_string().contains(&format!("{uri:?}")), "{error}");
        }
    }
}
