//! Models of a hub: `hf://owner/name@revision` → a folder of the cache, complete and verified.
//!
//! The revision is resolved to a commit, the files that a model needs are picked from the commit's list, and each one
//! comes into the cache under its checksum. A commit never changes: what the cache holds of it is not asked for again.

mod cache;
mod client;
mod download;
mod error;
mod fetch;
mod files;
mod retry;
mod settings;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
    time::Duration,
};

use crds::{
    contract::{Place, RunnerConfig},
    v1alpha1::ModelSource,
};

use self::error::Problem;
use crate::{error::Result, interrupt::Interrupt, store};

pub use self::{
    error::HubError,
    settings::{Settings, Token},
};

/// How often a fetch looks whether it was told to stop.
const STOP_INTERVAL: Duration = Duration::from_millis(100);

/// The folder of a model: its own, or for a model of a hub the cache's, once everything that is missing is fetched.
pub fn folder(model: &str, source: &Place, interrupt: &Interrupt) -> Result<PathBuf> {
    match Wanted::of(model, source) {
        Some(wanted) => Ok(wanted.settings().and_then(|settings| wanted.fetch(&settings, interrupt))?),
        None => Ok(PathBuf::from(&source.path)),
    }
}

/// The commits that the revisions of hub models name now, by the name of the model. Finds out, with a few small
/// requests and before any weights are fetched, that a model cannot be had.
pub fn commits(config: &RunnerConfig, interrupt: &Interrupt) -> Result<BTreeMap<String, String>> {
    let dense = config.dense.iter().map(|model| (&model.name, &model.source, model.optional));
    let sparse = config.sparse.iter().map(|model| (&model.name, &model.source, model.optional));
    let reranker = config.reranker.iter().map(|model| (&model.name, &model.source, model.optional));
    let mut commits = BTreeMap::new();
    for (name, source, optional) in dense.chain(sparse).chain(reranker) {
        let Some(wanted) = Wanted::of(name, source) else { continue };
        match wanted.settings().and_then(|settings| wanted.check(&settings, interrupt)) {
            Ok(commit) => {
                commits.insert(name.clone(), commit);
            }
            // Whoever uses it records the fallback.
            Err(error) if optional => tracing::warn!(model = name, "an optional model cannot be had: {error}"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(commits)
}

/// The place with the revision of a hub model replaced by a commit.
pub fn pinned(source: &Place, commit: &str) -> Place {
    match source.uri.parse() {
        Ok(ModelSource::Hub { repo, .. }) => {
            let pinned = ModelSource::Hub { repo, revision: commit.to_owned() };
            Place { path: source.path.clone(), uri: pinned.to_string() }
        }
        _ => source.clone(),
    }
}

/// The place at the commit that a summary recorded, where both are of one repository.
pub fn recorded(source: &Place, uri: &str) -> Place {
    match (source.uri.parse(), uri.parse()) {
        (Ok(ModelSource::Hub { repo, .. }), Ok(ModelSource::Hub { repo: same, revision })) if repo == same => {
            pinned(source, &revision)
        }
        _ => source.clone(),
    }
}

/// A repository at a revision, and the model that it is wanted for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The name of the model in the run.
    pub model: String,
    /// `owner/name`.
    pub repo: String,
    /// A commit, tag or branch.
    pub revision: String,
}

impl Wanted {
    fn of(model: &str, source: &Place) -> Option<Self> {
        match source.uri.parse() {
            Ok(ModelSource::Hub { repo, revision }) => Some(Self { model: model.to_owned(), repo, revision }),
            _ => None,
        }
    }

    /// Fetches what the cache lacks of the model; the answer is its folder.
    pub fn fetch(&self, settings: &Settings, interrupt: &Interrupt) -> Result<PathBuf, HubError> {
        self.run(interrupt, fetch::fetch(self, settings))
    }

    /// Finds out whether the model can be had, without its weights; the answer is the commit.
    pub fn check(&self, settings: &Settings, interrupt: &Interrupt) -> Result<String, HubError> {
        self.run(interrupt, fetch::check(self, settings))
    }

    fn settings(&self) -> Result<Settings, HubError> {
        Settings::from_env().map_err(|problem| self.error(problem))
    }

    /// Runs the work until it is done or the process is told to stop; a file that is not complete goes on next time.
    fn run<T>(&self, interrupt: &Interrupt, work: impl Future<Output = Result<T, Problem>>) -> Result<T, HubError> {
        let done = store::runtime().block_on(async {
            tokio::select! {
                done = work => done,
                () = stopped(interrupt.flag()) => Err(Problem::Interrupted),
            }
        });
        done.map_err(|problem| self.error(problem))
    }

    fn error(&self, problem: Problem) -> HubError {
        let source = ModelSource::Hub { repo: self.repo.clone(), revision: self.revision.clone() };
        HubError { model: self.model.clone(), uri: source.to_string(), problem }
    }
}

async fn stopped(flag: Arc<AtomicBool>) {
    while !flag.load(Ordering::Relaxed) {
        tokio::time::sleep(STOP_INTERVAL).await;
    }
}
