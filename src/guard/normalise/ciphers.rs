//! Whole sentences in another alphabet or direction: turned by thirteen, backwards, or upside down.

use super::tables::{begins_a_word, is_word, may_hide, turned};
use super::view::{Edit, Kind, Normalised};

/// Longer than any word that is looked up.
const LONGEST: usize = 16;

/// A way to write sentences.
struct Cipher {
    kind: Kind,
    /// Whether a sentence shows by itself that it is written so.
    shows: fn(&str) -> bool,
    read: fn(&str) -> String,
    /// Whether its letters are those of plain text, so that a sentence without a known word may be written so, too.
    plain_letters: bool,
}

const ROT13: Cipher = Cipher { kind: Kind::Rot13, shows: is_turned, read: turn, plain_letters: true };
const BACKWARDS: Cipher = Cipher { kind: Kind::Backwards, shows: is_backwards, read: turn_round, plain_letters: true };
const UPSIDE_DOWN: Cipher =
    Cipher { kind: Kind::UpsideDown, shows: is_overturned, read: overturn, plain_letters: false };

/// Turns back what makes sense only when turned.
pub(super) fn undo(mut view: Normalised) -> Normalised {
    let steps = view.text().len();
    for cipher in [ROT13, BACKWARDS, UPSIDE_DOWN] {
        if !cipher.plain_letters && view.text().is_ascii() {
            continue;
        }
        view.stepped(steps);
        let edits = sentences(view.text(), &cipher);
        view = view.replace(&edits);
    }
    view
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

/// Asks about each sentence: what stands between line ends, stops, colons and quotation marks. Sentences without a known
/// word go along where most of the text is written in that way.
fn sentences(text: &str, cipher: &Cipher) -> Vec<Edit> {
    let ends = |c: char| matches!(c, '\n' | '.' | '!' | '?' | ':' | ';' | '"' | '(' | ')' | '<' | '>' | '`');
    let (mut found, mut evident, mut doubtful) = (Vec::new(), 0usize, 0usize);
    let mut start = 0;
    for sentence in text.split_inclusive(ends) {
        let range = start..start + sentence.len();
        start = range.end;
        let shows = (cipher.shows)(sentence);
        let may = cipher.plain_letters && sentence.bytes().any(|b| b.is_ascii_alphabetic());
        if shows {
            evident += range.len();
        } else if may && !words(sentence, 2).any(is_known) {
            doubtful += range.len();
        } else {
            continue;
        }
        found.push((range, shows));
    }
    let read = found.into_iter().filter(|(_, shows)| *shows || doubtful < evident);
    read.map(|(range, _)| Edit::new(range.clone(), (cipher.read)(&text[range]), cipher.kind)).collect()
}

/// Runs of ASCII letters of that length or more.
fn words(sentence: &str, least: usize) -> impl Iterator<Item = &[u8]> {
    sentence.as_bytes().split(|b| !b.is_ascii_alphabetic()).filter(move |word| word.len() >= least)
}

fn is_known(word: &[u8]) -> bool {
    (2..=LONGEST).contains(&word.len()) && is_word(&word.to_ascii_lowercase())
}

/// Common words must show when the letters are turned, and hardly any before.
pub(super) fn is_turned(sentence: &str) -> bool {
    let (mut all, mut hidden) = (0usize, 0usize);
    for word in words(sentence, 1) {
        all += 1;
        hidden += usize::from(hides_a_word(word));
    }
    hidden >= 2 && hidden * 3 >= all && hidden > words(sentence, 2).filter(|word| is_known(word)).count() * 3
}

fn turn(sentence: &str) -> String {
    sentence.chars().map(|c| if c.is_ascii() { char::from(thirteen(c as u8)) } else { c }).collect()
}

/// Common words must show when words are read from their ends, one of them no short one, and hardly any before. Words of
/// two letters prove nothing: they are words of some language either way.
pub(super) fn is_backwards(sentence: &str) -> bool {
    let (mut all, mut plain, mut hidden, mut longest) = (0usize, 0usize, 0usize, 0usize);
    for word in words(sentence, 3) {
        all += 1;
        if is_known(word) {
            plain += 1;
        } else if reads_backwards(word) {
            hidden += 1;
            longest = longest.max(word.len());
        }
    }
    hidden >= 2 && longest >= 4 && hidden * 3 >= all && hidden > plain * 3
}

/// Reads a sentence from its end, or else each of its words.
fn turn_round(sentence: &str) -> String {
    if ends_with_its_beginning(sentence) { sentence.chars().rev().collect() } else { each_reversed(sentence) }
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

fn thirteen(letter: u8) -> u8 {
    match letter {
        b'a'..=b'z' => (letter - b'a' + 13) % 26 + b'a',
        b'A'..=b'Z' => (letter - b'A' + 13) % 26 + b'A',
        other => other,
    }
}

/// A sentence with several letters that only stand on their heads is read from its end.
fn is_overturned(sentence: &str) -> bool {
    let (mut letters, mut overturned) = (0usize, 0usize);
    for c in sentence.chars().filter(|c| c.is_alphabetic()) {
        letters += 1;
        overturned += usize::from(!c.is_ascii() && turned(c).is_some());
    }
    overturned >= 3 && overturned * 4 >= letters
}

fn overturn(sentence: &str) -> String {
    sentence.chars().rev().map(|c| turned(c).unwrap_or(c)).collect()
}
