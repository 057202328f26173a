//! The streaming window of one lane: a plain state machine over text, without clock, model or network.
//!
//! ```text
//!            released to the client           not yet released
//!   ... ──────────────┬──────────────┬────────────────┬──────────────►
//!                     │   context    │     judged     │    arriving
//!                     └──────────── one text to judge ┘
//! ```
//! Text arrives by [`Window::push`]. When a window is [`due`](Window::due) its driver judges [`Window::text`] as a
//! whole: the context lets a phrase that began in released text be seen. A verdict in hand, it calls
//! [`Window::release`] with how much of the text may go. Nothing is released in any other way.
//!
//! Each piece of text is judged once as new text and at most once more as context, so that the work grows with the
//! length of the answer and not with its square.

use std::ops::Range;
use std::time::Duration;

/// When a window is judged, and how much of the released text it is judged with. Lengths are bytes of UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// New text that makes the first window of a lane due. Small, so that the first words come early.
    pub(super) first: usize,
    /// New text that makes the next window due, and any window after one that was not calm.
    pub(super) later: usize,
    /// After a calm window the next one takes twice the new text, up to so much. At least `later`.
    pub(super) most: usize,
    /// Released text that is judged again together with the new text.
    pub(super) context: usize,
    /// The longest time for which new text waits for more of it.
    pub(super) hold: Duration,
}

/// One lane's text: a tail of what was released, and all that was not.
#[derive(Debug)]
pub(super) struct Window {
    shape: Shape,
    text: String,
    /// Position in the lane of the first byte of `text`. Never decreases.
    start: usize,
    /// `text[..released]` has gone to the client. `0 <= released <= judged <= text.len()`
    released: usize,
    /// `text[..judged]` has been part of a judged text.
    judged: usize,
    /// New text that makes the next window due.
    enough: usize,
    first: bool,
}

impl Window {
    /// An empty lane.
    pub(super) fn new(shape: Shape) -> Self {
        Self { shape, text: String::new(), start: 0, released: 0, judged: 0, enough: shape.first, first: true }
    }

    /// Appends arriving text and says at which position of the lane it ends.
    pub(super) fn push(&mut self, delta: &str) -> usize {
        self.text.push_str(delta);
        self.end()
    }

    /// Position in the lane just after the last byte that arrived.
    pub(super) fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// Position in the lane up to which text may go to the client.
    pub(super) fn released(&self) -> usize {
        self.start + self.released
    }

    /// Bytes that wait for their release.
    pub(super) fn held(&self) -> usize {
        self.text.len() - self.released
    }

    /// Whether there is text that no verdict has covered yet.
    pub(super) fn unjudged(&self) -> bool {
        self.judged < self.text.len()
    }

    /// Whether the text should be judged now, given how long its oldest unjudged byte has waited.
    ///
    /// Due is: a sentence has ended, enough text has come, or it has waited long enough.
    pub(super) fn due(&self, waited: Duration) -> bool {
        let new = &self.text[self.judged..];
        if new.is_empty() {
            return false;
        }
        new.len() >= self.enough
            || waited >= self.shape.hold
            || (self.first && ends_sentence(new))
            || (new.len() * 2 >= self.enough && ends_sentence(new))
    }

    /// The text to judge: context and everything not yet released.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The part of [`Window::text`] that has not been released.
    pub(super) fn fresh(&self) -> Range<usize> {
        self.released..self.text.len()
    }

    /// Notes that a verdict covers all of [`Window::text`], and that its first `safe` bytes may go to the client.
    /// Bytes beyond `safe` (the beginning of what may become a match) stay, and will be judged again.
    ///
    /// `safe` is taken down to a character's beginning and never takes back what was released. After a `calm` verdict, one
    /// that was far from any objection, the next window may be longer.
    pub(super) fn release(&mut self, safe: usize, calm: bool) {
        let safe = floor_char(&self.text, safe);
        let grown = if calm && !self.first { self.enough.saturating_mul(2) } else { self.shape.later };
        self.enough = grown.clamp(self.shape.later, self.shape.most.max(self.shape.later));
        self.first = false;
        self.judged = self.text.len();
        self.released = self.released.max(safe);
        let keep = floor_char(&self.text, self.released.saturating_sub(self.shape.context));
        self.text.drain(..keep);
        self.start += keep;
        self.released -= keep;
        self.judged -= keep;
    }

