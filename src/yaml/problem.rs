//! What is wrong with a file, and where: the one form in which every mistake is told.

use std::fmt::{self, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_saphyr::granit_parser::{Event, Parser};
use serde_saphyr::{DefaultMessageFormatter, Error as YamlError, Location, MessageFormatter as _, budget};

use super::spanned::Spanned;
use super::tree::{At, Composed};

/// One mistake in one file.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The file, as the config names its directory.
    pub file: PathBuf,
    /// Counted from 1.
    pub line: u64,
    /// In characters, counted from 1.
    pub column: u64,
    /// Where in the document, e.g. `rules[1].action`; empty for its root.
    pub key: String,
    /// What is wrong and what was expected.
    pub message: String,
    /// The line with a caret under the place.
    pub snippet: String,
    /// The file that was asked for, if it is another one that builds on this.
    pub inherited_by: Option<Box<PathBuf>>,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}:{}: ", self.file.display(), self.line, self.column)?;
        if !self.key.is_empty() {
            write!(out, "{}: ", self.key)?;
        }
        out.write_str(&self.message)?;
        match &self.inherited_by {
            Some(path) => write!(out, " (inherited by {})", path.display()),
            None => Ok(()),
        }
    }
}

/// A file under examination: knows how to say that something in it is wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    pub(crate) path: &'a Path,
    pub(crate) text: &'a str,
    composed: Option<&'a Composed>,
}

impl<'a> Source<'a> {
    /// A file by itself.
    pub(crate) fn of(path: &'a Path, text: &'a str) -> Self {
        Self { path, text, composed: None }
    }

    /// A document that was put together from several files.
    pub(crate) fn composed(composed: &'a Composed) -> Self {
        Self { path: composed.path(), text: &composed.text, composed: Some(composed) }
    }

    /// The file and the line, counted from 1, in which something is written.
    pub(crate) fn written_at(&self, at: Location) -> (&'a Path, u64) {
        let at = self.at(Meant::Node, at);
        (at.path, at.line)
    }

