//! Characters: what cannot be seen, what has another form, what is heaped on a letter.

use unicode_normalization::char::canonical_combining_class;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfkc_quick};

use super::plausible::plausible;
use super::view::{Edit, Kind, Normalised};

/// Combining marks that may stay on a letter that is not of ASCII.
const MARKS: usize = 2;
/// Characters of which one becomes more than four of its length; nobody writes an attack in them.
const LONG: std::ops::RangeInclusive<char> = '\u{fdfa}'..='\u{fdfb}';
/// The subdivisions whose flags are recommended for interchange (UTS 51): England, Scotland, Wales.
const FLAGS: [&str; 3] = ["gbeng", "gbsct", "gbwls"];

/// First what is hidden goes, then what is left is composed, so that nothing hides between a letter and its mark.
pub(super) fn undo(mut view: Normalised) -> Normalised {
    view.stepped(view.text().len());
    if view.text().bytes().all(is_plain) {
        return view;
    }
    let edits = hidden(view.text());
    let view = view.replace(&edits);
    let edits = forms(view.text());
    view.replace(&edits)
}

/// What shows, and blanks, of ASCII: nothing to do here.
pub(super) fn is_plain(byte: u8) -> bool {
    (b' '..0x7f).contains(&byte) || matches!(byte, b'\t' | b'\n' | b'\r')
}

fn hidden(text: &str) -> Vec<Edit> {
    let mut edits = Vec::new();
    let rtl = text.chars().any(is_rtl);
    let mut before = '\n';
    let mut chars = text.char_indices().peekable();
    while let Some((start, c)) = chars.next() {
        let end = start + c.len_utf8();
        if let Some(run) = Run::of(c) {
            let mut run_end = end;
            while let Some((at, next)) = chars.next_if(|(_, next)| run.holds(*next)) {
                run_end = at + next.len_utf8();
            }
            edits.push(run.edit(text, start..run_end, before));
            continue;
        }
        if c < '\u{7f}' && (c >= ' ' || matches!(c, '\t' | '\n' | '\r')) {
            before = c;
            continue;
        }
        let next = chars.peek().map_or('\n', |(_, next)| *next);
        match unseen(c, before, next, rtl) {
            Some(Unseen::Gone(kind)) => edits.push(Edit::new(start..end, "", kind)),
            Some(Unseen::Becomes(with)) => edits.push(Edit::new(start..end, with, Kind::Form)),
            None => before = c,
        }
    }
    edits
}

/// A run of characters that may carry bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Run {
    Tags,
    Selectors,
}

impl Run {
    fn of(c: char) -> Option<Self> {
        [Self::Tags, Self::Selectors].into_iter().find(|run| run.holds(c))
    }

    fn holds(self, c: char) -> bool {
        match self {
            Self::Tags => matches!(c, '\u{e0000}'..='\u{e007f}'),
            Self::Selectors => selected(c).is_some(),
        }
    }

    fn edit(self, text: &str, range: std::ops::Range<usize>, before: char) -> Edit {
        let run = &text[range.clone()];
        match self {
            Self::Tags => {
                let tag = |c: char| char::from_u32(c as u32 - 0xe_0000).filter(|c| (' '..'\u{7f}').contains(c));
                let said: String = run.chars().filter_map(tag).collect();
                if before == '\u{1f3f4}' && FLAGS.contains(&said.as_str()) {
                    return Edit::new(range, "", Kind::Form);
                }
                let said = if said.trim().len() > 1 { format!(" {said} ") } else { String::new() };
                Edit::new(range, said, Kind::Tags)
            }
            Self::Selectors => {
                let bytes: Vec<u8> = run.chars().filter_map(selected).collect();
                let alone = bytes.len() == 1 && !before.is_ascii_alphabetic();
                let said = plausible(&bytes).map(|said| format!(" {said} ")).unwrap_or_default();
                Edit::new(range, said, if alone { Kind::Form } else { Kind::Selectors })
            }
        }
    }
}

/// The byte that a variation selector stands for where text is smuggled in them.
fn selected(c: char) -> Option<u8> {
    let code = c as u32;
    match code {
        0xfe00..=0xfe0f => u8::try_from(code - 0xfe00).ok(),
        0xe_0100..=0xe_01ef => u8::try_from(code - 0xe_0100 + 16).ok(),
        _ => None,
    }
}

enum Unseen {
    Gone(Kind),
    Becomes(&'static str),
}

/// What has no width or no place in text. The kind says whether it may be there honestly.
fn unseen(c: char, before: char, next: char, rtl: bool) -> Option<Unseen> {
    let latin = |c: char| c.is_ascii_alphanumeric();
    Some(Unseen::Gone(match c {
        '\u{2028}' | '\u{2029}' | '\u{85}' => return Some(Unseen::Becomes("\n")),
        '\u{2800}' => return Some(Unseen::Becomes(" ")),
        '\u{200c}' | '\u{200d}' if joins(before) => Kind::Form,
        '\u{feff}' if before == '\n' => Kind::Form,
        '\u{180b}'..='\u{180d}' | '\u{180f}' => Kind::Form,
        '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{202a}'..='\u{202c}' | '\u{2066}'..='\u{2069}'
            if rtl && !(latin(before) && latin(next)) =>
        {
            Kind::Form
        }
        '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}' => Kind::Bidi,
        _ if c.is_control() || has_no_width(c) => Kind::Hidden,
        _ => return None,
    }))
}

fn has_no_width(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}' | '\u{200b}'..='\u{200d}'
        | '\u{2060}'..='\u{2065}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0080}'..='\u{e00ff}' | '\u{e01f0}'..='\u{e0fff}')
}

