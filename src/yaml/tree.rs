//! A document as a tree whose nodes know where they are written, so that the trees of several files can be put together
//! and read as one document, and what is wrong in it is told where its author wrote it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle};

use super::write;

/// More nodes than this, aliases followed, are more than a file may have.
const MOST: usize = 50_000;

/// Where a node begins, and in which of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(super) file: usize,
    pub(super) line: u64,
    pub(super) column: u64,
    pub(super) width: usize,
}

/// One value as it is written.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(super) place: Place,
    /// Written between brackets or braces.
    pub(super) flow: bool,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// Plain ones may be numbers and other things than text.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// Reads a document that has been parsed before. `file` is its number among those that are put together. `None` if it
    /// is no single document after all, or too large a one.
    pub(crate) fn read(text: &str, file: usize) -> Option<Self> {
        let (mut open, mut anchors, mut count) = (Vec::<(Self, usize)>::new(), HashMap::<usize, Self>::new(), 0);
        for step in Parser::new_from_str(text) {
            let (event, span) = step.ok()?;
            let place = place_of(&event, span, file);
            let node = |kind, flow| Self { kind, place, flow };
            let (done, anchor) = match event {
                Event::Scalar(word, style, anchor, _) => {
                    let plain = style == ScalarStyle::Plain;
                    (node(Kind::Scalar { text: word.into_owned(), plain }, false), anchor)
                }
                Event::Alias(anchor) => {
                    let meant = anchors.get(&anchor)?;
                    count += meant.size();
                    (Self { place, ..meant.clone() }, 0)
                }
                Event::SequenceStart(style, anchor, _) => {
                    open.push((node(Kind::List(Vec::new()), style == StructureStyle::Flow), anchor));
                    continue;
                }
                Event::MappingStart(style, anchor, _) => {
                    open.push((node(Kind::Map(Vec::new()), style == StructureStyle::Flow), anchor));
                    continue;
                }
                Event::SequenceEnd | Event::MappingEnd => open.pop()?,
                _ => continue,
            };
            count += 1;
            if count > MOST {
                return None;
            }
            if anchor != 0 {
                anchors.insert(anchor, done.clone());
            }
            match open.last_mut() {
                Some((parent, _)) => parent.take(done),
                None => return Some(done),
            }
        }
        None
    }

    /// The next member of a collection. In a mapping, keys and values take turns: a key waits beside a stand-in.
    fn take(&mut self, next: Self) {
        match &mut self.kind {
            Kind::List(items) => items.push(next),
            Kind::Map(members) => match members.last_mut().filter(|(_, value)| value.is_stand_in()) {
                Some((_, value)) => *value = next,
                None => members.push((next, Self::stand_in())),
            },
            Kind::Scalar { .. } => {}
        }
    }

    fn stand_in() -> Self {
        let place = Place { file: usize::MAX, line: 0, column: 0, width: 0 };
        Self { kind: Kind::List(Vec::new()), place, flow: false }
    }

    fn is_stand_in(&self) -> bool {
        self.place.file == usize::MAX
    }

    fn size(&self) -> usize {
        match &self.kind {
            Kind::Scalar { .. } => 1,
            Kind::List(items) => 1 + items.iter().map(Self::size).sum::<usize>(),
            Kind::Map(members) => 1 + members.iter().map(|(key, value)| key.size() + value.size()).sum::<usize>(),
        }
    }

    /// The text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The value of a member of a mapping.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        let Kind::Map(members) = &self.kind else { return None };
        members.iter().find(|(name, _)| name.text() == Some(key)).map(|(_, value)| value)
    }

    /// The members of a mapping whose keys are words.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&str, &Self)> {
        let members = match &self.kind {
            Kind::Map(members) => members.as_slice(),
            _ => &[],
        };
        members.iter().filter_map(|(key, value)| Some((key.text()?, value)))
    }

    /// The same with another content.
    pub(crate) fn with(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// The same place with another content, that of two files: it is written in lines.
    pub(crate) fn put_together(&self, kind: Kind) -> Self {
        Self { kind, place: self.place, flow: false }
    }
}

fn place_of(event: &Event<'_>, span: Span, file: usize) -> Place {
    let width = match event {
        Event::Scalar(word, ..) => word.chars().count().max(1),
        _ => 1,
    };
    Place { file, line: span.start.line() as u64, column: span.start.col() as u64 + 1, width }
}

/// A document put together from files.
#[derive(Clone, Debug)]
pub(crate) struct Composed {
    /// What it reads.
    pub(crate) text: String,
    /// The files, with their texts; the one that was asked for is the first.
    files: Vec<(PathBuf, String)>,
    /// Where in `text` a node begins (line and column), and where it was written; in the order of the text, the outer
    /// one first of those that begin together.
    marks: Vec<(u64, u64, Place)>,
}

/// A place in a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
    pub(super) line: u64,
    pub(super) column: u64,
    pub(super) width: usize,
}

impl Composed {
    /// The document of a tree whose nodes come from `files`, by their numbers; never without a file.
    pub(crate) fn of(root: &Node, files: Vec<(PathBuf, String)>) -> Self {
        let (text, marks) = write::write(root);
        Self { text, files, marks }
    }

    /// The file that was asked for.
    pub(crate) fn path(&self) -> &Path {
        self.files.first().map_or(Path::new(""), |(path, _)| path)
    }

    /// What that file reads by itself.
    pub(super) fn own_text(&self) -> &str {
        self.files.first().map_or("", |(_, text)| text)
    }

    /// The other files.
    pub(crate) fn others(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().skip(1).map(|(path, _)| path.as_path())
    }

    /// Where it was written what begins at, or else just before, a place in the text; of several nodes that begin there,
    /// the outermost or the innermost.
    pub(super) fn origin(&self, line: u64, column: u64, outermost: bool) -> Option<At<'_>> {
        let before = self.marks.partition_point(|mark| (mark.0, mark.1) <= (line, column));
        let last = self.marks[..before].last()?;
        let together = self.marks[..before].iter().filter(|mark| (mark.0, mark.1) == (last.0, last.1));
        let (.., place) = if outermost { together.into_iter().next()? } else { last };
        let (path, text) = self.files.get(place.file)?;
        Some(At { path, text, line: place.line, column: place.column, width: place.width })
    }

    /// The text, with a comment on each line that says where that is written.
    pub(crate) fn told(&self) -> String {
        let width = |line: &str| line.chars().count();
        let margin = self.text.lines().map(width).filter(|width| *width <= 72).max().unwrap_or(0);
        let mut marks = self.marks.iter().peekable();
        let mut out = String::new();
        for (line, number) in self.text.lines().zip(1..) {
            let mut first: Option<&(u64, u64, Place)> = None;
            while let Some(mark) = marks.next_if(|mark| mark.0 == number) {
                // A list begins where its first item does; the line is that item's.
                let at = usize::try_from(mark.1).unwrap_or(1).saturating_sub(1);
                let dash = line.chars().skip(at).take(2).eq(['-', ' ']);
                first = if !dash && first.is_none_or(|first| first.1 == mark.1) { Some(mark) } else { first };
            }
            out.push_str(line);
            if let Some((path, place)) = first.and_then(|mark| Some((&self.files.get(mark.2.file)?.0, mark.2))) {
                let path: String = path.display().to_string().chars().filter(|c| !c.is_control()).collect();
                out.push_str(&" ".repeat(margin.saturating_sub(width(line))));
                // Writing to a String cannot fail.
                let _ = write!(out, "  # {path}:{}", place.line);
            }
            out.push('\n');
        }
        out
    }
}
