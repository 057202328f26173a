//! Pattern recognisers over whole texts and over streams.
//!
//! Each recogniser is an anchored DFA that is tried at one place after the other, from left to right. That costs a
//! little against one big search, and buys what a stream needs: at any place it is known whether *some* continuation of
//! the text could still begin a match there, so that exactly the bytes that may become part of a match are held back.
//!
//! What is found is leftmost, then longest, and a match never overlaps another. The time is linear in the text: a
//! recogniser looks at no more than its own maximal length from any one place.

use std::ops::Range;

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::{primitives::StateID, start};
use regex_automata::{Anchored, MatchKind};
use regex_syntax::hir::{Capture, Hir, HirKind, Look, Repetition};

use crate::guard::pii::{self, Form};

/// The longest match of an operator's pattern, in bytes. A pattern that could match more ends its match here.
const MAX_MATCH: usize = 512;
/// The most memory that one pattern's automaton may take, and again while it is being built.
const MAX_AUTOMATON: usize = 16 << 20;
const MAX_NFA: usize = 4 << 20;

/// One recognised piece of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match<'a> {
    /// Bytes of the text.
    pub range: Range<usize>,
    /// An entity of [`crate::guard::ENTITIES`], or the id of an operator's pattern.
    pub entity: &'a str,
}

/// What can be said of a text that may go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled<'a> {
    /// Matches that no continuation can change. They end at or before [`Settled::safe`].
    pub matches: Vec<Match<'a>>,
    /// The longest prefix (in bytes, at a character boundary) that no continuation can turn into part of a match
    /// other than those of [`Settled::matches`].
    pub safe: usize,
}

/// Why a set of patterns was refused.
#[derive(Debug, thiserror::Error)]
pub enum PatternError {
    /// The policy names an entity that no built-in recogniser finds.
    #[error("unknown entity {name:?}; known are {}", pii::ENTITIES.join(", "))]
    UnknownEntity {
        /// As written.
        name: String,
    },
    /// Not a regular expression, or too deep.
    #[error("pattern {id:?}: {reason}")]
    Syntax {
        /// The pattern's id.
        id: String,
        /// As the parser puts it.
        reason: String,
    },
    /// The expression matches the empty text, which is everywhere.
    #[error("pattern {id:?} matches the empty text")]
    Empty {
        /// The pattern's id.
        id: String,
    },
    /// The expression can match nothing at all.
    #[error("pattern {id:?} can never match")]
    Never {
        /// The pattern's id.
        id: String,
    },
    /// The automaton would take too much memory.
    #[error(
        "pattern {id:?} needs an automaton of more than {} MiB: smaller repetition counts, or (?-u:\\w) in place of \\w, make it small",
        MAX_AUTOMATON >> 20
    )]
    TooLarge {
        /// The pattern's id.
        id: String,
    },
}

/// The recognisers of one rule, compiled once per policy.
#[derive(Debug)]
pub struct PatternSet {
    recognisers: Vec<Recogniser>,
    /// Which bytes can begin a match of any recogniser.
    first: Box<[bool; 256]>,
}

impl PatternSet {
    /// How many bytes before a place the recognisers may look at. Who cuts a stream into pieces keeps as much of what
    /// came before (if there is as much) in front of the next piece: see [`PatternSet::settle`].
    pub const CONTEXT: usize = 8;

    /// Compiles built-in recognisers by entity name, and operators' patterns as (id, regular expression).
    ///
    /// The syntax is that of the `regex` crate. Word boundaries (`\b`) are those of ASCII words, so that a letter
    /// outside ASCII bounds a word; `^` and `$` mean begin and end of the whole text unless `(?m)` is set. A match is at
    /// most 512 bytes long: longer ones are cut off there.
    ///
    /// # Errors
    /// An unknown entity; an expression that cannot be read, matches the empty text, can never match, or takes too
    /// much memory.
    pub fn compile(entities: &[String], patterns: &[(String, String)]) -> Result<Self, PatternError> {
        let mut recognisers = Vec::new();
        for name in entities {
            if !pii::ENTITIES.contains(&name.as_str()) {
                return Err(PatternError::UnknownEntity { name: name.clone() });
            }
            for form in pii::FORMS.iter().filter(|form| form.entity == name) {
                recognisers.push(Recogniser::built_in(form)?);
            }
        }
        for (id, regex) in patterns {
            recognisers.push(Recogniser::operators(id, regex)?);
        }
        let first = Box::new(std::array::from_fn(|byte| recognisers.iter().any(|r| r.first[byte])));
        Ok(Self { recognisers, first })
    }

