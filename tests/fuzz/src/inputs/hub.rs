//! What a hub answers, by a server on this machine.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{LazyLock, Mutex, PoisonError},
    thread,
};

use runner::{
    hub::{HubModel, Settings},
    process::interrupt::Interrupt,
};

use super::folder;

/// Between the parts of an input.
const BREAK: &[u8] = b"\n---\n";

/// What the server answers.
#[derive(Default)]
struct Answers {
    /// The commit and the files of a revision.
    revision: Vec<u8>,
    /// The headers about a file.
    headers: Vec<u8>,
    /// The content of a file.
    content: Vec<u8>,
}

static ANSWERS: LazyLock<Mutex<Answers>> = LazyLock::new(Mutex::default);

/// The answers of a hub: about a revision, the headers about a file, and its content, with a line of `---` between them.
pub fn hub(data: &[u8]) {
    static SERVER: LazyLock<String> = LazyLock::new(serve);
    let (revision, rest) = split(data);
    let (headers, content) = split(rest);
    *ANSWERS.lock().unwrap_or_else(PoisonError::into_inner) =
        Answers { revision: revision.to_vec(), headers: headers.to_vec(), content: content.to_vec() };
    let cache = folder().join("cache");
    let _ = fs::remove_dir_all(&cache);
    let settings =
        Settings { endpoint: SERVER.parse().expect("a URL"), token: None, cache: cache.clone(), offline: false };
    let model = HubModel { model: "tiny".into(), repo: "acme/tiny".into(), revision: "main".into() };
    if let Ok(fetched) = model.fetch(&settings, &Interrupt::default()) {
        assert!(fetched.starts_with(&cache), "{} is in the cache", fetched.display());
    }
    let outside = fs::read_dir(folder()).expect("a folder").flatten().map(|entry| entry.file_name());
    for name in outside {
        let known = ["cache", "source", "model", "run", "settings"].iter().any(|known| name == *known);
        assert!(known, "a hub wrote {}", name.display());
    }
}

fn split(data: &[u8]) -> (&[u8], &[u8]) {
    let at = data.windows(BREAK.len()).position(|window| window == BREAK);
    at.map_or((data, &[]), |at| (&data[..at], &data[at + BREAK.len()..]))
}

fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that has left is no matter.
            let _ = answer(stream);
        }
    });
    url
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            read => request.extend_from_slice(&buffer[..read]),
        }
    }
    let answers = ANSWERS.lock().unwrap_or_else(PoisonError::into_inner);
    if request.starts_with(b"HEAD") {
        stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n")?;
        stream.write_all(&answers.headers)?;
        return stream.write_all(b"\r\n\r\n");
    }
    let body = if request.starts_with(b"GET /api/") { &answers.revision } else { &answers.content };
    write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len())?;
    stream.write_all(body)
}
