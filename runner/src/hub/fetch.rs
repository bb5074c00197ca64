//! Resolves a revision to a commit and puts the files that a model needs into the cache.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    HubModel, Settings,
    cache::{self, RepoCache},
    client::{Client, Listing},
    download,
    error::HubFailure,
    files::{self, Weights},
};

/// Fetches the files of a model that the cache lacks. Returns the model's folder.
pub(super) async fn fetch(model: &HubModel, settings: &Settings) -> Result<PathBuf, HubFailure> {
    let cache = RepoCache::new(&settings.cache, &model.repo);
    if let Some(commit) = cached(&cache, model, settings)? {
        return Ok(cache.snapshot(&commit));
    }
    let client = Client::new(settings, &model.repo)?;
    let listing = client.list(&model.revision).await?;
    let commit = &listing.commit;
    if !cache.is_complete(commit)? {
        tracing::info!(model = model.model, repo = model.repo, commit, "fetching from the hub");
        let mut sizes = BTreeMap::new();
        let needed = needed_files(&client, &listing).await?;
        for name in needed.settings.into_iter().chain(needed.weights) {
            let size = download::file(&client, &cache, commit, &name).await?;
            sizes.insert(name, size);
        }
        cache.record_files(commit, &sizes);
    }
    cache.record_ref(&model.revision, commit);
    Ok(cache.snapshot(commit))
}

/// Fetches the settings of a model that the cache lacks, without its weights. Returns the model's folder, and whether the cache
/// has the weights too.
pub(super) async fn fetch_settings(model: &HubModel, settings: &Settings) -> Result<(PathBuf, bool), HubFailure> {
    let cache = RepoCache::new(&settings.cache, &model.repo);
    if let Some(commit) = cached(&cache, model, settings)? {
        return Ok((cache.snapshot(&commit), true));
    }
    let client = Client::new(settings, &model.repo)?;
    let listing = client.list(&model.revision).await?;
    let commit = &listing.commit;
    let is_complete = cache.is_complete(commit)?;
    if !is_complete {
        for name in needed_files(&client, &listing).await?.settings {
            download::file(&client, &cache, commit, &name).await?;
        }
    }
    Ok((cache.snapshot(commit), is_complete))
}

/// Checks that a model is available, without fetching its weights. Returns the commit.
pub(super) async fn check(model: &HubModel, settings: &Settings) -> Result<String, HubFailure> {
    let cache = RepoCache::new(&settings.cache, &model.repo);
    if let Some(commit) = cached(&cache, model, settings)? {
        return Ok(commit);
    }
    let client = Client::new(settings, &model.repo)?;
    let listing = client.list(&model.revision).await?;
    if !cache.is_complete(&listing.commit)? {
        // The list of a gated repository is public, its files are not.
        if let Some(weights) = needed_files(&client, &listing).await?.weights.last() {
            client.metadata(&listing.commit, weights).await?;
        }
    }
    cache.record_ref(&model.revision, &listing.commit);
    Ok(listing.commit)
}

/// The commit of the model if it is complete in the cache; `None` if the hub must be asked. A branch or a tag is only resolved
/// from the cache if the hub is disabled, because it may have moved.
///
/// # Errors
/// If the hub is disabled and the cache lacks the model.
fn cached(cache: &RepoCache, model: &HubModel, settings: &Settings) -> Result<Option<String>, HubFailure> {
    let is_commit = cache::is_commit(&model.revision);
    let commit = if is_commit { Some(model.revision.clone()) } else { cache.cached_ref(&model.revision)? };
    if !settings.offline {
        let is_complete = |commit: &String| if is_commit { cache.is_complete(commit) } else { Ok(false) };
        let complete = commit.as_ref().map(is_complete).transpose()? == Some(true);
        return Ok(commit.filter(|_| complete));
    }
    // Other programs fill the cache too, without a record of the complete files.
    match commit {
        Some(commit) if cache.is_complete(&commit)? || cache.has_weights(&commit)? => Ok(Some(commit)),
        _ => Err(HubFailure::Offline { cache: settings.cache.clone() }),
    }
}

/// The files that a model needs.
struct Needed {
    settings: Vec<String>,
    weights: Vec<String>,
}

/// The files that a model needs.
///
/// # Errors
/// If the repository lacks a file that every model has, or has its weights only as a pickle.
async fn needed_files(client: &Client, listing: &Listing) -> Result<Needed, HubFailure> {
    let Listing { commit, files: listed } = listing;
    let invalid = |file: &str| {
        let file = file.to_owned();
        move |source| HubFailure::Invalid { file, source }
    };
    let modules = match listed.get(files::MODULES) {
        Some(file) => Some(client.read(commit, file).await?),
        None => None,
    };
    let folders = files::folders(modules.as_deref()).map_err(invalid(files::MODULES))?;
    let needed = files::settings(&folders, listed);
    let mut weights = Vec::new();
    for folder in &folders {
        match files::weights(folder, listed) {
            Weights::Whole(file) => weights.push(file),
            Weights::Sharded(index) => {
                let shards = files::shards(&index, &client.read(commit, &index).await?).map_err(invalid(&index))?;
                if let Some(missing) = shards.difference(listed).next() {
                    return Err(HubFailure::MissingFile { file: missing.clone() });
                }
                weights.push(index);
                weights.extend(shards);
            }
            Weights::Pickled(file) => return Err(HubFailure::Pickle { file }),
            Weights::None => {}
        }
    }
    // A module's weights may come without a configuration, those in the root may not.
    let needs_config = !files::is_static(modules.as_deref()) && weights.iter().any(|file| files::name(file) == file);
    let missing = [
        (files::WEIGHTS, weights.is_empty()),
        (files::CONFIG, needs_config && !listed.contains(files::CONFIG)),
        (files::TOKENIZER, !needed.iter().any(|file| files::name(file) == files::TOKENIZER)),
    ];
    if let Some((file, _)) = missing.into_iter().find(|(_, is_missing)| *is_missing) {
        return Err(HubFailure::MissingFile { file: file.to_owned() });
    }
    Ok(Needed { settings: needed, weights })
}