    /// All matches of a whole text: sorted, not overlapping, leftmost and then longest.
    pub fn find(&self, text: &str) -> Vec<Match<'_>> {
        self.find_from(text, 0)
    }

    /// As [`PatternSet::find`], for the rest of a text from the byte `from` on: what is before it is only looked back at.
    pub fn find_from(&self, text: &str, from: usize) -> Vec<Match<'_>> {
        self.walk(text, from, false).matches
    }

    /// The longest prefix, in bytes, of a text that goes on of which no byte can become part of a match, other than of
    /// those that already lie within the prefix.
    pub fn safe_len(&self, text: &str) -> usize {
        self.settle(text, 0).safe
    }

    /// What is certain of `text[from..]`, however the text goes on.
    ///
    /// For a stream: keep a buffer; with each delta, settle it, release `text[from..safe]` with the matches replaced,
    /// and go on with `from = safe`. Text before `from` may be dropped from the buffer, but for
    /// [`PatternSet::CONTEXT`] bytes. At the end of the stream, [`PatternSet::find_from`] gives the matches of the rest.
    /// What is released that way is what [`PatternSet::find`] would have found in the whole text. Less than 4 KiB are
    /// ever held back (512 bytes where only operators' patterns are in the set).
    pub fn settle(&self, text: &str, from: usize) -> Settled<'_> {
        self.walk(text, from, true)
    }

    /// The text with every match replaced by its entity's name in brackets; nothing if there is no match.
    pub fn redact(&self, text: &str) -> Option<String> {
        let matches = self.find(text);
        if matches.is_empty() {
            return None;
        }
        let mut out = String::with_capacity(text.len());
        let mut at = 0;
        for found in matches {
            out.push_str(&text[at..found.range.start]);
            out.push('[');
            out.push_str(found.entity);
            out.push(']');
            at = found.range.end;
        }
        out.push_str(&text[at..]);
        Some(out)
    }

    fn walk(&self, text: &str, from: usize, goes_on: bool) -> Settled<'_> {
        let bytes = text.as_bytes();
        let mut matches = Vec::new();
        let mut ends = Vec::new();
        let mut at = from;
        while let Some(&byte) = bytes.get(at) {
            if !self.first[usize::from(byte)] || !text.is_char_boundary(at) {
                at += 1;
                continue;
            }
            let mut longest: Option<(usize, &str)> = None;
            for recogniser in &self.recognisers {
                match recogniser.at(text, at, goes_on, &mut ends) {
                    Outcome::Open => return Settled { matches, safe: at },
                    Outcome::Match(end) if longest.is_none_or(|(best, _)| end > best) => {
                        longest = Some((end, &recogniser.name));
                    }
                    Outcome::Match(_) | Outcome::Nothing => {}
                }
            }
            if let Some((end, entity)) = longest {
                matches.push(Match { range: at..end, entity });
                at = end;
            } else {
                at += 1;
            }
        }
        Settled { matches, safe: bytes.len() }
    }
}

/// What a recogniser says of one place in a text.
enum Outcome {
    /// No match begins here.
    Nothing,
    /// The longest match that begins here ends at this byte.
    Match(usize),
    /// That depends on how the text goes on.
    Open,
}

#[derive(Debug)]
struct Recogniser {
    name: String,
    dfa: dense::DFA<Vec<u32>>,
    first: Box<[bool; 256]>,
    max_len: usize,
    form: Option<&'static Form>,
}

impl Recogniser {
    fn built_in(form: &'static Form) -> Result<Self, PatternError> {
        let dfa = automaton(form.entity, form.regex)?;
        Ok(Self { name: form.entity.into(), first: first(&dfa), dfa, max_len: form.max_len, form: Some(form) })
    }

    fn operators(id: &str, regex: &str) -> Result<Self, PatternError> {
        let dfa = automaton(id, regex)?;
        Ok(Self { name: id.into(), first: first(&dfa), dfa, max_len: MAX_MATCH, form: None })
    }

    /// Whether a match begins at `at`. `ends` is scratch space.
    fn at(&self, text: &str, at: usize, goes_on: bool, ends: &mut Vec<usize>) -> Outcome {
        let bytes = text.as_bytes();
        if !self.first[usize::from(bytes[at])] || self.form.is_some_and(|form| !(form.before)(&bytes[..at])) {
            return Outcome::Nothing;
        }
        let look = start::Config::new().anchored(Anchored::Yes).look_behind(at.checked_sub(1).map(|i| bytes[i]));
        let Ok(mut state) = self.dfa.start_state(&look) else { return Outcome::Nothing };
        ends.clear();
        // One byte beyond the longest match: a match shows in the state after the byte that follows it.
        let stop = bytes.len().min(at + self.max_len + 1);
        for (i, &byte) in bytes.iter().enumerate().take(stop).skip(at) {
            state = self.dfa.next_state(state, byte);
            if self.dfa.is_match_state(state) {
                ends.push(i);
            }
            if self.dfa.is_dead_state(state) {
                return self.longest(text, at, goes_on, ends);
            }
        }
        if bytes.len() <= at + self.max_len {
            if goes_on && self.is_open(state) {
                return Outcome::Open;
            }
            if self.dfa.is_match_state(self.dfa.next_eoi_state(state)) {
                ends.push(bytes.len());
            }
        }
        self.longest(text, at, goes_on, ends)
    }

