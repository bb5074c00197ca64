//! Downloads one file of a commit into the cache: resumes a partial file, and uses it only after it is verified.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{
    cache::{RepoCache, create_parent},
    client::{Client, FileMetadata},
    error::HubFailure,
    retry::Retries,
};

/// Puts a file of a commit into the cache, unless it is cached already. Returns its size in bytes.
pub async fn file(client: &Client, cache: &RepoCache, commit: &str, name: &str) -> Result<u64, HubFailure> {
    let metadata = client.metadata(commit, name).await?;
    let blob = cache.blob(&metadata.etag);
    // Another program may have fetched it.
    if mismatch(&blob, &metadata).is_some() {
        let _lock = cache.lock(&metadata.etag).await?;
        if mismatch(&blob, &metadata).is_some() {
            let download = Download { client, commit, name, metadata: &metadata, partial: partial_file(&blob) };
            download.complete().await?;
            fs::rename(&download.partial, &blob).map_err(|source| HubFailure::Cache { path: blob.clone(), source })?;
        }
    }
    cache.link(commit, name, &metadata.etag)?;
    Ok(metadata.size)
}

/// The file of an incomplete blob; it has the same name in the hub's own libraries.
fn partial_file(blob: &Path) -> PathBuf {
    blob.with_added_extension("incomplete")
}

/// How a file differs from the hub's metadata; `None` if it matches.
fn mismatch(path: &Path, expected: &FileMetadata) -> Option<&'static str> {
    match fs::metadata(path) {
        Ok(file) if file.len() == expected.size => {}
        Ok(file) if file.len() > expected.size => return Some("size is larger"),
        _ => return Some("size is smaller"),
    }
    let expected = expected.sha256()?;
    let actual = sha256(path).unwrap_or_default();
    (actual != expected).then_some("sha256 is other")
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(hex::encode(hash.finalize()))
}

/// The download of one file.
struct Download<'a> {
    client: &'a Client,
    commit: &'a str,
    name: &'a str,
    metadata: &'a FileMetadata,
    partial: PathBuf,
}

impl Download<'_> {
    /// Fetches until the file is complete and verified. Progress resets the retries, so that a large file also arrives over
    /// an unreliable connection.
    async fn complete(&self) -> Result<(), HubFailure> {
        tracing::info!(file = self.name, bytes = self.metadata.size, "fetching");
        create_parent(&self.partial)?;
        let mut retries = Retries::new();
        let mut furthest = 0;
        loop {
            let failure = match self.resume().await {
                Ok(()) => match mismatch(&self.partial, self.metadata) {
                    None => return Ok(()),
                    Some(mismatch) => {
                        fs::remove_file(&self.partial).map_err(|source| self.unwritable(source))?;
                        HubFailure::Corrupt { file: self.name.to_owned(), mismatch }
                    }
                },
                Err(failure) => failure,
            };
            let received = fs::metadata(&self.partial).map_or(0, |file| file.len());
            if received > furthest {
                (furthest, retries) = (received, Retries::new());
            }
            retries.wait(failure).await?;
        }
    }

    /// Fetches the missing bytes with one request.
    async fn resume(&self) -> Result<(), HubFailure> {
        let unwritable = |source| self.unwritable(source);
        let mut file = File::options().create(true).append(true).open(&self.partial).map_err(unwritable)?;
        let length = file.metadata().map_err(unwritable)?.len();
        if length == self.metadata.size {
            return Ok(());
        }
        let offset = if length < self.metadata.size { length } else { 0 };
        let (mut received, mut response) = self.client.open(self.commit, self.name, offset).await?;
        file.set_len(received).map_err(unwritable)?;
        loop {
            match response.chunk().await {
                Ok(Some(bytes)) => {
                    file.write_all(&bytes).map_err(unwritable)?;
                    received += bytes.len() as u64;
                    // The caller finds and removes a file that is too large.
                    if received > self.metadata.size {
                        return Ok(());
                    }
                }
                Ok(None) if received == self.metadata.size => {
                    return file.sync_all().map_err(unwritable);
                }
                Ok(None) => return Err(self.cut(received, None)),
                Err(source) => return Err(self.cut(received, Some(source.without_url()))),
            }
        }
    }

    fn cut(&self, received: u64, source: Option<reqwest::Error>) -> HubFailure {
        HubFailure::Cut { file: self.name.to_owned(), received, size: self.metadata.size, source }
    }

    fn unwritable(&self, source: io::Error) -> HubFailure {
        HubFailure::Cache { path: self.partial.clone(), source }
    }
}
