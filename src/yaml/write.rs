//! A tree as a document, and where each node begins in it.

use std::fmt::Write as _;

use super::tree::{Kind, Node, Place};

/// The document, and for each node its line and column there and the place where it was written.
pub(super) fn write(root: &Node) -> (String, Vec<(u64, u64, Place)>) {
    let mut writer = Writer { text: String::new(), line: 1, column: 1, marks: Vec::new() };
    writer.lines(root, 0);
    (writer.text, writer.marks)
}

struct Writer {
    text: String,
    line: u64,
    column: u64,
    marks: Vec<(u64, u64, Place)>,
}

impl Writer {
    fn put(&mut self, text: &str) {
        self.text.push_str(text);
        self.column += text.chars().count() as u64;
    }

    fn end_line(&mut self) {
        self.text.push('\n');
        self.line += 1;
        self.column = 1;
    }

    fn mark(&mut self, node: &Node) {
        self.marks.push((self.line, self.column, node.place));
    }

    /// A node that begins where the writer stands; its further lines are indented by `indent`.
    fn lines(&mut self, node: &Node, indent: usize) {
        match &node.kind {
            Kind::Map(members) if !inline(node) => {
                self.mark(node);
                for (index, (key, value)) in members.iter().enumerate() {
                    self.indent(index, indent);
                    self.inline(key);
                    self.put(":");
                    self.value(value, indent + 2);
                }
            }
            Kind::List(items) if !inline(node) => {
                self.mark(node);
                for (index, item) in items.iter().enumerate() {
                    self.indent(index, indent);
                    self.put("- ");
                    self.lines(item, indent + 2);
                }
            }
            Kind::Scalar { text, plain: false } if in_block(text) => self.block(node, text, indent),
            _ => {
                self.inline(node);
                self.end_line();
            }
        }
    }

    fn indent(&mut self, index: usize, indent: usize) {
        if index > 0 {
            self.put(&" ".repeat(indent));
        }
    }

    /// What comes after a key's colon.
    fn value(&mut self, node: &Node, indent: usize) {
        if inline(node) || matches!(node.kind, Kind::Scalar { .. }) {
            self.put(" ");
        } else {
            self.end_line();
            self.put(&" ".repeat(indent));
        }
        self.lines(node, indent);
    }

    /// A text of several lines.
    fn block(&mut self, node: &Node, text: &str, indent: usize) {
        self.mark(node);
        self.put(if text.ends_with('\n') { "|" } else { "|-" });
        self.end_line();
        for line in text.lines() {
            if !line.is_empty() {
                self.put(&" ".repeat(indent.max(2)));
                self.put(line);
            }
            self.end_line();
        }
    }

    fn inline(&mut self, node: &Node) {
        self.mark(node);
        match &node.kind {
            Kind::Scalar { text, plain: true } if text.is_empty() => self.put("null"),
            Kind::Scalar { text, plain: true } if !text.contains('\n') => self.put(text),
            Kind::Scalar { text, .. } => self.put(&quoted(text)),
            Kind::List(items) => {
                self.put("[");
                for (index, item) in items.iter().enumerate() {
                    self.put(if index > 0 { ", " } else { "" });
                    self.between(item);
                }
                self.put("]");
            }
            Kind::Map(members) if members.is_empty() => self.put("{}"),
            Kind::Map(members) => {
                for (index, (key, value)) in members.iter().enumerate() {
                    self.put(if index > 0 { ", " } else { "{ " });
                    self.between(key);
                    self.put(": ");
                    self.between(value);
                }
                self.put(" }");
            }
        }
    }

    /// A node between brackets. An alias may bring a plain text there that would not be one text among them.
    fn between(&mut self, node: &Node) {
        match &node.kind {
            Kind::Scalar { text, plain: true } if text.contains([',', '[', ']', '{', '}']) => {
                self.mark(node);
                self.put(&quoted(text));
            }
            _ => self.inline(node),
        }
    }
}

/// Whether a collection is written between brackets.
fn inline(node: &Node) -> bool {
    match &node.kind {
        Kind::Scalar { .. } => false,
        Kind::List(items) => node.flow || items.is_empty(),
        Kind::Map(members) => node.flow || members.is_empty(),
    }
}

/// Whether lines under a sign say it: nothing at their ends and beginnings that such lines could not hold.
fn in_block(text: &str) -> bool {
    text.contains('\n')
        && text.starts_with(|c: char| !c.is_whitespace())
        && !text.ends_with("\n\n")
        && text.chars().all(|c| c == '\n' || !strange(c))
}

/// What is written by its number alone.
fn strange(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

fn quoted(text: &str) -> String {
    if !text.chars().any(strange) && text.contains(['\\', '"']) {
        return format!("'{}'", text.replace('\'', "''"));
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if strange(c) => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::yaml::{Composed, parse};

    fn same(text: &str) {
        let before: Value = parse(text).unwrap();
        let node = Node::read(text, 0).unwrap();
        let composed = Composed::of(&node, vec![("a.yaml".into(), text.to_owned())]);
        assert_eq!(parse::<Value>(&composed.text).unwrap(), before, "{}", composed.text);
        assert_eq!(parse::<Value>(&composed.told()).unwrap(), before, "{}", composed.told());
    }

    #[test]
    fn what_is_written_again_reads_the_same() {
        for text in [
            "a: 1\nb: [x, 'y, z', { c: \"d\\te\" }]\nc:\n  - d: e\n    f: g\n  -\n    - 1\n    - []\n",
            "a: |\n  one\n\n  two\nb: |-\n  one\n    two\nc: >\n  folded\n  line\n\n  next\nd: |+\n  kept\n\n\ne: 1\n",
            "a: plain text\n  over lines\n\n  and a break\nb: 'it''s'\nc: \"\\x1b[m\\u2028\"\nd: ''\n",
            "a: &x { b: 1, c: [2] }\nd: *x\ne:\n  - *x\n",
            "a: &x one, two]\nb: [*x, { c: *x }]\nd: &y\n  e: f, g\nh: { i: *y }\n",
            "a: ' lead'\nb: \"\\n first\"\nc: 'null'\nd: '1'\ne: true\nf: '#no'\ng: 'a: b'\n",
            "- |\n  in a list\n  of texts\n- a: |\n    deeper\n    still\n",
            "|\n  a document\n  of text\n",
        ] {
            same(text);
        }
    }

    #[test]
    fn each_line_is_told_with_its_place() {
        let text = "a: 1\n\nb:\n  - c: { d: 2 }\n    e: |\n      x\n      y\n";
        let composed = Composed::of(&Node::read(text, 0).unwrap(), vec![("p.yaml".into(), text.to_owned())]);
        assert_eq!(
            composed.told(),
            "a: 1             # p.yaml:1\nb:               # p.yaml:3\n  - c: { d: 2 }  # p.yaml:4\n    \
             e: |         # p.yaml:5\n      x\n      y\n"
        );
    }

    proptest! {
        #[test]
        fn texts_survive(texts in proptest::collection::vec("[ -~\n\t\u{e9}\u{2028}\u{1b}:#'\"\\\\]{0,40}", 1..6)) {
            let written: Vec<String> = texts.iter().map(|text| serde_json::to_string(text).unwrap()).collect();
            let lines: Vec<String> = written.iter().map(|text| format!("- {text}\n- a: {text}\n")).collect();
            same(&lines.concat());
            same(&format!("[{}]", written.join(", ")));
        }
    }
}