    fn longest(&self, text: &str, at: usize, goes_on: bool, ends: &[usize]) -> Outcome {
        let mut ends = ends.iter().rev().filter(|&&end| end > at && text.is_char_boundary(end));
        let Some(form) = self.form else {
            return ends.next().map_or(Outcome::Nothing, |&end| Outcome::Match(end));
        };
        for &end in ends {
            let bounded = (form.after)(&text.as_bytes()[end..]);
            if bounded == Some(false) || !(form.check)(&text[at..end]) {
                continue;
            }
            return if bounded.is_none() && goes_on { Outcome::Open } else { Outcome::Match(end) };
        }
        Outcome::Nothing
    }

    /// Whether any continuation leads from here to a match that ends here or later.
    fn is_open(&self, state: StateID) -> bool {
        self.dfa.is_match_state(self.dfa.next_eoi_state(state))
            || (0..=u8::MAX).any(|byte| !self.dfa.is_dead_state(self.dfa.next_state(state, byte)))
    }
}

/// Compiles to an anchored DFA that reports every end of a match, not only the preferred one.
fn automaton(id: &str, regex: &str) -> Result<dense::DFA<Vec<u32>>, PatternError> {
    let hir = regex_syntax::parse(regex)
        .map_err(|error| PatternError::Syntax { id: id.into(), reason: error.to_string() })?;
    match hir.properties().minimum_len() {
        None => return Err(PatternError::Never { id: id.into() }),
        Some(0) => return Err(PatternError::Empty { id: id.into() }),
        Some(_) => {}
    }
    let too_large = || PatternError::TooLarge { id: id.into() };
    let nfa = thompson::Compiler::new()
        .configure(thompson::Config::new().which_captures(WhichCaptures::None).nfa_size_limit(Some(MAX_NFA)))
        .build_from_hir(&ascii_words(hir))
        .map_err(|_| too_large())?;
    let config = dense::Config::new()
        .match_kind(MatchKind::All)
        .start_kind(StartKind::Anchored)
        .accelerate(false)
        .dfa_size_limit(Some(MAX_AUTOMATON))
        .determinize_size_limit(Some(MAX_AUTOMATON));
    dense::Builder::new().configure(config).build_from_nfa(&nfa).map_err(|_| too_large())
}

/// Unicode word boundaries become ASCII ones: the others need more than a byte of context, which no DFA has.
fn ascii_words(hir: Hir) -> Hir {
    match hir.into_kind() {
        HirKind::Empty => Hir::empty(),
        HirKind::Literal(literal) => Hir::literal(literal.0),
        HirKind::Class(class) => Hir::class(class),
        HirKind::Look(look) => Hir::look(match look {
            Look::WordUnicode => Look::WordAscii,
            Look::WordUnicodeNegate => Look::WordAsciiNegate,
            Look::WordStartUnicode => Look::WordStartAscii,
            Look::WordEndUnicode => Look::WordEndAscii,
            Look::WordStartHalfUnicode => Look::WordStartHalfAscii,
            Look::WordEndHalfUnicode => Look::WordEndHalfAscii,
            other => other,
        }),
        HirKind::Repetition(r) => Hir::repetition(Repetition { sub: Box::new(ascii_words(*r.sub)), ..r }),
        HirKind::Capture(c) => Hir::capture(Capture { sub: Box::new(ascii_words(*c.sub)), ..c }),
        HirKind::Concat(parts) => Hir::concat(parts.into_iter().map(ascii_words).collect()),
        HirKind::Alternation(parts) => Hir::alternation(parts.into_iter().map(ascii_words).collect()),
    }
}

/// Which bytes can begin a match, whatever comes before them.
fn first(dfa: &dense::DFA<Vec<u32>>) -> Box<[bool; 256]> {
    let mut first = Box::new([false; 256]);
    for look_behind in std::iter::once(None).chain((0..=u8::MAX).map(Some)) {
        let look = start::Config::new().anchored(Anchored::Yes).look_behind(look_behind);
        let Ok(state) = dfa.start_state(&look) else { continue };
        for byte in 0..=u8::MAX {
            first[usize::from(byte)] |= !dfa.is_dead_state(dfa.next_state(state, byte));
        }
    }
    first
}

#[cfg(test)]
mod tests;
