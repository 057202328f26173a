//! One client on one kept-alive connection, and when what it got came.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Result, wire};

/// An answer and its times, counted from the first byte that was sent.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    pub(crate) total: Duration,
    /// When each event with content was whole; of an answer in one piece, `total`.
    pub(crate) events: Vec<Duration>,
}

impl Answer {
    /// Milliseconds to the first content.
    pub(crate) fn first_ms(&self) -> f64 {
        self.events.first().unwrap_or(&self.total).as_secs_f64() * 1e3
    }

    /// Milliseconds from one content event to the next.
    pub(crate) fn gaps_ms(&self) -> impl Iterator<Item = f64> {
        self.events.windows(2).map(|pair| pair[1].saturating_sub(pair[0]).as_secs_f64() * 1e3)
    }

    /// The text of the first choice of a stream.
    pub(crate) fn streamed_text(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        let events = body.lines().filter_map(|line| line.strip_prefix("data: "));
        let events = events.filter_map(|data| serde_json::from_str::<Value>(data).ok());
        events.filter_map(|event| Some(event["choices"][0]["delta"]["content"].as_str()?.to_owned())).collect()
    }
}

/// A connection to a gateway or to the upstream itself.
pub(crate) struct Client {
    socket: TcpStream,
}

impl Client {
    pub(crate) fn connect(port: u16) -> Result<Client> {
        let socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_mins(2)))?;
        Ok(Client { socket })
    }

    /// Sends a chat completion request.
    pub(crate) fn chat(&mut self, body: &[u8]) -> Result<Answer> {
        self.exchange(&[wire::chat_head(body.len()).as_bytes(), body].concat())
    }

    pub(crate) fn get(&mut self, path: &str) -> Result<Answer> {
        self.exchange(format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").as_bytes())
    }

    fn exchange(&mut self, request: &[u8]) -> Result<Answer> {
        let started = Instant::now();
        self.socket.write_all(request)?;
        let mut input = Vec::with_capacity(16 * 1024);
        let head_len = loop {
            if let Some(len) = wire::head_len(&input) {
                break len;
            }
            self.read(&mut input)?;
        };
        let head = std::str::from_utf8(&input[..head_len])?.to_owned();
        let status = wire::status(&head).ok_or("no status")?;
        let (mut body, mut events) = (Vec::new(), Vec::new());
        if wire::is_chunked(&head) {
            self.chunked((&mut input, head_len), started, &mut body, &mut events)?;
        } else {
            let length = wire::content_length(&head).unwrap_or(0);
            while input.len() < head_len + length {
                self.read(&mut input)?;
            }
            body.extend_from_slice(&input[head_len..]);
        }
        Ok(Answer { status, body, total: started.elapsed(), events })
    }

    fn chunked(
        &mut self,
        (input, mut taken): (&mut Vec<u8>, usize),
        started: Instant,
        body: &mut Vec<u8>,
        events: &mut Vec<Duration>,
    ) -> Result<()> {
        let (mut chunks, mut seen) = (wire::Chunks::default(), 0);
        loop {
            taken += chunks.decode(&input[taken..], body)?;
            let at = started.elapsed();
            while let Some(end) = memchr::memmem::find(&body[seen..], b"\n\n") {
                let event = &body[seen..seen + end];
                if memchr::memmem::find(event, br#""content":""#).is_some_and(|at| event[at + 11] != b'"') {
                    events.push(at);
                }
                seen += end + 2;
            }
            if chunks.is_done() {
                return Ok(());
            }
            self.read(input)?;
        }
    }

    fn read(&mut self, input: &mut Vec<u8>) -> Result<()> {
        let mut piece = [0; 16 * 1024];
        match self.socket.read(&mut piece)? {
            0 => Err("the connection was closed in the middle of an answer".into()),
            got => {
                input.extend_from_slice(&piece[..got]);
                Ok(())
            }
        }
    }
}
