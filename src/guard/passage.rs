//! Sentences of an answer, each to be scored for itself beside the whole.
//!
//! An encoder that pools over a window is diluted by what is harmless in it: one threat in the middle of two hundred
//! friendly words scores like friendly words. Scored alone it does not. Very short sentences are joined to the next, as
//! a fragment says little.

use std::ops::Range;

/// The least length of a passage, in bytes, except for the last one.
const LEAST: usize = 40;

/// Cuts text after sentences. The passages cover the text, in order; those that end before `from` are left out.
pub(super) fn passages(text: &str, from: usize) -> Vec<Range<usize>> {
    let mut cut = Vec::new();
    let mut start = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let end = at + c.len_utf8();
        let next = chars.peek().map(|(_, next)| *next);
        if end - start >= LEAST && ends_sentence(c, next) {
            cut.push(start..end);
            start = end;
        }
    }
    if start < text.len() {
        cut.push(start..text.len());
    }
    cut.retain(|passage| passage.end > from);
    cut
}

/// Whether a sentence ends with `c`. A stop in the middle of a word or number does not end one.
fn ends_sentence(c: char, next: Option<char>) -> bool {
    match c {
        '\n' | '。' | '！' | '？' => true,
        '.' | '!' | '?' | ';' | '…' => next.is_none_or(char::is_whitespace),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(text: &str) -> Vec<&str> {
        passages(text, 0).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn sentences_stand_alone_and_short_ones_lean_on_the_next() {
        let text = "This sentence is long enough to stand alone. No. But that one leans on this one, v1.2 and all! End";
        let expected = [
            "This sentence is long enough to stand alone.",
            " No. But that one leans on this one, v1.2 and all!",
            " End",
        ];
        assert_eq!(cut(text), expected);
        assert_eq!(cut("short"), ["short"]);
        assert!(cut("").is_empty());
    }

    #[test]
    fn what_was_released_long_ago_is_left_out() {
        let text = "This sentence is long enough to stand alone. And this one is still arriving, word by wo";
        let left: Vec<&str> = passages(text, 60).into_iter().map(|range| &text[range]).collect();
        assert_eq!(left, [&text[44..]], "a sentence under way is taken from its beginning");
    }

    proptest! {
        #[test]
        fn passages_cover_the_text_in_order(text in "[a-z .!?;\n。é]{0,300}", from in 0usize..300) {
            let all = passages(&text, 0);
            let mut end = 0;
            for passage in &all {
                prop_assert_eq!(passage.start, end);
                prop_assert!(text.is_char_boundary(passage.end));
                end = passage.end;
            }
            prop_assert_eq!(end, text.len());
            prop_assert!(all.iter().rev().skip(1).all(|passage| passage.len() >= LEAST));
            prop_assert_eq!(passages(&text, from), all.into_iter().filter(|p| p.end > from).collect::<Vec<_>>());
        }
    }
}
