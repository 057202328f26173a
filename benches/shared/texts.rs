//! The bodies that the benchmarks send: harmless prose of fixed length, so that no guard has a reason to act. It asks for
//! nothing: a heap of unrelated requests in one text is what an injection looks like.
//!
//! Each body holds *marks*, places of [`MARK_LEN`] bytes that a [`Marker`] fills with other plain words for every
//! request. Without them a cache of verdicts anywhere on the way would be measured in place of the work.

use std::fmt::Write as _;
use std::ops::Range;

/// Length in bytes of one mark: three words of five letters, with a space between them.
pub(crate) const MARK_LEN: usize = 17;

const MARK: &str = "apple river stone";

const WORDS: [&str; 32] = [
    "apple", "bread", "chair", "cloud", "daisy", "eagle", "field", "grape", "hazel", "ivory", "spoon", "kayak",
    "lemon", "maple", "night", "ocean", "paper", "plate", "river", "stone", "table", "brick", "viola", "water",
    "wheat", "yacht", "zebra", "piano", "tulip", "onion", "glass", "olive",
];

const SENTENCES: [&str; 20] = [
    "The library opens at nine in the morning and closes at six, except on the first Monday of the month.",
    "Of the three proposals the second needs the least work, and the reasons for it fit on a single page.",
    "Our garden has two beds with tomatoes, one with beans and a narrow strip of herbs along the wall.",
    "The train from the coast arrives a little late on most days, so a short walk to the square is possible.",
    "The plan is a table with one row for each week and a last column for what is still open.",
    "In the second chapter the author compares four ways to store grain over a long winter.",
    "We would like to paint the hall in a warm colour that still looks bright in the evening.",
    "The recipe asks for two cups of flour, a spoon of honey, some butter and a pinch of salt.",
    "The report has five chapters and ends with the numbers of the last quarter.",
    "The meeting was moved to Thursday because the larger room is taken by the choir.",
    "A good pair of shoes matters more on this path than the weather, said the guide.",
    "The short paragraph at the end is in French, and its harder words are explained in the margin.",
    "The museum shows maps that sailors drew by hand, some of them with animals in the margins.",
    "The title of the talk says what people in the audience will be able to do once it is over.",
    "Last spring the river stood so low that one could see the old stone bridge beneath the new one.",
    "The parser reads one line at a time and keeps a count of the open brackets.",
    "My grandmother kept bees for forty years and wrote down the yield of every summer.",
    "Each team has a day to review the plan and to note what is missing from it.",
    "The bakery at the corner sells the bread of the day before at half the price.",
    "How the tides depend on the moon is told there so that children of ten can follow.",
];

/// A JSON body with its marks.
#[derive(Clone)]
pub(crate) struct Body {
    bytes: Vec<u8>,
    marks: Vec<usize>,
}

impl Body {
    /// Finds the marks in `bytes`.
    pub(crate) fn new(bytes: Vec<u8>) -> Body {
        let marks = memchr::memmem::find_iter(&bytes, MARK).collect();
        Body { bytes, marks }
    }

    /// The bytes as they are now.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Writes the marker's next words over every mark.
    pub(crate) fn refresh(&mut self, marker: &mut Marker) {
        for &at in &self.marks {
            marker.write(&mut self.bytes[at..at + MARK_LEN]);
        }
    }

    /// Whether `other` is this body but for what stands in the marks.
    pub(crate) fn matches(&self, other: &[u8]) -> bool {
        self.bytes.len() == other.len() && self.between_marks().all(|range| self.bytes[range.clone()] == other[range])
    }

    fn between_marks(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let starts = std::iter::once(0).chain(self.marks.iter().map(|at| at + MARK_LEN));
        let ends = self.marks.iter().copied().chain(std::iter::once(self.bytes.len()));
        starts.zip(ends).map(|(start, end)| start..end)
    }
}

/// A sequence of marks; two markers of different seeds run through different ones.
pub(crate) struct Marker(u64);

