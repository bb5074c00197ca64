//! A hub on loopback: the routes of the real one with its storage on another port, the faults that a test asks for,
//! and a memory of every request.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs, io,
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, Method, Response, StatusCode, header},
};
use futures::{StreamExt, stream};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::runtime::{Builder, Runtime};

/// The only repository.
pub const REPO: &str = "acme/tiny";
/// Its name before it was renamed.
pub const RENAMED: &str = "acme/old";

/// What a storage URL is signed with.
pub const SIGNATURE: &str = "signed-for-whoever-asked";

/// A hub that runs as long as this value lives.
pub struct Hub {
    pub url: String,
    pub address: SocketAddr,
    state: Arc<Shared>,
    runtime: Runtime,
}

/// A request that the hub or its storage has seen.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    /// Whether it was the storage behind the hub.
    pub storage: bool,
    pub path: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
}

impl Seen {
    /// Whether it asked for content, and not only about it.
    pub fn is_download(&self) -> bool {
        self.method == Method::GET && !self.path.starts_with("/api/") && (self.storage || !is_large(&self.path))
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub enum Wrong {
    /// The answer is this status, with these headers.
    Status(u16, &'static [(&'static str, &'static str)]),
    /// The connection ends before this byte of the file.
    Cut(usize),
    /// The connection is silent from this byte of the file on.
    Silence(usize),
    /// A byte is another.
    Corrupt,
    /// The whole file is sent, whatever range was asked for.
    NoRanges,
}

/// Goes wrong for requests whose path contains `at`, so many `times`.
struct Fault {
    at: String,
    wrong: Wrong,
    times: usize,
}

#[derive(Default)]
struct Shared {
    storage: String,
    revisions: Mutex<BTreeMap<String, String>>,
    /// The files of each commit.
    commits: Mutex<BTreeMap<String, BTreeMap<String, Bytes>>>,
    faults: Mutex<Vec<Fault>>,
    seen: Mutex<Vec<Seen>>,
}

impl Hub {
    /// A hub without a commit.
    pub fn start() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listen = || {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            listener.set_nonblocking(true).expect("a socket");
            let address = listener.local_addr().expect("an address");
            (listener, address)
        };
        let ((hub, address), (storage, storage_address)) = (listen(), listen());
        let state = Arc::new(Shared { storage: format!("http://{storage_address}"), ..Shared::default() });
        let routers = [
            (hub, Router::new().fallback(answer).with_state(Arc::clone(&state))),
            (storage, Router::new().fallback(store).with_state(Arc::clone(&state))),
        ];
        for (listener, router) in routers {
            runtime.spawn(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                axum::serve(listener, router).await.expect("a server");
            });
        }
        Self { url: format!("http://{address}"), address, state, runtime }
    }

    /// Stops answering.
    pub fn stop(self) {
        self.runtime.shutdown_background();
    }

    /// Makes a commit of the files of a folder and lets `revision` name it; the answer is the commit.
    pub fn commit(&self, revision: &str, folder: &Path) -> String {
        let mut files = BTreeMap::new();
        collect(folder, folder, &mut files);
        let digest =
            files.iter().fold(Sha256::new(), |hash, (name, content)| hash.chain_update(name).chain_update(content));
        let commit = hex::encode(&digest.finalize()[..20]);
        self.state.commits.lock().expect("commits").insert(commit.clone(), files);
        self.state.revisions.lock().expect("revisions").insert(revision.into(), commit.clone());
        commit
    }

    /// Lets requests whose path contains `at` go wrong, so many `times`.
    pub fn fail(&self, at: &str, wrong: Wrong, times: usize) {
        self.state.faults.lock().expect("faults").push(Fault { at: at.into(), wrong, times });
    }

    /// Nothing goes wrong any more.
    pub fn heal(&self) {
        self.state.faults.lock().expect("faults").clear();
    }

    /// The requests since this was last asked.
    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.state.seen.lock().expect("requests"))
    }
}

fn collect(folder: &Path, root: &Path, files: &mut BTreeMap<String, Bytes>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        if entry.path().is_dir() {
            collect(&entry.path(), root, files);
        } else {
            let path = entry.path();
            let name = path.strip_prefix(root).expect("below").to_str().expect("UTF-8").to_owned();
            files.insert(name, fs::read(path).expect("a file").into());
        }
    }
}

/// Whether a file lies in the storage behind the hub.
fn is_large(path: &str) -> bool {
    let extension = Path::new(path).extension();
    extension.is_some_and(|extension| extension == "safetensors" || extension == "bin")
}

/// What content is stored under: its sha256 in the storage, something shorter in the repository itself.
pub fn etag(path: &str, content: &[u8]) -> String {
    let digest = hex::encode(Sha256::digest(content));
    if is_large(path) { digest } else { digest[..40].to_owned() }
}

type Answer = Response<Body>;

