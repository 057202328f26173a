//! Whether a text is plain, so that no step has anything to undo: one cheap walk before all the others.
//!
//! It may take a plain text for one that is not; the steps then find nothing. The other way round it must not err: each
//! question here is at least as wide as that of the step that it stands for, and a test holds both alike.

use super::ciphers::{self, hides_a_word, reads_backwards};
use super::decodings;
use super::words;

/// What a byte is to the walk; a byte may be several things.
const LOWER: u8 = 1;
const UPPER: u8 = 2;
const DIGIT: u8 = 4;
/// A sign that base64 has.
const TOKEN: u8 = 8;
/// A sign that is read as a letter.
const SPELT: u8 = 16;
/// The end of a sentence.
const END: u8 = 32;
/// Anything to look at more closely: the beginnings of encodings, control characters, what is not ASCII.
const ODD: u8 = 64;

const LETTER: u8 = LOWER | UPPER;
const WORD: u8 = LETTER | DIGIT;

static CLASSES: [u8; 256] = classes();

#[expect(clippy::cast_possible_truncation, reason = "below 256")]
const fn classes() -> [u8; 256] {
    let mut all = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        all[byte] = match byte as u8 {
            b'a'..=b'z' => LOWER,
            b'A'..=b'Z' => UPPER,
            b'0'..=b'9' => DIGIT,
            b'+' | b'/' | b'-' | b'_' => TOKEN,
            b'!' => SPELT | END,
            b'@' | b'$' | b'|' => SPELT,
            b'\n' | b'.' | b'?' | b':' | b';' | b'"' | b'(' | b')' | b'<' | b'>' | b'`' => END,
            b'%' | b'&' | b'\\' | 0x7f.. => ODD,
            b' '.. | b'\t' | b'\r' => 0,
            _ => ODD,
        };
        byte += 1;
    }
    all
}

/// Pairs of digits in a row from which on they may be text.
const PAIRS: usize = 4;
/// Letters set apart in a row from which on they may be words.
const SINGLES: usize = 4;
/// The shortest run that may be base64, with its padding.
const LEAST_TOKEN: usize = 12;

/// Whether no step would change the text. Sometimes `false` without need, never `true` without right.
pub(super) fn is_plain(text: &str) -> bool {
    let mut walk = Walk { text, bytes: text.as_bytes(), ..Walk::default() };
    let mut at = 0;
    while at < walk.bytes.len() {
        let next = if CLASSES[usize::from(walk.bytes[at])] & WORD != 0 { walk.word(at) } else { walk.sign(at) };
        let Some(next) = next else { return false };
        at = next;
    }
    walk.ends(at, b' ', END)
}

#[derive(Default)]
struct Walk<'a> {
    text: &'a str,
    bytes: &'a [u8],
    /// Where the current run of base64's alphabet, of letters as they are spelt, and the sentence begin.
    token: usize,
    spelling: usize,
    sentence: usize,
    /// Whether there is something in the spelling to look at.
    spelt: bool,
    /// Words in the sentence that are known ones when turned by thirteen.
    hidden: usize,
    /// The same of words that are read from their ends.
    backwards: usize,
    /// Where the last word ended; how many single letters and how many pairs of hexadecimal digits led up to it.
    last: usize,
    singles: usize,
    single: bool,
    pairs: usize,
}

