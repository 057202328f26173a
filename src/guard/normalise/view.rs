//! A text made from another by replacing pieces of it, and where each byte came from.

use std::ops::Range;

/// What was undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Honest forms that matter to a pattern at most: canonical composition, kinds of blanks, joiners where a script or
    /// an emoji asks for them, named entities.
    Form,
    /// Characters without width, control characters, soft hyphens.
    Hidden,
    /// Marks and overrides of direction.
    Bidi,
    /// Text in tag characters (U+E0000 to U+E007F).
    Tags,
    /// Bytes in variation selectors.
    Selectors,
    /// Compatibility forms: full width, mathematical, enclosed letters.
    Compatibility,
    /// Combining marks heaped on letters.
    Marks,
    /// Letters of one script that look like those of another.
    Confusable,
    /// Letters set apart from each other.
    Spaced,
    /// Digits and signs in place of letters.
    Leet,
    /// Capitals strewn into words.
    Case,
    /// Base64, both alphabets.
    Base64,
    /// Hexadecimal digits.
    Hex,
    /// `%41`
    Percent,
    /// `&#65;`
    Entity,
    /// `\x41` and `\u0041`
    Escape,
    /// The alphabet turned by thirteen.
    Rot13,
    /// Words or a sentence from the end to the beginning.
    Backwards,
    /// Letters that stand on their heads.
    UpsideDown,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 19] = [
        Kind::Form,
        Kind::Hidden,
        Kind::Bidi,
        Kind::Tags,
        Kind::Selectors,
        Kind::Compatibility,
        Kind::Marks,
        Kind::Confusable,
        Kind::Spaced,
        Kind::Leet,
        Kind::Case,
        Kind::Base64,
        Kind::Hex,
        Kind::Percent,
        Kind::Entity,
        Kind::Escape,
        Kind::Rot13,
        Kind::Backwards,
        Kind::UpsideDown,
    ];

    /// The word in labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Form => "form",
            Kind::Hidden => "hidden",
            Kind::Bidi => "bidi",
            Kind::Tags => "tags",
            Kind::Selectors => "selectors",
            Kind::Compatibility => "compatibility",
            Kind::Marks => "marks",
            Kind::Confusable => "confusable",
            Kind::Spaced => "spaced",
            Kind::Leet => "leet",
            Kind::Case => "case",
            Kind::Base64 => "base64",
            Kind::Hex => "hex",
            Kind::Percent => "percent",
            Kind::Entity => "entity",
            Kind::Escape => "escape",
            Kind::Rot13 => "rot13",
            Kind::Backwards => "backwards",
            Kind::UpsideDown => "upside_down",
        }
    }

    fn bit(self) -> u32 {
        1 << (self as u32)
    }
}

/// A piece to replace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) range: Range<usize>,
    pub(super) with: String,
    pub(super) kind: Kind,
}

impl Edit {
    pub(super) fn new(range: Range<usize>, with: impl Into<String>, kind: Kind) -> Self {
        Self { range, with: with.into(), kind }
    }
}

/// A text with tricks undone, and the way back.
#[derive(Clone, Debug)]
pub struct Normalised {
    text: String,
    /// In order of the view; they cover it.
    pieces: Vec<Piece>,
    kinds: u32,
    edits: usize,
    steps: usize,
}

#[derive(Clone, Debug)]
struct Piece {
    /// Where it begins in the view; it ends where the next begins.
    at: usize,
    source: Range<usize>,
    /// Whether it is its source, byte for byte. If not, the whole source stands behind each byte of it.
    same: bool,
}

impl Normalised {
    /// The text itself.
    pub(super) fn of(text: &str) -> Self {
        let pieces = vec![Piece { at: 0, source: 0..text.len(), same: true }];
        Self { text: text.to_owned(), pieces, kinds: 0, edits: 0, steps: text.len() }
    }

    /// The text to judge.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text alone.
    pub(in crate::guard) fn into_text(self) -> String {
        self.text
    }

