//! The closed-loop load: every connection sends its next request when it has the whole answer of the last one.
//!
//! Connections are kept alive and used again, and every answer is checked against what the upstream sends, so that a
//! target cannot be quick by being wrong.

use std::time::{Duration, Instant, UNIX_EPOCH};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::scenarios::{Kind, Scenario};
use crate::texts::{self, Body, Marker};
use crate::{Result, wire};

/// Failures after which a run gives up: something is broken, not slow.
const MAX_FAILURES: usize = 50;

/// What a run of one scenario against one target gave.
#[derive(Default)]
pub(crate) struct Outcome {
    /// From the start to the end of the last answer.
    pub(crate) elapsed: Duration,
    /// Whole answers.
    pub(crate) samples: Vec<Sample>,
    /// Requests that were turned away with a 429, and sent again when that said.
    pub(crate) shed: usize,
    /// What was wrong with each of the others.
    pub(crate) failures: Vec<String>,
}

/// What came of one request.
enum Answer {
    Whole(Sample),
    /// Turned away, for so long.
    Shed(Duration),
}

/// One answer.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    /// From the first byte sent to the last byte received.
    pub(crate) total: Duration,
    /// From the first byte sent to the first content event received; of a plain answer the same as `total`.
    pub(crate) first_token: Duration,
}

/// Open connections to one target.
pub(crate) struct Load {
    connections: Vec<Connection>,
}

impl Load {
    /// Opens the connections that `scenario` asks for.
    pub(crate) async fn connect(port: u16, scenario: &Scenario) -> Result<Load> {
        let mut connections = Vec::new();
        // Each run has prompts of its own, or a ledger of verdicts would know those of the run before.
        let salt = UNIX_EPOCH.elapsed().map_or(0, |now| now.as_secs() << 20 | u64::from(now.subsec_micros()));
        for seed in 0..scenario.connections {
            connections.push(Connection::open(port, scenario, salt.wrapping_mul(64) + seed as u64).await?);
        }
        Ok(Load { connections })
    }

    /// Sends requests on all connections until `length` is over, and waits for the answers under way.
    pub(crate) async fn run(&mut self, length: Duration) -> Result<Outcome> {
        let start = Instant::now();
        let deadline = start + length;
        let mut tasks = JoinSet::new();
        for mut connection in self.connections.drain(..) {
            tasks.spawn(async move {
                let part = connection.repeat_until(deadline).await;
                (connection, part)
            });
        }
        let mut outcome = Outcome::default();
        while let Some(joined) = tasks.join_next().await {
            let (connection, part) = joined?;
            let part = part?;
            self.connections.push(connection);
            outcome.samples.extend(part.samples);
            outcome.shed += part.shed;
            outcome.failures.extend(part.failures);
        }
        outcome.elapsed = start.elapsed();
        Ok(outcome)
    }
}

struct Connection {
    port: u16,
    socket: TcpStream,
    head: Vec<u8>,
    body: Body,
    marker: Marker,
    kind: Kind,
    expected: Body,
    out: Vec<u8>,
    input: Vec<u8>,
    decoded: Vec<u8>,
}

impl Connection {
    async fn open(port: u16, scenario: &Scenario, seed: u64) -> Result<Connection> {
        let body = texts::request(scenario.prompt_bytes, scenario.kind.is_stream());
        let head = wire::chat_head(body.bytes().len());
        Ok(Connection {
            port,
            socket: dial(port).await?,
            head: head.into_bytes(),
            body,
            marker: Marker::new(seed + 1000),
            kind: scenario.kind,
            expected: texts::answer(),
            out: Vec::new(),
            input: Vec::with_capacity(64 * 1024),
            decoded: Vec::with_capacity(64 * 1024),
        })
    }

