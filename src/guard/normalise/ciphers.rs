//! Whole sentences in another alphabet or direction: turned by thirteen, backwards, or upside down.

use super::tables::{begins_a_word, is_word, may_hide, turned};
use super::view::{Edit, Kind, Normalised};

/// Longer than any word that is looked up.
const LONGEST: usize = 16;

/// Turns back what makes sense only when turned.
pub(super) fn undo(mut view: Normalised) -> Normalised {
    let steps = view.text().len();
    view.stepped(steps);
    let edits = sentences(view.text(), rot13);
    view = view.replace(&edits);
    view.stepped(steps);
    let edits = sentences(view.text(), backwards);
    view = view.replace(&edits);
    if view.text().is_ascii() {
        return view;
    }
    view.stepped(steps);
    let edits = sentences(view.text(), upside_down);
    view.replace(&edits)
}

/// Whether a word is a known one when turned by thirteen.
pub(super) fn hides_a_word(word: &[u8]) -> bool {
    if word.len() < 2 || word.len() > LONGEST || !may_hide(word[0], word[1]) {
        return false;
    }
    let mut letters = [0u8; LONGEST];
    for (to, from) in letters.iter_mut().zip(word) {
        *to = thirteen(from.to_ascii_lowercase());
    }
    is_word(&letters[..word.len()])
}

/// Whether a sentence makes sense only when it is turned by thirteen.
pub(super) fn is_turned(sentence: &str) -> bool {
    rot13(sentence).is_some()
}

/// Whether a word of three letters or more is a known one when read from its end.
pub(super) fn reads_backwards(word: &[u8]) -> bool {
    let [.., second, first] = word else { return false };
    if !(3..=LONGEST).contains(&word.len()) || !begins_a_word(*first, *second) {
        return false;
    }
    let mut letters = [0u8; LONGEST];
    for (to, from) in letters.iter_mut().zip(word.iter().rev()) {
        *to = from.to_ascii_lowercase();
    }
    is_word(&letters[..word.len()])
}

/// Whether a sentence makes sense only when its words are read from their ends.
pub(super) fn is_backwards(sentence: &str) -> bool {
    backwards(sentence).is_some()
}

/// Asks about each sentence: what stands between line ends, stops, colons and quotation marks.
fn sentences(text: &str, turn: fn(&str) -> Option<(String, Kind)>) -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut start = 0;
    let ends = |c: char| matches!(c, '\n' | '.' | '!' | '?' | ':' | ';' | '"' | '(' | ')' | '<' | '>' | '`');
    for sentence in text.split_inclusive(ends) {
        let end = start + sentence.len();
        if let Some((with, kind)) = turn(sentence) {
            edits.push(Edit::new(start..end, with, kind));
        }
        start = end;
    }
    edits
}

/// Common words must show when the letters are turned, and hardly any before.
fn rot13(sentence: &str) -> Option<(String, Kind)> {
    let (mut words, mut plain, mut hidden) = (0usize, 0usize, 0usize);
    for word in sentence.as_bytes().split(|b| !b.is_ascii_alphabetic()).filter(|word| !word.is_empty()) {
        words += 1;
        hidden += usize::from(hides_a_word(word));
    }
    if hidden < 2 || hidden * 3 < words {
        return None;
    }
    for word in sentence.as_bytes().split(|b| !b.is_ascii_alphabetic()) {
        plain += usize::from((2..=LONGEST).contains(&word.len()) && is_word(&word.to_ascii_lowercase()));
    }
    (hidden > plain * 3).then(|| {
        let turned = sentence.chars().map(|c| if c.is_ascii() { char::from(thirteen(c as u8)) } else { c });
        (turned.collect(), Kind::Rot13)
    })
}

/// Common words must show when words are read from their ends, one of them no short one, and hardly any before. Words of
/// two letters prove nothing: they are words of some language either way.
fn backwards(sentence: &str) -> Option<(String, Kind)> {
    let (mut words, mut plain, mut hidden, mut longest) = (0usize, 0usize, 0usize, 0usize);
    let letters = |b: &u8| !b.is_ascii_alphabetic();
    for word in sentence.as_bytes().split(letters).filter(|word| word.len() > 2) {
        words += 1;
        let known = word.len() <= LONGEST && is_word(&word.to_ascii_lowercase());
        plain += usize::from(known);
        if !known && reads_backwards(word) {
            hidden += 1;
            longest = longest.max(word.len());
        }
    }
    if hidden < 2 || longest < 4 || hidden * 3 < words || hidden <= plain * 3 {
        return None;
    }
    Some((
        if ends_with_its_beginning(sentence) { reversed(sentence) } else { each_reversed(sentence) },
        Kind::Backwards,
    ))
}

/// A sentence that was written from its end has its capital there: in the last letter of the last word, not of the first.
fn ends_with_its_beginning(sentence: &str) -> bool {
    let mut words = sentence.split(|c: char| !c.is_alphabetic()).filter(|word| word.chars().count() > 1);
    let capital_last = |word: &str| {
        let mut letters = word.chars().rev();
        letters.next().is_some_and(char::is_uppercase) && letters.all(char::is_lowercase)
    };
    let first = words.next();
    let last = words.next_back();
    last.is_some_and(capital_last) && !first.is_some_and(capital_last)
}

fn each_reversed(sentence: &str) -> String {
    let mut out = String::with_capacity(sentence.len());
    let in_word = |c: char| c.is_alphanumeric() || matches!(c, '\'' | '\u{2019}');
    for piece in sentence.split_inclusive(|c| !in_word(c)) {
        let word = piece.trim_end_matches(|c| !in_word(c));
        out.extend(word.chars().rev());
        out.push_str(&piece[word.len()..]);
    }
    out
}

fn reversed(sentence: &str) -> String {
    sentence.chars().rev().collect()
}

fn thirteen(letter: u8) -> u8 {
    match letter {
        b'a'..=b'z' => (letter - b'a' + 13) % 26 + b'a',
        b'A'..=b'Z' => (letter - b'A' + 13) % 26 + b'A',
        other => other,
    }
}

/// A sentence with several letters that only stand on their heads is read from its end.
fn upside_down(sentence: &str) -> Option<(String, Kind)> {
    let (mut letters, mut overturned) = (0usize, 0usize);
    for c in sentence.chars().filter(|c| c.is_alphabetic()) {
        letters += 1;
        overturned += usize::from(!c.is_ascii() && turned(c).is_some());
    }
    let found = overturned >= 3 && overturned * 4 >= letters;
    found.then(|| (sentence.chars().rev().map(|c| turned(c).unwrap_or(c)).collect(), Kind::UpsideDown))
}