    /// A document that is empty or lacks a field may have no better place than its start.
    fn at(&self, meant: Meant, at: Location) -> At<'a> {
        let (line, column) = if at.line() == 0 { (1, 1) } else { (at.line(), at.column()) };
        let own = || At { path: self.path, text: self.text, line, column, width: width_of(at) };
        match self.composed {
            None => own(),
            // No place at all is the file that was asked for, as a whole.
            Some(composed) if at.line() == 0 => At { path: self.path, text: composed.own_text(), ..own() },
            Some(composed) => composed.origin(line, column, meant == Meant::Node).unwrap_or_else(own),
        }
    }

    /// A mistake that was found after parsing.
    pub(crate) fn problem(&self, at: Location, message: impl Into<String>) -> Problem {
        self.problem_of(Meant::Node, at, message.into())
    }

    /// A mistake inside a text that was written: at its bytes `inside`, where they can be found in the file again (a
    /// text with escapes or folded lines is pointed at as a whole).
    pub(crate) fn problem_inside(
        &self,
        written: &Spanned<String>,
        inside: Range<usize>,
        message: impl Into<String>,
    ) -> Problem {
        let mut problem = self.problem(written.referenced, message);
        let At { text, line: top, column: left, .. } = self.at(Meant::Node, written.referenced);
        let before = written.value.get(..inside.start).unwrap_or(&written.value);
        let nth = before.matches('\n').count();
        let in_line = before.rsplit('\n').next().unwrap_or_default();
        let Some(line) = written.value.lines().nth(nth).or(Some("")) else { return problem };
        let first = usize::try_from(top).unwrap_or(1).saturating_sub(1);
        let raw: Vec<&str> = text.lines().skip(first).collect();
        let from = raw.first().map_or(0, |raw| {
            raw.char_indices().nth(usize::try_from(left).unwrap_or(1).saturating_sub(1)).map_or(raw.len(), |c| c.0)
        });
        // In a block the text begins on the line after its sign.
        let rows = [(nth, if nth == 0 { from } else { 0 }), (nth + 1, 0)];
        let found = rows.into_iter().find_map(|(row, from)| {
            let raw = raw.get(row)?;
            Some((row, raw, from + raw.get(from..)?.find(line)?))
        });
        if let Some((row, raw, start)) = found.filter(|_| !line.is_empty()) {
            problem.line = top + row as u64;
            problem.column = (raw[..start].chars().count() + in_line.chars().count()) as u64 + 1;
            let width = written.value.get(inside).map_or(1, |part| part.chars().count());
            problem.snippet = snippet(text, problem.line, problem.column, width);
        }
        problem
    }

    /// Nothing but blanks and comments.
    pub(crate) fn is_empty(&self) -> bool {
        self.text.lines().all(|line| matches!(line.trim_start().chars().next(), None | Some('#')))
    }

    /// A mistake that the parser found.
    pub(crate) fn unreadable(&self, error: &YamlError) -> Problem {
        let error = error.without_snippet();
        let place = error.location().unwrap_or(Location::UNKNOWN);
        if self.is_empty() {
            return self.problem(place, "the file is empty");
        }
        let meant = match error {
            YamlError::SerdeUnknownField { .. } | YamlError::SerdeMissingField { .. } => Meant::Mapping,
            _ => Meant::Node,
        };
        self.problem_of(meant, place, said_better(error))
    }

    /// A mistake that was found after parsing, at the value of `key` (e.g. `upstreams.openai.url`). If the document
    /// lacks it, at the innermost collection that should have held it.
    pub(crate) fn problem_with(&self, key: &str, message: impl Into<String>) -> Problem {
        let (line, column, width) = place_of(self.text, key);
        let snippet = snippet(self.text, line, column, width);
        let (file, key, message) = (self.path.to_owned(), key.to_owned(), message.into());
        Problem { file, line, column, key, message, snippet, inherited_by: None }
    }

    fn problem_of(&self, meant: Meant, at: Location, message: String) -> Problem {
        let At { path, text, line, column, width } = self.at(meant, at);
        Problem {
            file: path.to_owned(),
            line,
            column,
            key: key_at(text, line, column, meant),
            message,
            snippet: snippet(text, line, column, width),
            inherited_by: (path != self.path).then(|| Box::new(self.path.to_owned())),
        }
    }
}

fn width_of(at: Location) -> usize {
    usize::try_from(at.span().len()).unwrap_or(1)
}

/// What a place stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meant {
    /// What begins there; of several, the outermost.
    Node,
    /// The mapping that has a key there.
    Mapping,
}

/// Which words there are, and the one that was probably meant.
pub(crate) fn expected<'a>(what: &str, found: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let told = match known.as_slice() {
        [] => format!("there is no {what} to choose from"),
        [only] => format!("expected `{only}`"),
        several => format!("expected one of {}", ticked(several)),
    };
    match closest(found, &known) {
        Some(close) => format!("{told}; did you mean `{close}`?"),
        None => told,
    }
}