impl Walk<'_> {
    /// Reads a run of letters and digits. Nothing if it is not plain.
    fn word(&mut self, start: usize) -> Option<usize> {
        let first = CLASSES[usize::from(self.bytes[start])];
        let mut rest = 0;
        let mut end = start + 1;
        while let Some(byte) = self.bytes.get(end) {
            let class = CLASSES[usize::from(*byte)];
            if class & WORD == 0 {
                break;
            }
            rest |= class;
            end += 1;
        }
        let all = first | rest;
        // Digits among letters, capitals after the first letter, or a sign before the word.
        self.spelt |= all & DIGIT != 0 && all & LETTER != 0 || all & LOWER != 0 && rest & UPPER != 0;
        self.spelt |= self.spelling < start;
        if all & DIGIT == 0 {
            self.hidden += usize::from(hides_a_word(&self.bytes[start..end]));
            self.backwards += usize::from(reads_backwards(&self.bytes[start..end]));
        } else {
            for part in self.bytes[start..end].split(u8::is_ascii_digit) {
                self.hidden += usize::from(hides_a_word(part));
                self.backwards += usize::from(reads_backwards(part));
            }
        }
        match end - start {
            1 => self.single(start, all),
            2 | 4 => self.pair(start, end),
            _ => (self.singles, self.single, self.pairs) = (0, false, 0),
        }
        self.last = end;
        (self.singles < SINGLES && self.pairs < PAIRS).then_some(end)
    }

    /// A letter or digit that stands alone goes on with a row if one and the same sign is between.
    fn single(&mut self, at: usize, class: u8) {
        self.pairs = 0;
        let between = &self.bytes[self.last..at];
        let row = self.single && between.len() <= 3 && between.windows(2).all(|two| two[0] == two[1]);
        if !row {
            self.singles = 0;
        }
        self.single = true;
        self.singles += usize::from(class & LETTER != 0);
    }

    fn pair(&mut self, start: usize, end: usize) {
        (self.singles, self.single) = (0, false);
        let digits = if end - start == 2 { start } else { start + 2 };
        let is_pair = self.bytes[digits..end].iter().all(u8::is_ascii_hexdigit)
            && (digits == start || self.bytes[start..].starts_with(b"0x"));
        let row = self.pairs > 0 && start - self.last <= 2;
        self.pairs = if !is_pair {
            0
        } else if row {
            self.pairs + 1
        } else {
            1
        };
    }

    /// Reads a character that is neither letter nor digit of ASCII. Nothing if it is not plain.
    fn sign(&mut self, at: usize) -> Option<usize> {
        let byte = self.bytes[at];
        let class = CLASSES[usize::from(byte)];
        if !self.ends(at, byte, class) {
            return None;
        }
        if class & ODD == 0 {
            return Some(at + 1);
        }
        let next = at + self.odd(at)?;
        (self.token, self.spelling) = (next, next);
        Some(next)
    }

    /// Looks at the runs that end with a sign of this class. Says whether they are plain.
    fn ends(&mut self, at: usize, byte: u8, class: u8) -> bool {
        if class & TOKEN == 0 {
            let len = at - self.token;
            if len >= LEAST_TOKEN - 2
                && (len >= LEAST_TOKEN || byte == b'=')
                && decodings::begins(self.text, self.token)
            {
                return false;
            }
            self.token = at + 1;
        }
        if class & SPELT == 0 {
            if self.spelt && words::is_respelt(self.text, self.spelling..at) {
                return false;
            }
            (self.spelt, self.spelling) = (false, at + 1);
        } else {
            // Such marks end sentences, others may stand for letters.
            self.spelt |= matches!(byte, b'@' | b'$');
        }
        if class & END != 0 {
            let sentence = &self.text[self.sentence..self.bytes.len().min(at + 1)];
            if self.hidden >= 2 && ciphers::is_turned(sentence)
                || self.backwards >= 2 && ciphers::is_backwards(sentence)
            {
                return false;
            }
            (self.hidden, self.backwards, self.sentence) = (0, 0, at + 1);
        }
        true
    }

    /// The length of a character that needs a closer look, if it is plain.
    fn odd(&self, at: usize) -> Option<usize> {
        if self.bytes[at] >= 0x80 {
            let c = self.text[at..].chars().next().filter(|c| is_inert(*c))?;
            return Some(c.len_utf8());
        }
        let opens = matches!(self.bytes[at], b'%' | b'&' | b'\\');
        (opens && !decodings::begins(self.text, at)).then_some(1)
    }
}

/// Characters beyond ASCII that no step changes or looks behind: common ones, not all.
fn is_inert(c: char) -> bool {
    matches!(c, '\u{c0}'..='\u{ff}' | '\u{2013}' | '\u{2014}' | '\u{2018}'..='\u{201d}' | '\u{2022}' | '\u{20ac}'
        | '\u{3001}' | '\u{3002}' | '\u{3041}'..='\u{3094}' | '\u{30a1}'..='\u{30f6}' | '\u{4e00}'..='\u{9fff}'
        | '\u{1f300}'..='\u{1f64f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::normalise::thoroughly;

    #[test]
    fn inert_characters_change_nothing_wherever_they_stand() {
        for c in ('\u{80}'..=char::MAX).filter(|c| is_inert(*c)) {
            for text in
                [format!("{c}"), format!("{c}{c}{c}{c} {c}"), format!("a{c}b of {c}the"), format!("1{c}2 {c}gn0{c}")]
            {
                assert!(thoroughly(&text).is_none(), "{text:?}");
                assert!(is_plain(&text), "{text:?}");
            }
        }
    }

    #[test]
    fn ordinary_text_is_plain() {
        for text in [
            "",
            "The committee met on Tuesday, v1.2 of the plan (see p. 12-14) costs $5,000.00 or 10% more; don't panic!",
            "jane.doe@example.com, 4111 1111 1111 1111, +49 30 1234567, 192.168.0.1, DE89 3704 0044 0532 0130 00",
            "Model gpt4, mp3, h264, sha256, k8s, i18n, covid19, R2D2, x86_64, utf8, 2nd, 10am, 3rd, B12, 4K, log4net2",
            "To be or not to be, that is the question – “whether” it’s nobler; déjà vu, 図書館 🌞",
            "let x = foo.bar(getElementById('a'), 0x1F, \"\\n\", i + 1); // TODO: fix\nfn main() { println!(\"{x:?}\"); }",
            "commit 3f786850e387550fdab836ed7e6dc881de23001b, uuid 123e4567-e89b-12d3-a456-426614174000",
            "https://example.com/a-long-path/that_goes_on?page=2&sort=name",
        ] {
            assert!(is_plain(text), "{text}");
        }
    }
}
