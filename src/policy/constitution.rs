//! The constitution as models read it: the same file gives the same bytes, so that the provider's prompt cache stays warm.

use super::checked::{Constitution, Principle};

/// Preamble, an empty line, and the principles numbered in the file's order. No white space at either end; empty if
/// there is neither.
pub(super) fn render(preamble: &str, principles: Vec<Principle>) -> Constitution {
    let mut text = paragraphs(preamble);
    for (index, principle) in principles.iter().enumerate() {
        let gap = match (text.is_empty(), index) {
            (true, _) => "",
            (false, 0) => "\n\n",
            (false, _) => "\n",
        };
        text.push_str(gap);
        text.push_str(&format!("{}. {}", index + 1, principle.text));
    }
    Constitution { text, principles }
}

/// One line, however the file folds it.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Lines stay, blanks at their ends and empty lines around the whole do not.
fn paragraphs(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principle(text: &str) -> Principle {
        Principle { id: "p".into(), text: one_line(text), critique: "c".into(), revision: "r".into() }
    }

    #[test]
    fn preamble_and_principles_are_numbered_paragraphs() {
        let rendered = render("Be so.  \n\nAnd so.\n\n", vec![principle("First\n  thing."), principle("Second.")]);
        assert_eq!(rendered.text, "Be so.\n\nAnd so.\n\n1. First thing.\n2. Second.");
    }

    #[test]
    fn either_part_may_be_missing() {
        assert_eq!(render("", vec![principle("Only.")]).text, "1. Only.");
        assert_eq!(render("Only.\r\n", Vec::new()).text, "Only.");
        assert_eq!(render(" \n\n", Vec::new()).text, "");
    }
}
