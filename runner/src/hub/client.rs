//! The hub's HTTP routes: the files of a revision, the ETag and size of a file, and its bytes from an offset.

use std::{
    collections::BTreeSet,
    path::{Component, Path},
    time::Duration,
};

use reqwest::{
    Method, RequestBuilder, Response, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, RANGE, RETRY_AFTER},
    redirect::{Attempt, Policy},
};
use serde::Deserialize;

use super::{
    Settings, Token,
    cache::is_commit,
    error::{HubFailure, Resource},
    retry::with_retries,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest pause within a response.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest response that is read into memory, in bytes.
const MAX_IN_MEMORY: usize = 16 << 20;

/// The files of a commit.
#[derive(Debug)]
pub struct Listing {
    /// The commit, 40 hexadecimal digits.
    pub commit: String,
    /// Paths below the root of the repository.
    pub files: BTreeSet<String>,
}

/// The metadata of a file, from the headers of the hub.
#[derive(Debug)]
pub struct FileMetadata {
    /// The key under which the hub stores the content.
    pub etag: String,
    /// The size in bytes.
    pub size: u64,
}

impl FileMetadata {
    /// The sha256 of the content in hexadecimal; `None` for small files, whose ETag is another checksum.
    pub fn sha256(&self) -> Option<&str> {
        let is_sha256 = self.etag.len() == 64 && self.etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_sha256.then_some(self.etag.as_str())
    }
}

/// A repository of a hub.
pub struct Client {
    /// Follows every redirect; the token is sent to the hub's host only.
    content: reqwest::Client,
    /// Does not follow redirects to another host, because only the hub's own response has the file's metadata.
    metadata: reqwest::Client,
    token: Option<HeaderValue>,
    endpoint: Url,
    repo: String,
}

impl Client {
    /// A client; it connects at the first request.
    pub fn new(settings: &Settings, repo: &str) -> Result<Self, HubFailure> {
        // An error means that the provider is already installed; all callers install the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let build = |policy: Policy| {
            reqwest::Client::builder()
                .user_agent(concat!("embedrun/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT_TIMEOUT)
                .read_timeout(READ_TIMEOUT)
                .redirect(policy)
                .build()
                .map_err(|source| HubFailure::Client { source })
        };
        Ok(Self {
            content: build(Policy::default())?,
            metadata: build(Policy::custom(within_the_host))?,
            token: settings.token.as_ref().map(Token::header),
            endpoint: settings.endpoint.clone(),
            repo: repo.to_owned(),
        })
    }

    /// The commit that a revision resolves to, and its files.
    pub async fn list(&self, revision: &str) -> Result<Listing, HubFailure> {
        #[derive(Deserialize)]
        struct Info {
            sha: String,
            siblings: Vec<Sibling>,
        }
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
        }
        let url = self.url(&["api", "models"], &["revision", revision]);
        let text = with_retries(async || self.read_all(url.clone(), Resource::Revision).await).await?;
        let malformed = |why| HubFailure::Malformed { resource: Resource::Revision, why };
        let Info { sha: commit, siblings } =
            serde_json::from_slice(&text).map_err(|_| malformed("not JSON with sha and siblings"))?;
        if !is_commit(&commit) {
            return Err(malformed("sha is not a commit"));
        }
        // The names become paths below the cache folder, so they must not leave it.
        let files = siblings.into_iter().map(|sibling| sibling.rfilename).filter(|path| is_below(path)).collect();
        Ok(Listing { commit, files })
    }

    /// The metadata of a file.
    pub async fn metadata(&self, commit: &str, file: &str) -> Result<FileMetadata, HubFailure> {
        let url = self.file_url(commit, file);
        with_retries(async || {
            let resource = Resource::File(file.to_owned());
            let response = self.send(&self.metadata, Method::HEAD, url.clone(), None, &resource).await?;
            let headers = response.headers();
            let malformed = |why| HubFailure::Malformed { resource: resource.clone(), why };
            let etag = text(headers, "x-linked-etag").or_else(|| text(headers, ETAG.as_str()));
            let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"').to_owned());
            let etag = etag.filter(|etag| is_file_name(etag)).ok_or_else(|| malformed("no ETag"))?;
            let size = text(headers, "x-linked-size").or_else(|| text(headers, CONTENT_LENGTH.as_str()));
            let size = size.and_then(|size| size.parse().ok()).ok_or_else(|| malformed("no size"))?;
            Ok(FileMetadata { etag, size })
        })
        .await
    }

    /// The content of a small file.
    pub async fn read(&self, commit: &str, file: &str) -> Result<Vec<u8>, HubFailure> {
        let url = self.file_url(commit, file);
        with_retries(async || self.read_all(url.clone(), Resource::File(file.to_owned())).await).await
    }

    /// Requests the bytes of a file from `offset` on. Returns the offset at which the response starts: `offset`, or 0 if the
    /// hub does not support ranges. There are no retries here, because only the caller knows how far it has got.
    pub async fn open(&self, commit: &str, file: &str, offset: u64) -> Result<(u64, Response), HubFailure> {
        let url = self.file_url(commit, file);
        let resource = Resource::File(file.to_owned());
        let range = (offset > 0).then(|| format!("bytes={offset}-"));
        let response = self.send(&self.content, Method::GET, url, range, &resource).await?;
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok((0, response));
        }
        let content_range = text(response.headers(), CONTENT_RANGE.as_str()).unwrap_or_default();
        if content_range.starts_with(&format!("bytes {offset}-")) {
            Ok((offset, response))
        } else {
            Err(HubFailure::Malformed { resource, why: "another range than requested" })
        }
    }

    async fn read_all(&self, url: Url, resource: Resource) -> Result<Vec<u8>, HubFailure> {
        let mut response = self.send(&self.content, Method::GET, url, None, &resource).await?;
        let mut bytes = Vec::new();
        loop {
            let unreachable = |source: reqwest::Error| HubFailure::Unreachable {
                resource: resource.clone(),
                source: source.without_url(),
            };
            match response.chunk().await.map_err(unreachable)? {
                Some(chunk) => bytes.extend_from_slice(&chunk),
                None => return Ok(bytes),
            }
            if bytes.len() > MAX_IN_MEMORY {
                return Err(HubFailure::Malformed { resource, why: "more than 16 MiB" });
            }
        }
    }

    /// Sends a request. A status that is not a success is a failure.
    async fn send(
        &self,
        client: &reqwest::Client,
        method: Method,
        url: Url,
        range: Option<String>,
        resource: &Resource,
    ) -> Result<Response, HubFailure> {
        let with_header = |request: RequestBuilder, name, value: Option<HeaderValue>| match value {
            Some(value) => request.header(name, value),
            None => request,
        };
        let head = method == Method::HEAD;
        let request = with_header(client.request(method, url), AUTHORIZATION, self.token.clone());
        let request = with_header(request, RANGE, range.and_then(|range| range.try_into().ok()));
        let response = request.send().await.map_err(|source| {
            // The URL of the storage behind the hub may contain a signature, which is a secret.
            HubFailure::Unreachable { resource: resource.clone(), source: source.without_url() }
        })?;
        let status = response.status();
        if status.is_success() || head && status.is_redirection() {
            return Ok(response);
        }
        if response.url().origin() != self.endpoint.origin() {
            // The storage behind the hub rejects expired URLs; a retry gets a new one from the hub.
            return Err(HubFailure::Failing { resource: resource.clone(), status: status.as_u16() });
        }
        Err(self.failure(status, response.headers(), resource.clone()))
    }

    fn failure(&self, status: StatusCode, headers: &HeaderMap, resource: Resource) -> HubFailure {
        let code = text(headers, "x-error-code").unwrap_or_default();
        let gated = code == "GatedRepo";
        let status = status.as_u16();
        match (status, resource) {
            (401 | 403, resource) => {
                let hint = match (gated, self.token.is_some()) {
                    (true, false) => {
                        "the repository is gated: accept its terms and give a token of that account (HF_TOKEN, or spec.hub.tokenSecretRef)"
                    }
                    (true, true) => "the repository is gated: accept its terms with the account of the token",
                    (false, false) => {
                        "the repository is private or does not exist: check its name, or give a token that may \
                         read it (HF_TOKEN, or spec.hub.tokenSecretRef)"
                    }
                    (false, true) => {
                        "the token is invalid or may not read the repository, or the repository does not exist: check both \
                         (HF_TOKEN, or spec.hub.tokenSecretRef)"
                    }
                };
                HubFailure::Denied { resource, status, hint }
            }
            (404, Resource::File(file)) => HubFailure::MissingFile { file },
            (404, Resource::Revision) if code == "RevisionNotFound" => HubFailure::NoRevision,
            (404, Resource::Revision) => HubFailure::NoRepository,
            (429, resource) => {
                let retry_after =
                    text(headers, RETRY_AFTER.as_str()).and_then(|text| text.parse().ok()).map(Duration::from_secs);
                HubFailure::RateLimited { resource, retry_after }
            }
            (408 | 500.., resource) => HubFailure::Failing { resource, status },
            (_, resource) => HubFailure::UnexpectedStatus { resource, status },
        }
    }

    fn file_url(&self, commit: &str, file: &str) -> Url {
        let mut url = self.url(&[], &["resolve", commit]);
        url.path_segments_mut().expect("the endpoint has a host").extend(file.split('/'));
        url
    }

    /// The URL of the endpoint, the segments `before`, the repository, and the segments `after`. A revision with `/` stays one
    /// segment.
    fn url(&self, before: &[&str], after: &[&str]) -> Url {
        let mut url = self.endpoint.clone();
        let segments = before.iter().copied().chain(self.repo.split('/')).chain(after.iter().copied());
        url.path_segments_mut().expect("the endpoint has a host").pop_if_empty().extend(segments);
        url
    }
}

/// Follows redirects on the hub's own host, as for a renamed repository, but not to the storage behind the hub.
fn within_the_host(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    const MAX_REDIRECTS: usize = 5;
    let from = attempt.previous().last().map(Url::origin);
    if from == Some(attempt.url().origin()) && attempt.previous().len() <= MAX_REDIRECTS {
        attempt.follow()
    } else {
        attempt.stop()
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn is_file_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn is_below(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|component| matches!(component, Component::Normal(_)))
}
