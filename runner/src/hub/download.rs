//! One file of a commit: fetched where it is missing, resumed where it was cut, used only once it is verified.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{
    cache::{RepoCache, make_parent},
    client::{Client, Head},
    error::HubFailure,
    retry::Retries,
};

/// Puts a file of a commit into the cache; the answer is its size in bytes.
pub async fn file(client: &Client, cache: &RepoCache, commit: &str, name: &str) -> Result<u64, HubFailure> {
    let head = client.head(commit, name).await?;
    let blob = cache.blob(&head.etag);
    // Another program may have put it there.
    if mismatch(&blob, &head).is_some() {
        let _lock = cache.lock(&head.etag).await?;
        if mismatch(&blob, &head).is_some() {
            let download = Download { client, commit, name, head: &head, part: part_of(&blob) };
            download.complete().await?;
            fs::rename(&download.part, &blob).map_err(|source| HubFailure::Cache { path: blob.clone(), source })?;
        }
    }
    cache.link(commit, name, &head.etag)?;
    Ok(head.size)
}

/// The part of a blob that has come already; the hub's libraries give it the same name.
fn part_of(blob: &Path) -> PathBuf {
    blob.with_added_extension("incomplete")
}

/// What is wrong with a file, if anything.
fn mismatch(path: &Path, head: &Head) -> Option<&'static str> {
    match fs::metadata(path) {
        Ok(found) if found.len() == head.size => {}
        Ok(found) if found.len() > head.size => return Some("it is longer"),
        _ => return Some("it is shorter"),
    }
    let expected = head.sha256()?;
    let found = sha256(path).unwrap_or_default();
    (found != expected).then_some("its sha256 is another")
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(hex::encode(hash.finalize()))
}

/// A file on its way.
struct Download<'a> {
    client: &'a Client,
    commit: &'a str,
    name: &'a str,
    head: &'a Head,
    part: PathBuf,
}

impl Download<'_> {
    /// Fetches until the file is whole and right. Progress renews the patience, so that a long file comes over a
    /// bad connection too.
    async fn complete(&self) -> Result<(), HubFailure> {
        tracing::info!(file = self.name, bytes = self.head.size, "fetching");
        make_parent(&self.part)?;
        let mut retries = Retries::new();
        let mut furthest = 0;
        loop {
            let failure = match self.go_on().await {
                Ok(()) => match mismatch(&self.part, self.head) {
                    None => return Ok(()),
                    Some(wrong) => {
                        fs::remove_file(&self.part).map_err(|source| self.unwritable(source))?;
                        HubFailure::Corrupt { file: self.name.to_owned(), wrong }
                    }
                },
                Err(failure) => failure,
            };
            let have = fs::metadata(&self.part).map_or(0, |part| part.len());
            if have > furthest {
                (furthest, retries) = (have, Retries::new());
            }
            retries.wait(failure).await?;
        }
    }

    /// Fetches what is missing, from one answer.
    async fn go_on(&self) -> Result<(), HubFailure> {
        let unwritable = |source| self.unwritable(source);
        let mut part = File::options().create(true).append(true).open(&self.part).map_err(unwritable)?;
        let there = part.metadata().map_err(unwritable)?.len();
        if there == self.head.size {
            return Ok(());
        }
        let offset = if there < self.head.size { there } else { 0 };
        let (mut have, mut response) = self.client.open(self.commit, self.name, offset).await?;
        part.set_len(have).map_err(unwritable)?;
        loop {
            match response.chunk().await {
                Ok(Some(bytes)) => {
                    part.write_all(&bytes).map_err(unwritable)?;
                    have += bytes.len() as u64;
                    // Whatever else comes, it is not this file.
                    if have > self.head.size {
                        return Ok(());
                    }
                }
                Ok(None) if have == self.head.size => {
                    return part.sync_all().map_err(unwritable);
                }
                Ok(None) => return Err(self.cut(have, None)),
                Err(source) => return Err(self.cut(have, Some(source.without_url()))),
            }
        }
    }

    fn cut(&self, have: u64, source: Option<reqwest::Error>) -> HubFailure {
        HubFailure::Cut { file: self.name.to_owned(), have, size: self.head.size, source }
    }

    fn unwritable(&self, source: io::Error) -> HubFailure {
        HubFailure::Cache { path: self.part.clone(), source }
    }
}
