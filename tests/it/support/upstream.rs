//! A scripted provider, byte for byte: it records what it was asked and plays the steps that the test gives it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Recorded {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// What the upstream does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Writes bytes as they are, head included.
    Send(Vec<u8>),
    /// Waits.
    Sleep(u64),
    /// Waits until the test says so.
    Wait(Arc<Notify>),
    /// Waits until the other side closes the connection.
    Hold,
    /// Closes the connection at once, with a reset.
    Reset,
}

/// A whole answer.
pub(crate) fn json(body: &str) -> Vec<Step> {
    status(200, "", body)
}

/// A whole answer with a status and further header lines.
pub(crate) fn status(code: u16, headers: &str, body: &str) -> Vec<Step> {
    vec![answer(code, &format!("content-type: application/json\r\n{headers}"), body)]
}

/// A whole answer with all its headers.
pub(crate) fn answer(code: u16, headers: &str, body: &str) -> Step {
    let length = body.len();
    Step::Send(format!("HTTP/1.1 {code} Scripted\r\n{headers}content-length: {length}\r\n\r\n{body}").into_bytes())
}

/// A stream: each piece is a write of its own, `gap` milliseconds apart.
pub(crate) fn sse(pieces: &[&[u8]], gap: u64) -> Vec<Step> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut steps = vec![Step::Send(head.into())];
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
        chunk.extend_from_slice(piece);
        chunk.extend_from_slice(b"\r\n");
        steps.push(Step::Send(chunk));
        if gap > 0 {
            steps.push(Step::Sleep(gap));
        }
    }
    steps.push(Step::Send(b"0\r\n\r\n".to_vec()));
    steps
}

type Script = dyn Fn(&Recorded) -> Vec<Step> + Send + Sync;

/// The provider.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Recorded>>>,
    connections: Arc<AtomicUsize>,
    /// How many connections the other side has closed while a script held them.
    left: watch::Receiver<usize>,
}

impl Upstream {
    pub(crate) async fn start(script: impl Fn(&Recorded) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (gone, left) = watch::channel(0);
        let (script, record): (Arc<Script>, _) = (Arc::new(script), Arc::clone(&requests));
        let connections = Arc::new(AtomicUsize::new(0));
        let accepted = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _peer)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::SeqCst);
                let (script, record, gone) = (Arc::clone(&script), Arc::clone(&record), gone.clone());
                tokio::spawn(Box::pin(async move { converse(stream, &*script, &record, &gone).await }));
            }
        });
        Self { address, requests, connections, left }
    }

    /// Everything that arrived so far.
    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.requests.lock().unwrap().clone()
    }

    /// How many connections were made.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Waits until the other side has closed so many held connections.
    pub(crate) async fn left(&mut self, connections: usize) {
        let wait = self.left.wait_for(|closed| *closed >= connections);
        tokio::time::timeout(Duration::from_secs(5), wait).await.expect("the gateway left the upstream").unwrap();
    }
}

async fn converse(mut stream: TcpStream, script: &Script, record: &Mutex<Vec<Recorded>>, gone: &watch::Sender<usize>) {
    stream.set_nodelay(true).unwrap();
    while let Some(request) = read(&mut stream).await {
        record.lock().unwrap().push(request.clone());
        for step in script(&request) {
            match step {
                Step::Send(bytes) => {
                    if stream.write_all(&bytes).await.is_err() {
                        gone.send_modify(|closed| *closed += 1);
                        return;
                    }
                }
                Step::Sleep(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
                Step::Wait(go) => go.notified().await,
                Step::Hold => {
                    let mut byte = [0];
                    // Nothing more is sent to us: whatever ends this is the other side's leaving.
                    let _left = stream.read(&mut byte).await;
                    gone.send_modify(|closed| *closed += 1);
                    return;
                }
                Step::Reset => {
                    stream.set_zero_linger().unwrap();
                    return;
                }
            }
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Recorded> {
    let mut bytes = Vec::new();
    let head = loop {
        let mut buffer = vec![0; 16 * 1024];
        let n = stream.read(&mut buffer).await.ok().filter(|n| *n > 0)?;
        bytes.extend_from_slice(&buffer[..n]);
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
    };
    let mut recorded = Recorded { head: String::from_utf8(bytes[..head].to_vec()).unwrap(), body: String::new() };
    let length: usize = recorded.header("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = bytes[head + 4..].to_vec();
    while body.len() < length {
        let mut buffer = vec![0; 16 * 1024];
        let n = stream.read(&mut buffer).await.ok().filter(|n| *n > 0)?;
        body.extend_from_slice(&buffer[..n]);
    }
    recorded.body = String::from_utf8(body).unwrap();
    Some(recorded)
}