    /// Position in the lane of a byte of [`Window::text`].
    pub(super) fn position(&self, offset: usize) -> usize {
        self.start + offset
    }
}

/// The last character boundary at or before `at`.
fn floor_char(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Whether text ends where a reader would pause: after a stop, with the blank that follows it or at its very end.
fn ends_sentence(text: &str) -> bool {
    let text = text.trim_end_matches(' ');
    text.ends_with(['.', '!', '?', '\n', ';', '。', '！', '？', '…'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHAPE: Shape = Shape { first: 8, later: 24, most: 60, context: 6, hold: Duration::from_millis(300) };

    #[test]
    fn a_window_is_due_by_length_sentence_or_time() {
        let mut window = Window::new(SHAPE);
        assert!(!window.due(Duration::MAX), "nothing to judge");
        window.push("Yes");
        assert!(!window.due(Duration::ZERO));
        assert!(window.due(SHAPE.hold));
        window.push(". ");
        assert!(window.due(Duration::ZERO), "the first sentence has ended");
        window.release(5, true);
        window.push("And then");
        assert!(!window.due(Duration::ZERO), "later windows are longer");
        window.push(" more words than that");
        assert!(window.due(Duration::ZERO));
    }

    #[test]
    fn context_stays_and_positions_go_on() {
        let mut window = Window::new(SHAPE);
        assert_eq!(window.push("0123456789"), 10);
        window.release(10, false);
        assert_eq!(window.text(), "456789");
        assert_eq!(window.fresh(), 6..6);
        assert_eq!(window.released(), 10);
        assert_eq!(window.push("ab"), 12);
        assert_eq!(window.position(6), 10);
        window.release(7, false);
        assert_eq!((window.released(), window.held(), window.unjudged()), (11, 1, false));
    }

    #[test]
    fn a_release_never_splits_a_character_nor_goes_back() {
        let mut window = Window::new(SHAPE);
        window.push("añb");
        window.release(2, false);
        assert_eq!(window.released(), 1);
        window.release(0, false);
        assert_eq!(window.released(), 1);
    }

    #[test]
    fn windows_grow_while_all_is_calm_and_start_again_when_it_is_not() {
        let mut window = Window::new(SHAPE);
        let mut sizes = Vec::new();
        for calm in [true, true, true, true, false, true, true] {
            let before = window.end();
            while !window.due(Duration::ZERO) {
                window.push("a");
            }
            sizes.push(window.end() - before);
            window.release(usize::MAX, calm);
        }
        assert_eq!(sizes, [8, 24, 48, 60, 60, 24, 48]);
    }

    proptest! {
        /// However the text is cut into deltas and however much each verdict frees: what is released is a growing
        /// prefix, every byte of it was part of a judged text, and the judged bytes stay linear in the text.
        #[test]
        fn releases_are_judged_prefixes(pieces in prop::collection::vec("[a-zé .]{0,12}", 0..40), back in 0usize..12, calm in prop::collection::vec(any::<bool>(), 40)) {
            let mut window = Window::new(SHAPE);
            let (mut whole, mut judged_bytes, mut rounds) = (String::new(), 0usize, 0usize);
            for piece in &pieces {
                whole.push_str(piece);
                prop_assert_eq!(window.push(piece), whole.len());
                if window.due(Duration::ZERO) {
                    let before = window.released();
                    let from = window.position(0);
                    prop_assert_eq!(window.text(), &whole[from..]);
                    prop_assert!(from <= before);
                    judged_bytes += window.text().len();
                    rounds += 1;
                    window.release(window.text().len().saturating_sub(back), calm[rounds - 1]);
                    prop_assert!(window.released() >= before && window.released() <= whole.len());
                    prop_assert!(!window.unjudged());
                }
            }
            prop_assert!(judged_bytes <= whole.len() + rounds * (SHAPE.context + back + 4));
        }
    }
}