/// Whether a joiner may honestly follow: scripts whose letters join, and pictures.
fn joins(c: char) -> bool {
    matches!(c,
        '\u{600}'..='\u{8ff}' | '\u{900}'..='\u{109f}' | '\u{1780}'..='\u{18af}' | '\u{1900}'..='\u{1cff}'
        | '\u{fb50}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}' | '\u{2190}'..='\u{2bff}' | '\u{3030}' | '\u{303d}'
        | '\u{a840}'..='\u{abff}' | '\u{11000}'..='\u{11fff}' | '\u{1e900}'..='\u{1e95f}'
        | '\u{1f000}'..='\u{1faff}' | '\u{20e3}' | '\u{a9}' | '\u{ae}')
}

fn is_rtl(c: char) -> bool {
    matches!(c, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}' | '\u{10800}'..='\u{10fff}'
        | '\u{1e800}'..='\u{1efff}')
}

/// NFKC, a letter and its marks at a time, so that each keeps its place.
fn forms(text: &str) -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut made = String::new();
    let mut chars = text.char_indices().peekable();
    let mut before = '\n';
    while let Some((start, base)) = chars.next() {
        let mut end = start + base.len_utf8();
        if is_settled(base) && chars.peek().is_none_or(|(_, next)| is_settled(*next)) {
            before = base;
            continue;
        }
        while let Some((at, next)) = chars.next_if(|(_, next)| continues(*next)) {
            end = at + next.len_utf8();
        }
        let cluster = &text[start..end];
        made.clear();
        compose(cluster, &mut made);
        let heaped = strip_marks(&mut made);
        if made != cluster {
            let next = chars.peek().map_or('\n', |(_, next)| *next);
            let kind = if heaped { Kind::Marks } else { form_kind(base, &made, before, next) };
            edits.push(Edit::new(start..end, made.as_str(), kind));
        }
        before = base;
    }
    edits
}

fn compose(cluster: &str, out: &mut String) {
    let mut rest = cluster;
    while let Some(at) = rest.find(|c| LONG.contains(&c)) {
        let (head, tail) = rest.split_at(at);
        out.extend(head.nfkc());
        let mut tail = tail.chars();
        out.extend(tail.next());
        rest = tail.as_str();
    }
    out.extend(rest.nfkc());
}

/// Letters that have no other form and never join what stands before them: most of most texts.
fn is_settled(c: char) -> bool {
    matches!(c, '\0'..='\u{7f}' | '\u{c0}'..='\u{ff}' | '\u{410}'..='\u{44f}' | '\u{5d0}'..='\u{5ea}' | '\u{621}'..='\u{64a}'
        | '\u{3041}'..='\u{3094}' | '\u{30a1}'..='\u{30f6}' | '\u{4e00}'..='\u{9fff}')
}

/// Whether a character may change what stands before it.
fn continues(c: char) -> bool {
    if is_settled(c) {
        return false;
    }
    let first = if LONG.contains(&c) { c } else { std::iter::once(c).nfkd().next().unwrap_or(c) };
    canonical_combining_class(c) != 0
        || canonical_combining_class(first) != 0
        || is_nfkc_quick(std::iter::once(first)) != IsNormalized::Yes
        || is_heapable(c)
}

/// Takes off what is heaped on letters: all marks of a letter of ASCII that did not compose, and more than two of any
/// other. Marks of scripts that need them (vowel signs, points) stay.
fn strip_marks(made: &mut String) -> bool {
    let whole = made.len();
    let mut base = '\n';
    let mut marks = 0;
    made.retain(|c| {
        if !is_heapable(c) {
            (base, marks) = (c, 0);
            return true;
        }
        marks += 1;
        !base.is_ascii() && marks <= MARKS
    });
    whole != made.len()
}

/// Marks that no script needs in numbers. The enclosing keycap is not among them: it makes an emoji.
fn is_heapable(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20e2}'
        | '\u{20e4}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
}

/// Whether a form is one that honest text has.
fn form_kind(base: char, made: &str, before: char, next: char) -> Kind {
    let written = made.chars().any(|c| c.is_ascii_alphanumeric());
    let honest = matches!(
        base,
        '\u{aa}' | '\u{b2}' | '\u{b3}' | '\u{b9}' | '\u{ba}' | '\u{bc}'..='\u{be}' | '\u{2026}'
    ) || matches!(base, '\u{2100}'..='\u{2101}' | '\u{2103}' | '\u{2105}' | '\u{2109}' | '\u{2116}' | '\u{2120}'..='\u{2122}')
        || matches!(base, '\u{2139}' | '\u{2150}'..='\u{218b}' | '\u{24c2}' | '\u{3200}'..='\u{33ff}');
    let within = before.is_ascii_alphabetic() && next.is_ascii_alphabetic();
    if written && !base.is_ascii() && (!honest || within) { Kind::Compatibility } else { Kind::Form }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settled_characters_are_what_they_are() {
        for c in ('\0'..=char::MAX).filter(|c| is_settled(*c)) {
            assert!(c.nfkc().eq([c]) && canonical_combining_class(c) == 0, "{c:?}");
            assert!(is_nfkc_quick(std::iter::once(c)) == IsNormalized::Yes && !is_heapable(c), "{c:?}");
        }
    }
}