    async fn repeat_until(&mut self, deadline: Instant) -> Result<Outcome> {
        let mut part = Outcome::default();
        while Instant::now() < deadline {
            match self.exchange().await {
                Ok(Answer::Whole(sample)) => part.samples.push(sample),
                Ok(Answer::Shed(wait)) => {
                    part.shed += 1;
                    tokio::time::sleep_until((Instant::now() + wait).min(deadline).into()).await;
                }
                Err(failure) if part.failures.len() < MAX_FAILURES => {
                    part.failures.push(failure.to_string());
                    self.socket = dial(self.port).await?;
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(part)
    }

    async fn exchange(&mut self) -> Result<Answer> {
        self.body.refresh(&mut self.marker);
        self.out.clear();
        self.out.extend_from_slice(&self.head);
        self.out.extend_from_slice(self.body.bytes());
        self.input.clear();
        self.decoded.clear();
        let start = Instant::now();
        self.socket.write_all(&self.out).await?;
        let head_len = loop {
            if let Some(len) = wire::head_len(&self.input) {
                break len;
            }
            self.read().await?;
        };
        let head = std::str::from_utf8(&self.input[..head_len])?;
        let status = wire::status(head);
        let length = wire::content_length(head);
        let chunked = wire::is_chunked(head);
        let retry_after = wire::retry_after(head);
        let first_token = match (length, chunked) {
            (Some(length), _) => self.plain(head_len, length).await?,
            (None, true) => self.chunked(head_len).await?,
            (None, false) => return Err("an answer without a length".into()),
        };
        let total = start.elapsed();
        if let (Some(429), Some(wait)) = (status, retry_after) {
            return Ok(Answer::Shed(wait));
        }
        self.check(status)?;
        let first_token = first_token.map_or(total, |at| at - start);
        Ok(Answer::Whole(Sample { total, first_token }))
    }

    async fn plain(&mut self, head_len: usize, length: usize) -> Result<Option<Instant>> {
        while self.input.len() < head_len + length {
            self.read().await?;
        }
        self.decoded.extend_from_slice(&self.input[head_len..head_len + length]);
        Ok(None)
    }

    /// Reads a body in chunks; the time at which the second event (the first with content) was whole.
    async fn chunked(&mut self, head_len: usize) -> Result<Option<Instant>> {
        let mut chunks = wire::Chunks::default();
        let mut first_token = None;
        let mut taken = head_len;
        loop {
            taken += chunks.decode(&self.input[taken..], &mut self.decoded)?;
            if first_token.is_none() && events(&self.decoded).nth(1).is_some() {
                first_token = Some(Instant::now());
            }
            if chunks.is_done() {
                return Ok(first_token);
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result<()> {
        match self.socket.read_buf(&mut self.input).await? {
            0 => Err("the connection was closed in the middle of an answer".into()),
            _ => Ok(()),
        }
    }

    fn check(&self, status: Option<u16>) -> Result<()> {
        let right = match self.kind {
            Kind::Whole => self.expected.matches(&self.decoded),
            Kind::Streamed(script) => {
                // The role event, the contents, the finish event and [DONE].
                let mut count = 0;
                let last = events(&self.decoded).inspect(|_| count += 1).last();
                last == Some(b"data: [DONE]") && count == script.events + 3
            }
        };
        if status == Some(200) && right {
            return Ok(());
        }
        let shown = String::from_utf8_lossy(&self.decoded[..self.decoded.len().min(400)]);
        Err(format!("status {status:?}, {} bytes: {shown}", self.decoded.len()).into())
    }
}

/// The whole events of `body` that carry data (a comment is none).
fn events(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut start = 0;
    let whole = memchr::memmem::find_iter(body, b"\n\n").map(move |end| {
        let event = &body[start..end];
        start = end + 2;
        event
    });
    whole.filter(|event| event.starts_with(b"data:"))
}

async fn dial(port: u16) -> Result<TcpStream> {
    let socket = TcpStream::connect(("127.0.0.1", port)).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// A request without a body on a connection of its own: the status of the answer.
pub(crate) async fn get(port: u16, path: &str) -> Result<u16> {
    let mut socket = dial(port).await?;
    socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n").as_bytes()).await?;
    let mut input = Vec::new();
    while wire::head_len(&input).is_none() {
        if socket.read_buf(&mut input).await? == 0 {
            return Err("no answer".into());
        }
    }
    wire::status(&String::from_utf8_lossy(&input)).ok_or_else(|| "no status".into())
}
