//! The scripted upstream: a chat completions endpoint that answers at once, or streams at a pace that it is told.
//!
//! It runs as a process of its own, so that its CPU time is nobody else's, and ends when its standard input does: a
//! parent that dies leaves nothing behind. `GET /script?events=64&first_us=0&gap_us=0` sets the script of all
//! streams that begin from then on; with `&hostile_at=40` the fortieth event is followed by a threat, word by word.

use std::cell::Cell;
use std::io::Write as _;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep_until};

use crate::texts::{self, Body, Marker, Stream};
use crate::{Result, wire};

/// How a stream runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    /// Content events, each its own write.
    pub(crate) events: usize,
    /// From the request to the first byte of the answer.
    pub(crate) first: Duration,
    /// Between two content events.
    pub(crate) gap: Duration,
    /// After how many of the events a threat follows, each of its words an event more.
    pub(crate) hostile_at: Option<usize>,
}

impl Script {
    /// The path that sets this script.
    pub(crate) fn path(&self) -> String {
        let hostile = self.hostile_at.map(|at| format!("&hostile_at={at}")).unwrap_or_default();
        let (first, gap) = (self.first.as_micros(), self.gap.as_micros());
        format!("/script?events={}&first_us={first}&gap_us={gap}{hostile}", self.events)
    }

    fn from_path(path: &str) -> Option<Script> {
        let number = |name: &str| {
            let pairs = path.strip_prefix("/script?")?.split('&');
            pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)?.1.parse::<u64>().ok()
        };
        Some(Script {
            events: usize::try_from(number("events")?).ok()?,
            first: Duration::from_micros(number("first_us")?),
            gap: Duration::from_micros(number("gap_us")?),
            hostile_at: number("hostile_at").and_then(|at| usize::try_from(at).ok()),
        })
    }
}

/// Prints the port on standard output and answers until standard input ends.
pub(crate) fn serve_until_stdin_ends() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (ended, mut end) = tokio::sync::mpsc::channel::<()>(1);
    // A plain thread: tokio's own standard input would keep the runtime from ending.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        drop(ended);
    });
    LocalSet::new().block_on(&runtime, async move {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        writeln!(std::io::stdout(), "{}", listener.local_addr()?.port())?;
        let script =
            Rc::new(Cell::new(Script { events: 64, first: Duration::ZERO, gap: Duration::ZERO, hostile_at: None }));
        let mut seed = 0;
        loop {
            tokio::select! {
                _ = end.recv() => return Ok(()),
                accepted = listener.accept() => {
                    let (socket, _) = accepted?;
                    socket.set_nodelay(true)?;
                    seed += 1;
                    // A connection that fails is the peer's affair: the load counts what it did not get.
                    tokio::task::spawn_local(converse(socket, Rc::clone(&script), Marker::new(seed)));
                }
            }
        }
    })
}

async fn converse(mut socket: TcpStream, script: Rc<Cell<Script>>, mut marker: Marker) -> Result<()> {
    let mut answer = texts::answer();
    let mut stream = ChunkedStream::new(0, None);
    let mut input = Vec::with_capacity(16 * 1024);
    let mut out = Vec::with_capacity(2048);
    while let Some(request) = next_request(&mut socket, &mut input).await? {
        match request {
            Request::Script(wanted) => {
                script.set(wanted);
                socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
            }
            Request::Refused => {
                socket.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await?;
                return Ok(());
            }
            Request::Chat { stream: false } => {
                answer.refresh(&mut marker);
                out.clear();
                write!(
                    out,
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                    answer.bytes().len()
                )?;
                out.extend_from_slice(answer.bytes());
                socket.write_all(&out).await?;
            }
            Request::Chat { stream: true } => {
                let wanted = script.get();
                if stream.made_for != (wanted.events, wanted.hostile_at) {
                    stream = ChunkedStream::new(wanted.events, wanted.hostile_at);
                }
                stream.send(&mut socket, &wanted, &mut marker).await?;
            }
        }
    }
    Ok(())
}

enum Request {
    Chat { stream: bool },
    Script(Script),
    Refused,
}

/// Reads one whole request; `None` when the peer has closed between two.
async fn next_request(socket: &mut TcpStream, input: &mut Vec<u8>) -> Result<Option<Request>> {
    let head_len = loop {
        if let Some(len) = wire::head_len(input) {
            break len;
        }
        if socket.read_buf(input).await? == 0 {
            return Ok(None);
        }
    };
    let head = std::str::from_utf8(&input[..head_len])?;
    let path = head.split(' ').nth(1).unwrap_or_default();
    if let Some(script) = Script::from_path(path) {
        input.drain(..head_len);
        return Ok(Some(Request::Script(script)));
    }
    let Some(length) = wire::content_length(head).filter(|_| path == "/v1/chat/completions") else {
        return Ok(Some(Request::Refused));
    };
    let total = head_len + length;
    while input.len() < total {
        if socket.read_buf(input).await? == 0 {
            return Ok(None);
        }
    }
    // `stream` stands before the messages, so this looks at a few bytes and not at the prompt.
    let stream = memchr::memmem::find(&input[head_len..total], br#""stream":true"#).is_some();
    input.drain(..total);
    Ok(Some(Request::Chat { stream }))
}

/// A stream whose events are framed as HTTP chunks ahead of time, so that sending one costs a write and no more.
struct ChunkedStream {
    /// Events, and where the threat is.
    made_for: (usize, Option<usize>),
    opening: Vec<u8>,
    contents: Vec<Body>,
    closing: Vec<u8>,
}

impl ChunkedStream {
    fn new(events: usize, hostile_at: Option<usize>) -> ChunkedStream {
        let Stream { opening, contents, closing } = texts::stream(events, hostile_at);
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut first = head.as_bytes().to_vec();
        first.extend(chunk(&opening));
        let mut last = chunk(&closing);
        last.extend_from_slice(b"0\r\n\r\n");
        let contents = contents.iter().map(|event| Body::new(chunk(event.bytes()))).collect();
        ChunkedStream { made_for: (events, hostile_at), opening: first, contents, closing: last }
    }

    async fn send(&mut self, socket: &mut TcpStream, script: &Script, marker: &mut Marker) -> Result<()> {
        // Due times, not pauses: a late write does not push the following ones back.
        let mut due = Instant::now() + script.first;
        if !script.first.is_zero() {
            sleep_until(due).await;
        }
        socket.write_all(&self.opening).await?;
        for (index, event) in self.contents.iter_mut().enumerate() {
            if index > 0 && !script.gap.is_zero() {
                due += script.gap;
                sleep_until(due).await;
            }
            event.refresh(marker);
            socket.write_all(event.bytes()).await?;
        }
        socket.write_all(&self.closing).await?;
        Ok(())
    }
}

fn chunk(data: &[u8]) -> Vec<u8> {
    let mut framed = format!("{:x}\r\n", data.len()).into_bytes();
    framed.extend_from_slice(data);
    framed.extend_from_slice(b"\r\n");
    framed
}