    /// What was undone; each kind once.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(|kind| self.kinds & kind.bit() != 0)
    }

    /// Whether more was undone than honest forms, so that a classifier should see the view beside the text.
    pub fn is_suspicious(&self) -> bool {
        self.kinds & !Kind::Form.bit() != 0
    }

    /// The bytes of the original text that a range of the view was made from.
    pub fn source(&self, range: Range<usize>) -> Range<usize> {
        let (first, last) = (self.piece(range.start), self.piece(range.end.max(1) - 1));
        let (Some(first), Some(last)) = (self.pieces.get(first), self.pieces.get(last)) else { return 0..0 };
        let start = if first.same { first.source.start + (range.start - first.at) } else { first.source.start };
        let end = if last.same { last.source.start + (range.end.max(last.at) - last.at) } else { last.source.end };
        start..end.min(last.source.end).max(start)
    }

    /// The first place of the view that was made from the original text at or after `source`.
    pub fn position(&self, source: usize) -> usize {
        let at = self.pieces.partition_point(|piece| piece.source.end <= source);
        let Some(piece) = self.pieces.get(at) else { return self.text.len() };
        if piece.same { piece.at + source.saturating_sub(piece.source.start) } else { piece.at }
    }

    /// How many pieces have been replaced.
    pub(super) fn edits(&self) -> usize {
        self.edits
    }

    /// Bytes looked at while making this: the measure of the work.
    #[cfg(test)]
    pub(super) fn steps(&self) -> usize {
        self.steps
    }

    pub(super) fn stepped(&mut self, steps: usize) {
        self.steps += steps;
    }

    fn piece(&self, at: usize) -> usize {
        self.pieces.partition_point(|piece| piece.at <= at).saturating_sub(1)
    }

    /// Makes replacements, which must be in order and must not overlap.
    pub(super) fn replace(self, edits: &[Edit]) -> Self {
        if edits.is_empty() {
            return self;
        }
        let mut made = Maker {
            out: Normalised {
                text: String::with_capacity(self.text.len()),
                pieces: Vec::with_capacity(self.pieces.len() + edits.len()),
                kinds: self.kinds,
                edits: self.edits + edits.len(),
                steps: self.steps + self.text.len() + edits.len() + self.pieces.len(),
            },
            old: &self,
            cursor: 0,
        };
        let mut at = 0;
        for edit in edits {
            made.copy(at..edit.range.start);
            made.put(edit);
            at = edit.range.end;
        }
        made.copy(at..self.text.len());
        made.out
    }
}

struct Maker<'a> {
    out: Normalised,
    old: &'a Normalised,
    cursor: usize,
}

impl Maker<'_> {
    fn end_of(&self, piece: usize) -> usize {
        self.old.pieces.get(piece + 1).map_or(self.old.text.len(), |next| next.at)
    }

    /// The piece that `at` lies in; never asked for anything further left than before.
    fn seek(&mut self, at: usize) -> Option<Piece> {
        while self.end_of(self.cursor) <= at && self.cursor + 1 < self.old.pieces.len() {
            self.cursor += 1;
        }
        self.old.pieces.get(self.cursor).cloned()
    }

    fn copy(&mut self, range: Range<usize>) {
        let mut at = range.start;
        while at < range.end {
            let Some(piece) = self.seek(at) else { return };
            let end = self.end_of(self.cursor).min(range.end).max(at + 1);
            let source = if piece.same {
                piece.source.start + (at - piece.at)..piece.source.start + (end - piece.at)
            } else {
                piece.source
            };
            self.push(at..end, source, piece.same);
            at = end;
        }
    }

    fn push(&mut self, text: Range<usize>, source: Range<usize>, same: bool) {
        let at = self.out.text.len();
        self.out.text.push_str(self.old.text.get(text).unwrap_or_default());
        match self.out.pieces.last_mut() {
            Some(last) if last.same && same && last.source.end == source.start => last.source.end = source.end,
            Some(last) if !last.same && !same && last.source == source => {}
            _ => self.out.pieces.push(Piece { at, source, same }),
        }
    }

    fn put(&mut self, edit: &Edit) {
        self.out.kinds |= edit.kind.bit();
        if edit.with.is_empty() {
            return;
        }
        let Some(first) = self.seek(edit.range.start) else { return };
        let start = if first.same { first.source.start + (edit.range.start - first.at) } else { first.source.start };
        let Some(last) = self.seek(edit.range.end - 1) else { return };
        let end = if last.same { last.source.start + (edit.range.end - last.at) } else { last.source.end };
        self.out.pieces.push(Piece { at: self.out.text.len(), source: start..end, same: false });
        self.out.text.push_str(&edit.with);
    }
}