/// The hub's own routes.
async fn answer(State(state): State<Arc<Shared>>, request: Request) -> Answer {
    let path = state.note(&request, false);
    if let Some(Wrong::Status(status, headers)) = state.wrong(&path, |wrong| matches!(wrong, Wrong::Status(..))) {
        return respond(status, headers, Body::empty());
    }
    if path.contains(RENAMED) {
        return respond(307, &[("location", &path.replace(RENAMED, REPO))], Body::empty());
    }
    let missing = |code: &'static str| respond(404, &[("x-error-code", code)], Body::empty());
    if let Some(rest) = path.strip_prefix("/api/models/") {
        let Some(revision) = rest.strip_prefix(&format!("{REPO}/revision/")) else {
            return missing("RepoNotFound");
        };
        let Some((commit, files)) = state.find(&revision.replace("%2F", "/")) else {
            return missing("RevisionNotFound");
        };
        let siblings: Vec<_> = files.keys().map(|name| json!({"rfilename": name})).collect();
        let info = json!({"id": REPO, "sha": commit, "siblings": siblings});
        return respond(200, &[("content-type", "application/json")], info.to_string().into());
    }
    let Some((revision, file)) = path.strip_prefix(&format!("/{REPO}/resolve/")).and_then(|rest| rest.split_once('/'))
    else {
        return missing("RepoNotFound");
    };
    let Some((commit, files)) = state.find(revision) else { return missing("RevisionNotFound") };
    let Some(content) = files.get(file) else { return missing("EntryNotFound") };
    let etag = format!("\"{}\"", etag(file, content));
    let size = content.len().to_string();
    if is_large(file) {
        let location = format!("{}/{commit}/{file}?signature={SIGNATURE}", state.storage);
        let headers = [
            ("location", location.as_str()),
            ("x-repo-commit", &commit),
            ("x-linked-etag", &etag),
            ("x-linked-size", &size),
            // Of the answer itself, and not of the file.
            ("etag", "\"a-redirect\""),
        ];
        return respond(302, &headers, Body::empty());
    }
    if request.method() == Method::HEAD {
        return respond(200, &[("x-repo-commit", &commit), ("etag", &etag), ("content-length", &size)], Body::empty());
    }
    state.send(&path, content, request.headers())
}

/// The storage behind the hub, which knows a file by a signed URL.
async fn store(State(state): State<Arc<Shared>>, request: Request) -> Answer {
    let path = state.note(&request, true);
    if request.uri().query() != Some(&format!("signature={SIGNATURE}")) {
        return respond(403, &[], Body::empty());
    }
    let found = path.trim_start_matches('/').split_once('/').and_then(|(commit, file)| {
        let (_, files) = state.find(commit)?;
        files.get(file).cloned()
    });
    match found {
        Some(content) => state.send(&path, &content, request.headers()),
        None => respond(404, &[], Body::empty()),
    }
}

fn respond(status: u16, headers: &[(&str, &str)], body: Body) -> Answer {
    let response = Response::builder().status(status);
    let response = headers.iter().fold(response, |response, (name, value)| response.header(*name, *value));
    response.body(body).expect("a response")
}

impl Shared {
    fn note(&self, request: &Request, storage: bool) -> String {
        let header = |name| Some(request.headers().get(name)?.to_str().expect("ASCII").to_owned());
        let path = request.uri().path().to_owned();
        self.seen.lock().expect("requests").push(Seen {
            method: request.method().clone(),
            storage,
            path: path.clone(),
            range: header(header::RANGE),
            authorization: header(header::AUTHORIZATION),
        });
        path
    }

    /// The commit that a revision names, or that it is, and the files.
    fn find(&self, revision: &str) -> Option<(String, BTreeMap<String, Bytes>)> {
        let revisions = self.revisions.lock().expect("revisions");
        let commit = revisions.get(revision).map_or(revision, String::as_str);
        let files = self.commits.lock().expect("commits").get(commit)?.clone();
        Some((commit.to_owned(), files))
    }

    /// What goes wrong here and now, of the kind that is asked for.
    fn wrong(&self, path: &str, kind: impl Fn(&Wrong) -> bool) -> Option<Wrong> {
        let mut faults = self.faults.lock().expect("faults");
        let fault =
            faults.iter_mut().find(|fault| fault.times > 0 && path.contains(&fault.at) && kind(&fault.wrong))?;
        fault.times -= 1;
        Some(fault.wrong)
    }

    /// Content from the asked offset on, as far as nothing goes wrong.
    fn send(&self, path: &str, content: &Bytes, headers: &HeaderMap) -> Answer {
        let wrong = self.wrong(path, |wrong| !matches!(wrong, Wrong::Status(..)));
        let range = headers.get(header::RANGE).filter(|_| !matches!(wrong, Some(Wrong::NoRanges)));
        let offset = range.map_or(0, |range| {
            let range = range.to_str().expect("ASCII").strip_prefix("bytes=").expect("bytes");
            range.strip_suffix('-').expect("from an offset on").parse().expect("an offset")
        });
        let mut rest = content[offset..].to_vec();
        let body = match wrong {
            Some(Wrong::Cut(end)) => {
                rest.truncate(end.saturating_sub(offset));
                let pieces = [Ok(Bytes::from(rest)), Err(io::Error::other("cut"))];
                // The pause lets the bytes go out before the connection ends.
                Body::from_stream(stream::iter(pieces).then(async |piece| {
                    if piece.is_err() {
                        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    }
                    piece
                }))
            }
            Some(Wrong::Silence(end)) => {
                rest.truncate(end.saturating_sub(offset));
                let piece: Result<_, Infallible> = Ok(Bytes::from(rest));
                Body::from_stream(stream::iter([piece]).chain(stream::pending()))
            }
            Some(Wrong::Corrupt) => {
                *rest.last_mut().expect("a byte") ^= 1;
                Body::from(rest)
            }
            _ => Body::from(rest),
        };
        let length = (content.len() - offset).to_string();
        let last = content.len() - 1;
        let range = format!("bytes {offset}-{last}/{}", content.len());
        if offset > 0 {
            let status = StatusCode::PARTIAL_CONTENT.as_u16();
            respond(status, &[("content-length", &length), ("content-range", &range)], body)
        } else {
            respond(200, &[("content-length", &length)], body)
        }
    }
}
