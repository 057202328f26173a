//! As much HTTP/1.1 as two ends that know each other need: no more, so that they cost little beside what is measured.

use std::time::Duration;

use crate::Result;

/// The head of a chat completion request with so long a body.
pub(crate) fn chat_head(body_len: usize) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
         authorization: Bearer bench\r\naccept: */*\r\ncontent-length: {body_len}\r\n\r\n"
    )
}

/// Length of the head with its empty line, once all of it is in `input`.
pub(crate) fn head_len(input: &[u8]) -> Option<usize> {
    memchr::memmem::find(input, b"\r\n\r\n").map(|at| at + 4)
}

/// The value of `content-length`.
pub(crate) fn content_length(head: &str) -> Option<usize> {
    header(head, "content-length")?.parse().ok()
}

/// Whether the body comes in chunks.
pub(crate) fn is_chunked(head: &str) -> bool {
    header(head, "transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
}

/// How long a client that was turned away should wait.
pub(crate) fn retry_after(head: &str) -> Option<Duration> {
    header(head, "retry-after-ms")?.parse().ok().map(Duration::from_millis)
}

/// The status of an answer.
pub(crate) fn status(head: &str) -> Option<u16> {
    head.get(9..12)?.parse().ok()
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// Takes a chunked body apart as it comes.
#[derive(Default)]
pub(crate) struct Chunks {
    /// Bytes of the current chunk, with its final CR LF, that are still to come.
    left: usize,
    done: bool,
}

impl Chunks {
    /// Whether the last chunk has been read.
    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// Moves what is whole out of `input` into `body`, and returns how many bytes of `input` that were.
    pub(crate) fn decode(&mut self, input: &[u8], body: &mut Vec<u8>) -> Result<usize> {
        let mut at = 0;
        while !self.done {
            if self.left > 0 {
                let take = self.left.min(input.len() - at);
                let data = take.min(self.left.saturating_sub(2));
                body.extend_from_slice(&input[at..at + data]);
                at += take;
                self.left -= take;
                if self.left > 0 {
                    break;
                }
            }
            let Some(line) = memchr::memmem::find(&input[at..], b"\r\n") else { break };
            let size = usize::from_str_radix(std::str::from_utf8(&input[at..at + line])?, 16)?;
            if size == 0 {
                // No trailers are sent here; the empty line ends the body.
                if input.len() < at + line + 4 {
                    break;
                }
                at += line + 4;
                self.done = true;
            } else {
                at += line + 2;
                self.left = size + 2;
            }
        }
        Ok(at)
    }
}