impl Marker {
    /// The sequence that belongs to `seed`.
    pub(crate) fn new(seed: u64) -> Marker {
        Marker(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn write(&mut self, place: &mut [u8]) {
        for word in place.chunks_mut(6) {
            // xorshift64: quick, and good enough to choose among 32 words.
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            word[..5].copy_from_slice(WORDS[usize::try_from(self.0 >> 59).unwrap_or(0)].as_bytes());
        }
    }
}

/// A chat completion request whose prompt has about `prompt_bytes` bytes, with a mark every three sentences.
pub(crate) fn request(prompt_bytes: usize, stream: bool) -> Body {
    let prompt = prose(prompt_bytes);
    let stream = if stream { r#","stream":true"# } else { "" };
    let body = format!(
        concat!(
            r#"{{"model":"gpt-4o-mini","temperature":0.2,"max_tokens":256{},"messages":["#,
            r#"{{"role":"system","content":"You are a careful assistant. Answer briefly."}},"#,
            r#"{{"role":"user","content":"{}"}}]}}"#
        ),
        stream, prompt
    );
    Body::new(body.into_bytes())
}

/// A whole answer of about 655 bytes.
pub(crate) fn answer() -> Body {
    let body = format!(
        concat!(
            r#"{{"id":"chatcmpl-8f3a1c","object":"chat.completion","created":1760000000,"model":"gpt-4o-mini","#,
            r#""choices":[{{"index":0,"message":{{"role":"assistant","content":"{}","refusal":null}},"#,
            r#""logprobs":null,"finish_reason":"stop"}}],"#,
            r#""usage":{{"prompt_tokens":212,"completion_tokens":58,"total_tokens":270}}}}"#
        ),
        prose(330)
    );
    Body::new(body.into_bytes())
}

/// A stream: the event that names the role, then `contents` events of one word each, then the end.
pub(crate) struct Stream {
    /// The role event.
    pub(crate) opening: Vec<u8>,
    /// One content event each, of a word with its space; some of the words are marks.
    pub(crate) contents: Vec<Body>,
    /// The finish event and `[DONE]`.
    pub(crate) closing: Vec<u8>,
}

/// What no client should see a byte of where answers are guarded. Its words stand nowhere else in a stream.
pub(crate) const THREAT: &str = "You are a worthless idiot, and everybody hates you. ";

/// A stream of chat completion chunks with `contents` content events; after so many of them as `hostile_at` says,
/// [`THREAT`] comes, each of its words an event more.
pub(crate) fn stream(contents: usize, hostile_at: Option<usize>) -> Stream {
    let words = prose(contents * 8);
    // The marks stay whole: they are cut out first, so that each is one event.
    let pieces = words.split(MARK).flat_map(|part| part.split_inclusive(' ').chain(std::iter::once(MARK)));
    let mut pieces: Vec<&str> = pieces.filter(|piece| !piece.trim().is_empty()).cycle().take(contents).collect();
    if let Some(at) = hostile_at {
        pieces.splice(at..at, THREAT.split_inclusive(' '));
    }
    Stream {
        opening: event(r#"{"role":"assistant","content":"","refusal":null}"#, "null").into_bytes(),
        contents: pieces
            .into_iter()
            .map(|piece| Body::new(event(&format!(r#"{{"content":"{piece}"}}"#), "null").into_bytes()))
            .collect(),
        closing: format!("{}data: [DONE]\n\n", event("{}", r#""stop""#)).into_bytes(),
    }
}

/// Whole sentences up to about `bytes` bytes, each third one followed by a mark.
pub(crate) fn prose(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 160);
    for (count, sentence) in SENTENCES.iter().cycle().enumerate() {
        if text.len() >= bytes {
            break;
        }
        text.push_str(sentence);
        text.push(' ');
        if count % 3 == 0 {
            let _ = write!(text, "Next to it hung a picture of {MARK}. ");
        }
    }
    text.truncate(text.trim_end().len());
    text
}

fn event(delta: &str, finish: &str) -> String {
    format!(
        concat!(
            r#"data: {{"id":"chatcmpl-8f3a1c","object":"chat.completion.chunk","created":1760000000,"#,
            r#""model":"gpt-4o-mini","choices":[{{"index":0,"delta":{},"logprobs":null,"finish_reason":{}}}]}}"#,
            "\n\n"
        ),
        delta, finish
    )
}