/// The words in backticks.
pub(crate) fn ticked(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// The parser's words, where ours say more.
fn said_better(error: &YamlError) -> String {
    match error {
        YamlError::SerdeUnknownField { field, expected: fields, .. } => {
            format!("unknown field `{field}`, {}", expected("field", field, fields.iter().copied()))
        }
        YamlError::SerdeUnknownVariant { variant, expected: words, .. } => {
            format!("unknown value `{variant}`, {}", expected("value", variant, words.iter().copied()))
        }
        YamlError::SerdeMissingField { field, .. } => format!("missing field `{field}`"),
        YamlError::Unexpected { expected: "sequence start", .. } => {
            "expected a list (`[a, b]`, or lines that start with `- `)".to_owned()
        }
        YamlError::Unexpected { expected: "mapping start", .. } => {
            "expected a mapping (`{ key: value }`, or lines of `key: value`)".to_owned()
        }
        YamlError::InvalidScalar { ty: "u32", .. } => "expected a whole number, zero or more".to_owned(),
        YamlError::InvalidScalar { ty: "f64" | "floating point", .. } => "expected a number".to_owned(),
        YamlError::NonFiniteFloat { value, .. } => format!("expected a finite number, found `{value}`"),
        YamlError::DuplicateMappingKey { key: Some(key), .. } => format!("`{key}` is written twice"),
        YamlError::DuplicateMappingKey { key: None, .. } => "a key is written twice".to_owned(),
        YamlError::MergeKeyNotAllowed { .. } => "merge keys (`<<`) are not allowed here".to_owned(),
        YamlError::MultipleDocuments { .. }
        | YamlError::Budget { breach: budget::BudgetBreach::Documents { .. }, .. } => {
            "a file holds one document: expected no `---` after its start".to_owned()
        }
        YamlError::NullIntoString { .. } => "expected a text, found nothing (write \"\" for an empty one)".to_owned(),
        YamlError::Budget { breach, .. } => format!("larger or deeper than a file may be: {breach:?}"),
        other => match DefaultMessageFormatter.format_message(other).into_owned().as_str() {
            "invalid socket address syntax" => "expected an address with a port, e.g. 127.0.0.1:8787".to_owned(),
            said => said.to_owned(),
        },
    }
}

fn closest<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    let found = found.to_lowercase();
    let distance = |word: &str| strsim::osa_distance(&found, &word.to_lowercase());
    let near = known.iter().copied().min_by_key(|word| distance(word))?;
    // A third of the word may be wrong; over that it is another word.
    (distance(near) <= near.chars().count().max(3) / 3).then_some(near)
}

/// The path of keys and indices to what stands at a place, found by reading the document again.
fn key_at(text: &str, line: u64, column: u64, meant: Meant) -> String {
    let mut frames: Vec<Frame> = Vec::new();
    let mut key = String::new();
    for (event, span) in Parser::new_from_str(text).map_while(Result::ok) {
        let start = (span.start.line() as u64, span.start.col() as u64 + 1);
        if start > (line, column) {
            break;
        }
        let Some((_, opened)) = walk(&mut frames, event) else { continue };
        let outer = frames.len().saturating_sub(usize::from(meant == Meant::Mapping && opened.is_none()));
        key = written(&frames[..outer]);
        if meant == Meant::Node && start == (line, column) {
            break;
        }
        frames.extend(opened);
    }
    key
}

