//! The hub's routes: the files of a revision, what is known of a file, its bytes from an offset on.

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
    error::{HubFailure, What},
    retry::patiently,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest silence in the middle of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest file that is read into memory.
const MOST_IN_MEMORY: usize = 16 << 20;

/// The files of a commit.
#[derive(Debug)]
pub struct Listing {
    /// The commit, 40 hexadecimal digits.
    pub commit: String,
    /// Paths below the root of the repository.
    pub files: BTreeSet<String>,
}

/// What the hub says about a file.
#[derive(Debug)]
pub struct Head {
    /// What the content is stored under.
    pub etag: String,
    /// In bytes.
    pub size: u64,
}

impl Head {
    /// The sha256 of the content in hexadecimal, where the hub stores it under that: of all large files.
    pub fn sha256(&self) -> Option<&str> {
        let is_sha256 = self.etag.len() == 64 && self.etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_sha256.then_some(self.etag.as_str())
    }
}

/// A repository of a hub.
pub struct Client {
    /// Follows every redirect; the token stays with the host that it was given for.
    content: reqwest::Client,
    /// Stops where another host goes on, so that what the hub says about a file is seen.
    head: reqwest::Client,
    token: Option<HeaderValue>,
    endpoint: Url,
    repo: String,
}

impl Client {
    /// A client; it connects at the first request.
    pub fn new(settings: &Settings, repo: &str) -> Result<Self, HubFailure> {
        // Whoever came first has chosen the same provider.
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
            head: build(Policy::custom(within_the_host))?,
            token: settings.token.as_ref().map(Token::header),
            endpoint: settings.endpoint.clone(),
            repo: repo.to_owned(),
        })
    }

    /// The commit that a revision names, and its files.
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
        let text = patiently(async || self.read_all(url.clone(), What::Revision).await).await?;
        let malformed = |why| HubFailure::Malformed { what: What::Revision, why };
        let Info { sha: commit, siblings } =
            serde_json::from_slice(&text).map_err(|_| malformed("no sha and siblings in JSON"))?;
        if !is_commit(&commit) {
            return Err(malformed("sha is no commit"));
        }
        // They become paths below the cache.
        let files = siblings.into_iter().map(|sibling| sibling.rfilename).filter(|path| is_below(path)).collect();
        Ok(Listing { commit, files })
    }

    /// What the hub says about a file.
    pub async fn head(&self, commit: &str, file: &str) -> Result<Head, HubFailure> {
        let url = self.file_url(commit, file);
        patiently(async || {
            let what = What::File(file.to_owned());
            let response = self.send(&self.head, Method::HEAD, url.clone(), None, &what).await?;
            let headers = response.headers();
            let malformed = |why| HubFailure::Malformed { what: what.clone(), why };
            let etag = text(headers, "x-linked-etag").or_else(|| text(headers, ETAG.as_str()));
            let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"').to_owned());
            let etag = etag.filter(|etag| is_file_name(etag)).ok_or_else(|| malformed("no ETag"))?;
            let size = text(headers, "x-linked-size").or_else(|| text(headers, CONTENT_LENGTH.as_str()));
            let size = size.and_then(|size| size.parse().ok()).ok_or_else(|| malformed("no size"))?;
            Ok(Head { etag, size })
        })
        .await
    }

    /// A small file.
    pub async fn read(&self, commit: &str, file: &str) -> Result<Vec<u8>, HubFailure> {
        let url = self.file_url(commit, file);
        patiently(async || self.read_all(url.clone(), What::File(file.to_owned())).await).await
    }

    /// The bytes of a file from an offset on, where the hub agrees, else from the beginning; the offset says which.
    /// One try: whoever writes the bytes knows where to go on.
    pub async fn open(&self, commit: &str, file: &str, offset: u64) -> Result<(u64, Response), HubFailure> {
        let url = self.file_url(commit, file);
        let what = What::File(file.to_owned());
        let range = (offset > 0).then(|| format!("bytes={offset}-"));
        let response = self.send(&self.content, Method::GET, url, range, &what).await?;
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok((0, response));
        }
        let given = text(response.headers(), CONTENT_RANGE.as_str()).unwrap_or_default();
        if given.starts_with(&format!("bytes {offset}-")) {
            Ok((offset, response))
        } else {
            Err(HubFailure::Malformed { what, why: "another range than asked for" })
        }
    }

    async fn read_all(&self, url: Url, what: What) -> Result<Vec<u8>, HubFailure> {
        let mut response = self.send(&self.content, Method::GET, url, None, &what).await?;
        let mut bytes = Vec::new();
        loop {
            let unreachable =
                |source: reqwest::Error| HubFailure::Unreachable { what: what.clone(), source: source.without_url() };
            match response.chunk().await.map_err(unreachable)? {
                Some(chunk) => bytes.extend_from_slice(&chunk),
                None => return Ok(bytes),
            }
            if bytes.len() > MOST_IN_MEMORY {
                return Err(HubFailure::Malformed { what, why: "far too long" });
            }
        }
    }

    /// Sends a request; an answer that is no success is a failure.
    async fn send(
        &self,
        client: &reqwest::Client,
        method: Method,
        url: Url,
        range: Option<String>,
        what: &What,
    ) -> Result<Response, HubFailure> {
        let with = |request: RequestBuilder, name, value: Option<HeaderValue>| match value {
            Some(value) => request.header(name, value),
            None => request,
        };
        let head = method == Method::HEAD;
        let request = with(client.request(method, url), AUTHORIZATION, self.token.clone());
        let request = with(request, RANGE, range.and_then(|range| range.try_into().ok()));
        let response = request.send().await.map_err(|source| {
            // The URL of a storage behind the hub may be signed.
            HubFailure::Unreachable { what: what.clone(), source: source.without_url() }
        })?;
        let status = response.status();
        if status.is_success() || head && status.is_redirection() {
            return Ok(response);
        }
        if response.url().origin() != self.endpoint.origin() {
            // What the storage behind the hub refuses, the hub may grant with a new URL.
            return Err(HubFailure::Failing { what: what.clone(), status: status.as_u16() });
        }
        Err(self.failure(status, response.headers(), what.clone()))
    }

    fn failure(&self, status: StatusCode, headers: &HeaderMap, what: What) -> HubFailure {
        let code = text(headers, "x-error-code").unwrap_or_default();
        let gated = code == "GatedRepo";
        let status = status.as_u16();
        match (status, what) {
            (401 | 403, what) => {
                let hint = match (gated, self.token.is_some()) {
                    (true, false) => {
                        "the repository is gated: accept its terms and set HF_TOKEN to a token of that account"
                    }
                    (true, true) => "the repository is gated: the account of HF_TOKEN has to accept its terms",
                    (false, false) => {
                        "the repository is private or does not exist: check its name, or set HF_TOKEN to a token that may \
                         read it"
                    }
                    (false, true) => "HF_TOKEN is not valid or may not read the repository, or it does not exist",
                };
                HubFailure::Denied { what, status, hint }
            }
            (404, What::File(file)) => HubFailure::Lacks { file },
            (404, What::Revision) if code == "RevisionNotFound" => HubFailure::NoRevision,
            (404, What::Revision) => HubFailure::NoRepository,
            (429, what) => {
                let after =
                    text(headers, RETRY_AFTER.as_str()).and_then(|text| text.parse().ok()).map(Duration::from_secs);
                HubFailure::Busy { what, after }
            }
            (408 | 500.., what) => HubFailure::Failing { what, status },
            (_, what) => HubFailure::Refused { what, status },
        }
    }

    fn file_url(&self, commit: &str, file: &str) -> Url {
        let mut url = self.url(&[], &["resolve", commit]);
        url.path_segments_mut().expect("the endpoint has a host").extend(file.split('/'));
        url
    }

    /// The endpoint, `before`, the repository, `after`. A revision with `/` stays one segment.
    fn url(&self, before: &[&str], after: &[&str]) -> Url {
        let mut url = self.endpoint.clone();
        let segments = before.iter().copied().chain(self.repo.split('/')).chain(after.iter().copied());
        url.path_segments_mut().expect("the endpoint has a host").pop_if_empty().extend(segments);
        url
    }
}

/// Follows a repository that was renamed, and no storage behind the hub.
fn within_the_host(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    const MOST: usize = 5;
    let from = attempt.previous().last().map(Url::origin);
    if from == Some(attempt.url().origin()) && attempt.previous().len() <= MOST {
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
