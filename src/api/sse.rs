//! Server-sent events, framed without changing a byte.
//!
//! The grammar is WHATWG HTML section 9.2.6: lines end in CR, LF or CRLF, a blank line ends a frame. The framer cuts the
//! stream into frames whose raw bytes, put together again, are the stream, wherever the reads were cut. It holds at most
//! one unfinished frame, up to a cap.

use std::borrow::Cow;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use thiserror::Error;

/// The longest frame that [`Framer::default`] takes, in bytes.
pub const MAX_FRAME: usize = 4 << 20;

/// A stream that cannot be framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SseError {
    /// A frame went on beyond the cap.
    #[error("an event is longer than {cap} bytes")]
    TooLong {
        /// The cap, in bytes.
        cap: usize,
    },
}

/// One frame: the lines up to and with a blank line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The bytes as they came, with the blank line.
    pub raw: Bytes,
    /// The value of the last `event` field.
    pub event: Option<String>,
    /// The values of all `data` fields, joined by LF; none where there was no such field.
    pub data: Option<Bytes>,
    /// Where the data lies in `raw`, when there is exactly one `data` line.
    pub(crate) data_span: Option<Range<usize>>,
    /// What stands in comments, `id`, `retry` and unknown fields, joined by LF: text that a client could read.
    pub(crate) side: String,
}

/// Cuts a byte stream into frames.
#[derive(Debug)]
pub struct Framer {
    buffer: BytesMut,
    /// Offset in `buffer` of the line that is not finished.
    line: usize,
    /// Bytes of `buffer` that hold no line end after `line`.
    searched: usize,
    /// True until the first frame was cut: a byte order mark may lead it.
    first: bool,
    cap: usize,
}

impl Default for Framer {
    fn default() -> Self {
        Framer::new(MAX_FRAME)
    }
}

impl Framer {
    /// A framer that refuses frames longer than `cap` bytes.
    pub fn new(cap: usize) -> Framer {
        Framer { buffer: BytesMut::new(), line: 0, searched: 0, first: true, cap }
    }

    /// Takes what was read.
    pub fn push(&mut self, bytes: &Bytes) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame; none until more bytes come.
    ///
    /// A CR at the very end of what was read may be half of a CRLF, and waits for the next byte.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, SseError> {
        while let Some(found) = memchr::memchr2(b'\n', b'\r', &self.buffer[self.searched..]) {
            let at = self.searched + found;
            let next = match (self.buffer[at], self.buffer.get(at + 1)) {
                (b'\r', None) => {
                    self.searched = at;
                    return self.within_cap();
                }
                (b'\r', Some(b'\n')) => at + 2,
                _ => at + 1,
            };
            let bom = if self.first && self.line == 0 && self.buffer.starts_with(BOM) { BOM.len() } else { 0 };
            let blank = at == self.line + bom;
            self.line = next;
            self.searched = next;
            if next > self.cap {
                return Err(SseError::TooLong { cap: self.cap });
            }
            if blank {
                return Ok(Some(self.cut(next)));
            }
        }
        self.searched = self.buffer.len();
        self.within_cap()
    }

    /// At the end of the stream: what is left, though no blank line ended it. Clients differ on whether such a frame
    /// counts, so it is to be judged like any other.
    pub fn finish(&mut self) -> Result<Option<Frame>, SseError> {
        if let Some(frame) = self.next_frame()? {
            return Ok(Some(frame));
        }
        Ok(if self.buffer.is_empty() { None } else { Some(self.cut(self.buffer.len())) })
    }

    fn within_cap(&self) -> Result<Option<Frame>, SseError> {
        if self.buffer.len() > self.cap { Err(SseError::TooLong { cap: self.cap }) } else { Ok(None) }
    }

    fn cut(&mut self, len: usize) -> Frame {
        let raw = self.buffer.split_to(len).freeze();
        self.line = 0;
        self.searched = 0;
        let skip = if std::mem::take(&mut self.first) && raw.starts_with(BOM) { BOM.len() } else { 0 };
        read_frame(raw, skip)
    }
}

const BOM: &[u8] = b"\xef\xbb\xbf";

/// Reads the fields of the frame `raw`, from offset `start`.
fn read_frame(raw: Bytes, start: usize) -> Frame {
    let mut event = None;
    let mut data: Vec<Range<usize>> = Vec::new();
    let mut side = String::new();
    let mut at = start;
    while at < raw.len() {
        let end = memchr::memchr2(b'\n', b'\r', &raw[at..]).map_or(raw.len(), |found| at + found);
        let line = &raw[at..end];
        let colon = memchr::memchr(b':', line).unwrap_or(line.len());
        let space = usize::from(line.get(colon + 1) == Some(&b' '));
        let value = (at + colon + 1 + space).min(end)..end;
        match &line[..colon] {
            b"event" => event = Some(lossy(&raw[value]).into_owned()),
            b"data" => data.push(value),
            _ if line.is_empty() => {}
            b"" | b"id" | b"retry" => add_line(&mut side, &lossy(&raw[value])),
            _ => add_line(&mut side, &lossy(line)),
        }
        at = end + if raw[end..].starts_with(b"\r\n") { 2 } else { 1 };
    }
    let (data, data_span) = match data.as_slice() {
        [] => (None, None),
        [span] => (Some(raw.slice(span.clone())), Some(span.clone())),
        spans => {
            let lines: Vec<&[u8]> = spans.iter().map(|span| &raw[span.clone()]).collect();
            (Some(Bytes::from(lines.join(&b'\n'))), None)
        }
    };
    Frame { raw, event, data, data_span, side }
}

fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn add_line(side: &mut String, line: &str) {
    if !line.is_empty() {
        if !side.is_empty() {
            side.push('\n');
        }
        side.push_str(line);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames<'a>(reads: impl IntoIterator<Item = &'a [u8]>) -> Vec<Frame> {
        let mut framer = Framer::default();
        let mut frames = Vec::new();
        for read in reads {
            framer.push(&Bytes::copy_from_slice(read));
            while let Some(frame) = framer.next_frame().unwrap() {
                frames.push(frame);
            }
        }
        while let Some(frame) = framer.finish().unwrap() {
            frames.push(frame);
        }
        frames
    }

    /// The grammar said plainly: lines first, then fields; (event, data) of frames that a blank line ended.
    fn reference(stream: &[u8]) -> Vec<(Option<String>, Option<String>)> {
        let text = String::from_utf8_lossy(stream).replace("\r\n", "\n").replace('\r', "\n");
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let (mut out, mut event, mut data) = (Vec::new(), None, None::<Vec<String>>);
        let mut lines: Vec<&str> = text.split('\n').collect();
        lines.pop();
        for line in lines {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
            match field {
                "" if line.is_empty() => out.push((event.take(), data.take().map(|data| data.join("\n")))),
                "event" => event = Some(value),
                "data" => data.get_or_insert_default().push(value),
                _ => {}
            }
        }
        out
    }

    fn read(frame: &Frame) -> (Option<String>, Option<String>) {
        (frame.event.clone(), frame.data.as_ref().map(|data| String::from_utf8_lossy(data).into_owned()))
    }

    proptest! {
        #[test]
        fn any_stream_gives_the_reference_frames_however_it_is_cut(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "data: a", "data:b", "data", "event: x", "event:", ":note", ":", "id: 1", "retry: 5", "odd", "data:  two",
                    "\r", "\n", "\r\n", "\n\n", "\r\r", "\r\n\r\n", "\u{e9}\u{1f600}", "\u{2028}", "\u{feff}",
                ]), 0..24),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let stream = parts.concat().into_bytes();
            let whole = frames([stream.as_slice()]);
            let joined: Vec<u8> = whole.iter().flat_map(|frame| frame.raw.to_vec()).collect();
            prop_assert_eq!(&joined, &stream);

            let expected = reference(&stream);
            let ended: Vec<_> = whole.iter().take(expected.len()).map(read).collect();
            prop_assert_eq!(ended, expected.clone());
            prop_assert!(whole.len() <= expected.len() + 1);

            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            at.extend([0, stream.len()]);
            at.sort_unstable();
            let reads: Vec<&[u8]> = at.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            prop_assert_eq!(frames(reads), whole.clone());
            prop_assert_eq!(frames(stream.chunks(1)), whole);
        }
    }

    #[test]
    fn one_data_line_is_a_window_into_the_raw_bytes() {
        let frame = &frames([b"event: a\ndata: {\"x\":1}\r\n\r\n".as_slice()])[0];
        assert_eq!(&frame.raw[frame.data_span.clone().unwrap()], b"{\"x\":1}");
        let frame = &frames([b"data: 1\ndata: 2\n\n".as_slice()])[0];
        assert_eq!((frame.data.as_deref(), frame.data_span.clone()), (Some(b"1\n2".as_slice()), None));
    }

    #[test]
    fn text_beside_the_data_is_kept_for_judging() {
        let frame = &frames([b": hear me\nid: 7\nodd: thing\n:\ndata: 1\n\n".as_slice()])[0];
        assert_eq!(frame.side, "hear me\n7\nodd: thing");
    }

    #[test]
    fn a_frame_without_end_is_refused_at_the_cap() {
        let mut framer = Framer::new(64);
        framer.push(&Bytes::from_static(b"data: 1\n\n"));
        framer.push(&Bytes::from(vec![b'x'; 65]));
        assert!(framer.next_frame().unwrap().is_some());
        assert_eq!(framer.next_frame(), Err(SseError::TooLong { cap: 64 }));
        let mut lines = Framer::new(64);
        lines.push(&Bytes::from("data: 1234\n".repeat(7)));
        assert_eq!(lines.next_frame(), Err(SseError::TooLong { cap: 64 }));
    }
}