/// Line, column and width of the value of `key`, or of the key where the value is a collection; of the innermost
/// collection around it where the document lacks it.
fn place_of(text: &str, key: &str) -> (u64, u64, usize) {
    let mut frames: Vec<Frame> = Vec::new();
    let mut best = (1, 1, 1);
    let mut depth = 0;
    for (event, span) in Parser::new_from_str(text).map_while(Result::ok) {
        let Some((scalar, opened)) = walk(&mut frames, event) else { continue };
        let path = written(&frames);
        let rest = key.strip_prefix(&path).filter(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        if !path.is_empty() && rest.is_some() && opened.is_none() && path.len() >= depth {
            depth = path.len();
            let width = scalar.map_or(1, |word| word.chars().count());
            best = (span.start.line() as u64, span.start.col() as u64 + 1, width);
        }
        frames.extend(opened);
    }
    best
}

/// The word at a key, of a document that may be broken further down.
pub(crate) fn value_of(text: &str, key: &str) -> Option<String> {
    let mut frames: Vec<Frame> = Vec::new();
    let mut key_seen = false;
    for (event, _) in Parser::new_from_str(text).map_while(Result::ok) {
        let Some((scalar, opened)) = walk(&mut frames, event) else { continue };
        if written(&frames) == key {
            // The key itself comes first, then its value.
            match scalar {
                Some(_) if !key_seen => key_seen = true,
                word => return word,
            }
        }
        frames.extend(opened);
    }
    None
}

/// A collection that the walk is in.
pub(super) enum Frame {
    Mapping { key: Option<String>, value_next: bool },
    Sequence { items: usize },
}

/// Goes on by one event. A node gives its word, if it is a scalar, and the frame that it opens, if it is a collection;
/// whoever walks puts that frame on top.
pub(super) fn walk(frames: &mut Vec<Frame>, event: Event<'_>) -> Option<(Option<String>, Option<Frame>)> {
    let (scalar, opened) = match event {
        Event::MappingStart(..) => (None, Some(Frame::Mapping { key: None, value_next: false })),
        Event::SequenceStart(..) => (None, Some(Frame::Sequence { items: 0 })),
        Event::Scalar(word, ..) => (Some(word.into_owned()), None),
        Event::Alias(_) => (None, None),
        Event::MappingEnd | Event::SequenceEnd => {
            frames.pop();
            return None;
        }
        _ => return None,
    };
    step(frames, scalar.as_deref());
    Some((scalar, opened))
}

/// Takes the next node of the innermost collection.
fn step(frames: &mut [Frame], scalar: Option<&str>) {
    match frames.last_mut() {
        Some(Frame::Mapping { value_next, .. }) if *value_next => *value_next = false,
        Some(Frame::Mapping { key, value_next }) => {
            *key = Some(scalar.unwrap_or("?").to_owned());
            *value_next = true;
        }
        Some(Frame::Sequence { items }) => *items += 1,
        None => {}
    }
}

pub(super) fn written(frames: &[Frame]) -> String {
    let mut path = String::new();
    for frame in frames {
        match frame {
            Frame::Mapping { key, .. } => {
                let dot = if path.is_empty() { "" } else { "." };
                let _ = write!(path, "{dot}{}", key.as_deref().unwrap_or("?"));
            }
            Frame::Sequence { items } => {
                let _ = write!(path, "[{}]", items.saturating_sub(1));
            }
        }
    }
    path
}

/// The line, its number, and a caret under what is meant. Control characters are shown as blanks.
fn snippet(text: &str, line: u64, column: u64, width: usize) -> String {
    let index = usize::try_from(line).unwrap_or(usize::MAX).saturating_sub(1);
    let shown: String =
        text.lines().nth(index).unwrap_or("").chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let before = usize::try_from(column).unwrap_or(1).saturating_sub(1);
    let carets = "^".repeat(width.clamp(1, shown.chars().count().saturating_sub(before).max(1)));
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    format!("{margin} |\n{number} | {shown}\n{margin} | {}{carets}\n", " ".repeat(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "listen: here\nupstreams:\n  a: { url: \"x y\", keys: [k1, k2] }\n  ab:\n    url: z\n";

    fn marked(key: &str) -> (u64, u64, usize) {
        place_of(TEXT, key)
    }

    #[test]
    fn a_key_leads_to_its_value_or_to_what_should_hold_it() {
        assert_eq!(marked("listen"), (1, 9, 4));
        assert_eq!(marked("upstreams"), (2, 1, 9));
        assert_eq!(marked("upstreams.a.url"), (3, 13, 3));
        assert_eq!(marked("upstreams.a.keys[1]"), (3, 31, 2));
        assert_eq!(marked("upstreams.ab.url"), (5, 10, 1));
        assert_eq!(marked("upstreams.ab.key"), (4, 3, 2), "not there: the mapping that lacks it");
        assert_eq!(marked("upstreams.abc.url"), (2, 1, 9), "`ab` is another name");
        assert_eq!(marked("nowhere"), (1, 1, 1));
        assert_eq!(place_of("a: [", "a"), (1, 1, 1), "a file that changed meanwhile does no harm");
    }
}
