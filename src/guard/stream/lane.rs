//! One lane of a stream: its window, what came in it, and what becomes of its text.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::api::{Channel, Lane, Origin};
use crate::guard::judge::Stage;
use crate::guard::occasion::Occasion;
use crate::guard::pattern::PatternSet;
use crate::guard::window::{Shape, Window};

/// What is known of one lane.
#[derive(Debug)]
pub(super) struct LaneState {
    pub(super) window: Window,
    /// When the oldest text without a verdict came.
    pub(super) since: Option<Instant>,
    pub(super) closed: bool,
    /// Judged only when complete.
    pub(super) whole: bool,
    /// Each delta is a text for itself, complete when it comes.
    pub(super) apart: bool,
    /// All text so far, where the dialect repeats it.
    pub(super) repeated: Option<String>,
    /// Positions in the lane to replace, in order.
    pub(super) redactions: Vec<(Range<usize>, String)>,
    /// Everything that came, where it is remembered.
    pub(super) said: String,
    /// Position up to which events have left.
    pub(super) sent: usize,
    pub(super) fate: Fate,
}

/// What becomes of a lane's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is judged, and goes.
    Judged,
    /// It is to be replaced: judging the rest of it is of no use.
    Condemned,
    /// A revision stands in it; what is told of that, as JSON.
    Spliced(Option<Vec<u8>>),
}

impl LaneState {
    /// `whole` for a lane of a stream that is held, `repeats` in a dialect that repeats its texts.
    pub(super) fn new(lane: Lane, occasion: &Occasion, whole: bool, repeats: bool) -> Self {
        Self {
            window: Window::new(shape(occasion, lane.channel)),
            since: None,
            closed: false,
            whole: whole || matches!(lane.channel, Channel::ToolArgs(_)),
            apart: lane.channel == Channel::Other,
            repeated: repeats.then(String::new),
            redactions: Vec::new(),
            said: String::new(),
            sent: 0,
            fate: Fate::Judged,
        }
    }

    /// Takes a delta's text and says where in the lane it stands.
    pub(super) fn push(&mut self, text: &str, now: Instant) -> Range<usize> {
        let start = self.window.end();
        let end = self.window.push(text);
        if let Some(said) = &mut self.repeated {
            said.push_str(text);
        }
        if end > start {
            self.since.get_or_insert(now);
            // A lane that was closed goes on: a further block of text, or the next call under the same index.
            self.closed = self.apart;
        }
        if self.apart {
            self.window.push("\n");
        }
        start..end
    }

    /// Takes a text that should repeat what the lane has, and says where it stands there. What it has more is new text;
    /// one that is another text altogether is judged as such.
    pub(super) fn copy(&mut self, text: &str, now: Instant) -> Range<usize> {
        let said = self.repeated.as_deref().unwrap_or_default();
        if said.ends_with(text) {
            return said.len() - text.len()..said.len();
        }
        if said.starts_with(text) {
            return 0..text.len();
        }
        if let Some(more) = text.strip_prefix(said) {
            let more = more.to_owned();
            return 0..self.push(&more, now).end;
        }
        self.push("\n", now);
        self.push(text, now)
    }

    pub(super) fn due(&self, now: Instant) -> bool {
        if self.fate == Fate::Condemned {
            return false;
        }
        if self.closed {
            return self.window.unjudged() || self.window.held() > 0;
        }
        let waited = self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        !self.whole && self.window.due(waited)
    }

    pub(super) fn release(&mut self, safe: usize, calm: bool) {
        self.window.release(safe, calm);
        self.since = None;
    }
}

pub(super) fn origin(channel: Channel) -> Origin {
    match channel {
        Channel::Content | Channel::Refusal => Origin::Output,
        Channel::Reasoning | Channel::Summary => Origin::Reasoning,
        Channel::ToolArgs(_) => Origin::ToolArgs,
        Channel::Other => Origin::Other,
    }
}

/// Without a classifier there is nothing to gather text for: recognisers look at each piece as it comes.
fn shape(occasion: &Occasion, channel: Channel) -> Shape {
    let settings = &occasion.view().policy.stream;
    let bytes = |chars: u32| usize::try_from(chars).unwrap_or(usize::MAX);
    let gathers = occasion.classifies(Stage::Output, origin(channel));
    Shape {
        first: if gathers { bytes(settings.first_window_chars) } else { 1 },
        later: if gathers { bytes(settings.window_chars) } else { 1 },
        most: if gathers { bytes(settings.max_window_chars) } else { 1 },
        context: bytes(settings.overlap_chars).max(PatternSet::CONTEXT),
        hold: settings.hold,
    }
}
