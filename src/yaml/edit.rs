//! Edits of a file that people keep: one value is replaced, and every other byte stays.

use std::ops::Range;

use serde_saphyr::granit_parser::{Event, Parser, StructureStyle};

use super::problem::{Frame, walk, written};

/// The bytes of the value of `key` (e.g. `rules[1].threshold`), if it is one word or stands between brackets.
pub(crate) fn range_of(text: &str, key: &str) -> Option<Range<usize>> {
    let mut frames: Vec<Frame> = Vec::new();
    // An item of a list has no key before it.
    let mut key_seen = key.ends_with(']');
    // Where the value begins, and how many collections it lies in.
    let mut begun: Option<(usize, usize)> = None;
    for (event, span) in Parser::new_from_str(text).map_while(Result::ok) {
        let ends = matches!(event, Event::MappingEnd | Event::SequenceEnd);
        let flow = matches!(
            event,
            Event::MappingStart(StructureStyle::Flow, ..) | Event::SequenceStart(StructureStyle::Flow, ..)
        );
        let range = span.byte_range()?;
        let Some((scalar, opened)) = walk(&mut frames, event) else {
            if let Some((start, _)) = begun.filter(|(_, depth)| ends && frames.len() == *depth) {
                return Some(start..range.end);
            }
            continue;
        };
        if begun.is_none() && written(&frames) == key {
            match (&scalar, &opened) {
                // The key itself comes first, then its value.
                (Some(_), None) if !key_seen => key_seen = true,
                (_, None) => return Some(range),
                (_, Some(_)) if flow => begun = Some((range.start, frames.len())),
                (_, Some(_)) => return None,
            }
        }
        frames.extend(opened);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_with_nothing_around_it() {
        let text = "a: é # c\nrules:\n  - { id: x, threshold: fpr_0.5 } # t\n  - id: y\n    threshold:   \"0.5\"  # why\n    \
                    by: { user: { threshold: { a: 0.1, b: [1, 2] } } }\n    lines:\n      a: 1\n";
        let at = |key: &str| range_of(text, key).map(|range| &text[range]);
        assert_eq!(at("rules[0].threshold"), Some("fpr_0.5"));
        assert_eq!(at("rules[1].threshold"), Some("\"0.5\""));
        assert_eq!(at("rules[1].by.user.threshold"), Some("{ a: 0.1, b: [1, 2] }"));
        assert_eq!(at("rules[1].by.user.threshold.b"), Some("[1, 2]"));
        assert_eq!(at("rules[1].by.user.threshold.b[1]"), Some("2"));
        assert_eq!((at("a"), at("rules[1].lines"), at("rules[2].threshold"), at("b")), (Some("é"), None, None, None));
    }
}
