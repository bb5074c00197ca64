//! From a revision to the files of a model in the cache.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    HubModel, Settings,
    cache::{self, RepoCache},
    client::{Client, Listing},
    download,
    error::HubFailure,
    files::{self, Weights},
};

/// Fetches what the cache lacks of a model; the answer is its folder.
pub(super) async fn fetch(wanted: &HubModel, settings: &Settings) -> Result<PathBuf, HubFailure> {
    let cache = RepoCache::new(&settings.cache, &wanted.repo);
    if let Some(commit) = cached(&cache, wanted, settings)? {
        return Ok(cache.snapshot(&commit));
    }
    let client = Client::new(settings, &wanted.repo)?;
    let listing = client.list(&wanted.revision).await?;
    let commit = &listing.commit;
    if !cache.is_complete(commit) {
        tracing::info!(model = wanted.model, repo = wanted.repo, commit, "fetching from the hub");
        let mut sizes = BTreeMap::new();
        for name in needed(&client, &listing).await? {
            let size = download::file(&client, &cache, commit, &name).await?;
            sizes.insert(name, size);
        }
        cache.record(commit, &sizes);
    }
    cache.refer(&wanted.revision, commit);
    Ok(cache.snapshot(commit))
}

/// Finds out whether a model can be had; the answer is the commit.
pub(super) async fn check(wanted: &HubModel, settings: &Settings) -> Result<String, HubFailure> {
    let cache = RepoCache::new(&settings.cache, &wanted.repo);
    if let Some(commit) = cached(&cache, wanted, settings)? {
        return Ok(commit);
    }
    let client = Client::new(settings, &wanted.repo)?;
    let listing = client.list(&wanted.revision).await?;
    if !cache.is_complete(&listing.commit) {
        // Everybody may see the list of a gated repository, but not its files.
        if let Some(weights) = needed(&client, &listing).await?.last() {
            client.head(&listing.commit, weights).await?;
        }
    }
    cache.refer(&wanted.revision, &listing.commit);
    Ok(listing.commit)
}

/// The commit in the cache, where the hub need not be asked, or must not be. A branch or a tag may have moved.
fn cached(cache: &RepoCache, wanted: &HubModel, settings: &Settings) -> Result<Option<String>, HubFailure> {
    let is_commit = cache::is_commit(&wanted.revision);
    let commit = if is_commit { Some(wanted.revision.clone()) } else { cache.referred(&wanted.revision) };
    if !settings.offline {
        return Ok(commit.filter(|commit| is_commit && cache.is_complete(commit)));
    }
    // Other programs fill the cache too, and keep no record of what is complete.
    commit
        .filter(|commit| cache.is_complete(commit) || cache.has_weights(commit))
        .map(Some)
        .ok_or_else(|| HubFailure::Offline { cache: settings.cache.clone() })
}

/// The files that a model needs, the weights of each folder after everything else.
///
/// # Errors
/// If the repository lacks what every model has, or has weights as a pickle alone.
async fn needed(client: &Client, listing: &Listing) -> Result<Vec<String>, HubFailure> {
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
    let mut needed = files::settings(&folders, listed);
    let mut weights = Vec::new();
    for folder in &folders {
        match files::weights(folder, listed) {
            Weights::Whole(file) => weights.push(file),
            Weights::Sharded(index) => {
                let shards = files::shards(&index, &client.read(commit, &index).await?).map_err(invalid(&index))?;
                if let Some(missing) = shards.difference(listed).next() {
                    return Err(HubFailure::Lacks { file: missing.clone() });
                }
                weights.push(index);
                weights.extend(shards);
            }
            Weights::Pickled(file) => return Err(HubFailure::Pickle { file }),
            Weights::None => {}
        }
    }
    // The weights of a module may do without a configuration, those of the root never do.
    let needs_config = weights.iter().any(|file| files::name(file) == file);
    let lacks = [
        (files::WEIGHTS, weights.is_empty()),
        (files::CONFIG, needs_config && !listed.contains(files::CONFIG)),
        (files::TOKENIZER, !needed.iter().any(|file| files::name(file) == files::TOKENIZER)),
    ];
    if let Some((file, _)) = lacks.into_iter().find(|(_, lacks)| *lacks) {
        return Err(HubFailure::Lacks { file: file.to_owned() });
    }
    needed.extend(weights);
    Ok(needed)
}
