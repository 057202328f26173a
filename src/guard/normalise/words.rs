//! Words: letters from other scripts, letters set apart, digits for letters, capitals strewn in.

use std::ops::Range;

use super::tables::{Glyph, SCRIPTS, Script, glyph, is_word};
use super::view::{Edit, Kind, Normalised};

/// Letters set apart that are joined; fewer are initials or a list.
const LEAST_APART: usize = 4;
/// Joined letters without any gap between words that are cut into known words.
const LEAST_CUT: usize = 8;
/// The longest known word.
const LONGEST: usize = 16;
/// Words with digits in them are no longer than this; what is longer is a key or a name.
const LONGEST_LEET: usize = 24;

/// Undoes what is done to words. Each step leaves nothing that an earlier one would change, but for rare mixtures.
pub(super) fn undo(mut view: Normalised) -> Normalised {
    if !view.text().is_ascii() {
        view.stepped(view.text().len() * 2);
        let edits = alike(view.text());
        view = view.replace(&edits);
    }
    let (edits, steps) = apart(view.text());
    view.stepped(steps);
    view = view.replace(&edits);
    view.stepped(view.text().len());
    let edits = spelt(view.text());
    view.replace(&edits)
}

/// Letters of other scripts in words that are otherwise Latin, or in whole words where the script is a guest.
fn alike(text: &str) -> Vec<Edit> {
    let (mut latin, mut own, mut all) = (0usize, [0usize; SCRIPTS], [0usize; SCRIPTS]);
    for c in text.chars() {
        match glyph(c) {
            Glyph::Ascii => latin += usize::from(c.is_ascii_alphabetic()),
            Glyph::Own(script) => {
                own[script as usize] += 1;
                all[script as usize] += 1;
            }
            Glyph::Like(_, script) => all[script as usize] += 1,
            Glyph::Other => {}
        }
    }
    if latin == 0 {
        return Vec::new();
    }
    let guest = |script: Script| own[script as usize] == 0 || latin >= 2 * all[script as usize];
    let mut edits = Vec::new();
    for word in words(text, |c| c.is_alphanumeric() || glyph(c) != Glyph::Other) {
        let (mut ascii, mut like, mut owned, mut guests) = (0usize, 0usize, 0usize, true);
        for c in text[word.clone()].chars() {
            match glyph(c) {
                Glyph::Ascii => ascii += usize::from(c.is_ascii_alphabetic()),
                Glyph::Like(_, script) => {
                    like += 1;
                    guests &= guest(script);
                }
                Glyph::Own(_) => owned += 1,
                Glyph::Other => {}
            }
        }
        // One Greek letter is mathematics; a word with letters that only its script has is honest.
        let mixed = ascii > owned;
        let whole = ascii == 0 && owned == 0 && guests && like > 1;
        if like > 0 && (mixed || whole) {
            edits.extend(text[word.clone()].char_indices().filter_map(|(at, c)| match glyph(c) {
                Glyph::Like(with, _) => {
                    let start = word.start + at;
                    // Turkish has the one and units have the other: no reason to judge a text twice.
                    let honest = c == '\u{131}' || c == 'μ' && ascii + like <= 3;
                    let kind = if honest { Kind::Form } else { Kind::Confusable };
                    Some(Edit::new(start..start + c.len_utf8(), char::from(with), kind))
                }
                _ => None,
            }));
        }
    }
    edits
}

/// Maximal runs of characters of one sort.
fn words(text: &str, belongs: impl Fn(char) -> bool) -> impl Iterator<Item = Range<usize>> {
    let mut chars = text.char_indices();
    std::iter::from_fn(move || {
        let (start, first) = chars.by_ref().find(|(_, c)| belongs(*c))?;
        let mut end = start + first.len_utf8();
        for (at, c) in chars.by_ref() {
            if !belongs(c) {
                break;
            }
            end = at + c.len_utf8();
        }
        Some(start..end)
    })
}

/// `i g n o r e`, `i.g.n.o.r.e`, `i-g-n-o-r-e`: the signs between go; two blanks or more are a blank between words.
fn apart(text: &str) -> (Vec<Edit>, usize) {
    let bytes = text.as_bytes();
    let (mut edits, mut steps) = (Vec::new(), 0);
    let mut at = 0;
    let mut continued: Option<(usize, u8)> = None;
    while at < bytes.len() {
        steps += 1;
        let starts = is_single(bytes, at) && (at == 0 || !joins_words(bytes[at - 1]));
        let Some(row) = starts.then(|| Row::at(bytes, at)).flatten() else {
            at += 1;
            continue;
        };
        steps += row.end - at;
        let goes_on = continued.is_some_and(|(end, sign)| sign == row.sign && blank(&bytes[end..at]));
        if row.letters >= if goes_on { 2 } else { LEAST_APART } && row.letters * 2 >= row.count {
            steps += row.join(text, at, &mut edits);
            continued = Some((row.end, row.sign));
        }
        at = row.end.max(at + 1);
    }
    (edits, steps)
}

fn blank(between: &[u8]) -> bool {
    !between.is_empty() && between.len() <= 3 && between.iter().all(|b| *b == b' ')
}

/// Letters set apart by one and the same sign.
struct Row {
    sign: u8,
    end: usize,
    /// Letters and digits in it, and letters alone.
    count: usize,
    letters: usize,
    /// Whether a wider gap says where words end.
    gaps: bool,
}

impl Row {
    fn at(bytes: &[u8], start: usize) -> Option<Self> {
        let sign = *bytes.get(start + 1).filter(|b| b" .-_*/|,~+".contains(b))?;
        let mut row = Row { sign, end: start + 1, count: 1, letters: 0, gaps: false };
        row.letters += usize::from(bytes[start].is_ascii_alphabetic());
        loop {
            let gap = bytes[row.end..].iter().take(4).take_while(|b| **b == sign).count();
            let next = row.end + gap;
            let fits = gap == 1 || gap > 1 && gap < 4 && sign == b' ';
            if !fits || !is_single(bytes, next) {
                return (row.count > 1).then_some(row);
            }
            row.gaps |= gap > 1;
            row.count += 1;
            row.letters += usize::from(bytes[next].is_ascii_alphabetic());
            row.end = next + 1;
        }
    }

    /// Takes out the signs. Says how much was looked at.
    fn join(&self, text: &str, start: usize, edits: &mut Vec<Edit>) -> usize {
        let bytes = text.as_bytes();
        let letters: Vec<(usize, u8)> = (start..self.end)
            .filter(|at| bytes[*at].is_ascii_alphanumeric())
            .map(|at| (at, bytes[at].to_ascii_lowercase()))
            .collect();
        let cuts = if self.gaps || letters.len() < LEAST_CUT { Vec::new() } else { cut(&letters) };
        for (index, pair) in letters.windows(2).enumerate() {
            let gap = pair[0].0 + 1..pair[1].0;
            let with = if gap.len() > 1 || cuts.binary_search(&(index + 1)).is_ok() { " " } else { "" };
            if &text[gap.clone()] != with {
                edits.push(Edit::new(gap, with, Kind::Spaced));
            }
        }
        letters.len() * LONGEST
    }
}

/// Cuts letters into known words, if they can all be read so: fewest words win.
fn cut(letters: &[(usize, u8)]) -> Vec<usize> {
    let plain: Vec<u8> = letters.iter().map(|(_, letter)| unleet(*letter).unwrap_or(*letter)).collect();
    // For each end: the fewest words that lead to it, and where the last of them begins.
    let mut best: Vec<Option<(usize, usize)>> = vec![None; plain.len() + 1];
    best[0] = Some((0, 0));
    for end in 1..=plain.len() {
        for start in end.saturating_sub(LONGEST)..end {
            let Some((words, _)) = best[start] else { continue };
            let fewer = best[end].is_none_or(|(known, _)| words + 1 < known);
            if fewer && is_word(&plain[start..end]) {
                best[end] = Some((words + 1, start));
            }
        }
    }
    let mut cuts = Vec::new();
    let mut end = plain.len();
    while let Some((_, start)) = best[end] {
        if start == 0 {
            break;
        }
        cuts.push(start);
        end = start;
    }
    cuts.reverse();
    cuts
}

/// A letter, or a digit that is read as one, that stands alone.
fn is_single(bytes: &[u8], at: usize) -> bool {
    let Some(byte) = bytes.get(at) else { return false };
    let single = byte.is_ascii_alphabetic() || unleet(*byte).is_some() && byte.is_ascii_digit();
    single && !bytes.get(at + 1).is_some_and(|next| joins_words(*next))
}

fn joins_words(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80 || byte == b'\''
}

/// Digits and signs for letters, and capitals strewn into words, in one walk. Where many words show that digits stand for
/// letters, those go along that do not show it by themselves: `7h3`, `1n`, `4nd`.
fn spelt(text: &str) -> Vec<Edit> {
    let bytes = text.as_bytes();
    let (mut edits, mut doubtful) = (Vec::new(), Vec::new());
    let (mut all, mut evident) = (0usize, 0usize);
    let mut at = 0;
    while at < bytes.len() {
        if !is_spelling(bytes[at]) {
            at += 1;
            continue;
        }
        let start = at;
        let mut plain = true;
        while at < bytes.len() && is_spelling(bytes[at]) {
            plain &= bytes[at].is_ascii_alphabetic();
            at += 1;
        }
        let known = edits.len();
        spelling(text, start..at, plain, &mut edits);
        all += usize::from(bytes[start..at].iter().any(u8::is_ascii_alphabetic));
        if !plain && edits.len() > known {
            evident += 1;
        } else if !plain {
            doubtful.push(start..at);
        }
    }
    if evident >= 2 && evident * 4 >= all {
        edits.extend(doubtful.into_iter().filter(|word| may_be_leet(bytes, word)).flat_map(|word| respelt(text, word)));
        edits.sort_unstable_by_key(|edit| edit.range.start);
    }
    edits
}

/// Letters, and digits and signs that may stand for some; no address, number or unit of a language that is not this one.
fn may_be_leet(bytes: &[u8], word: &Range<usize>) -> bool {
    let letters = &bytes[word.clone()];
    let around = [word.start.checked_sub(1).map(|at| bytes[at]), bytes.get(word.end).copied()];
    let alone = around.iter().flatten().all(|b| *b < 0x80 && *b != b'.' && *b != b'@');
    let spelt = |b: &u8| b.is_ascii_alphabetic() || unleet(*b).is_some();
    alone
        && (2..=LONGEST_LEET).contains(&letters.len())
        && !letters.starts_with(b"0x")
        && letters.iter().any(u8::is_ascii_alphabetic)
        && letters.iter().all(spelt)
}

/// Whether such a word would be read another way.
pub(super) fn is_respelt(text: &str, word: Range<usize>) -> bool {
    let mut edits = Vec::new();
    let plain = text.as_bytes()[word.clone()].iter().all(u8::is_ascii_alphabetic);
    spelling(text, word, plain, &mut edits);
    !edits.is_empty()
}

/// Reads one word, `plain` if it has letters only.
fn spelling(text: &str, word: Range<usize>, plain: bool, edits: &mut Vec<Edit>) {
    let bytes = text.as_bytes();
    let before = if word.start > 0 { bytes[word.start - 1] } else { b' ' };
    let after = bytes.get(word.end).copied().unwrap_or(b' ');
    if word.len() < 3 || before >= 0x80 || after >= 0x80 {
        return;
    }
    if plain {
        shuffled(text, word, edits);
    } else {
        leet(text, word, after, edits);
    }
}

fn is_spelling(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'@' | b'$' | b'!' | b'|')
}

/// `iGnOrE`: more changes of case than names in programs have.
fn shuffled(text: &str, word: Range<usize>, edits: &mut Vec<Edit>) {
    let letters = &text.as_bytes()[word.clone()];
    let changes = letters.windows(2).filter(|two| two[0].is_ascii_uppercase() != two[1].is_ascii_uppercase()).count();
    if letters.len() >= 4 && changes >= 3 && changes * 2 >= letters.len() - 1 {
        edits.push(Edit::new(word.clone(), text[word].to_ascii_lowercase(), Kind::Case));
    }
}

/// `1gn0re`, `pr3v!ous`: at least half are letters, a digit or sign stands between letters or before four of them, and
/// what comes out can be spoken.
fn leet(text: &str, word: Range<usize>, after: u8, edits: &mut Vec<Edit>) {
    let letters = without_marks(&text.as_bytes()[word.clone()]);
    if !is_leet(letters, after) {
        return;
    }
    let read: Vec<u8> = (0..letters.len()).map(|at| read(letters, at)).collect();
    let vowels = read.iter().filter(|b| b"aeiouyAEIOUY".contains(b)).count();
    if vowels == 0 || vowels * 10 < read.len() {
        return;
    }
    edits.extend(respelt(text, word));
}

/// A word without the marks at its end, which are those of a sentence.
fn without_marks(mut word: &[u8]) -> &[u8] {
    while let [rest @ .., b'!' | b'|'] = word {
        word = rest;
    }
    word
}

/// Each digit and sign of a word as the letter that it is read as.
fn respelt(text: &str, word: Range<usize>) -> Vec<Edit> {
    let letters = without_marks(&text.as_bytes()[word.clone()]);
    let read = (0..letters.len()).map(|at| (at, read(letters, at))).filter(|(at, read)| *read != letters[*at]);
    read.map(|(at, read)| Edit::new(word.start + at..word.start + at + 1, char::from(read), Kind::Leet)).collect()
}

fn is_leet(letters: &[u8], after: u8) -> bool {
    if ends_in_ll(letters) {
        return true;
    }
    let alphabetic = letters.iter().filter(|b| b.is_ascii_alphabetic()).count();
    let fits = letters.len() >= 3 && letters.len() <= LONGEST_LEET && alphabetic * 2 >= letters.len();
    if !fits || letters.starts_with(b"0x") || !letters.iter().all(|b| b.is_ascii_alphabetic() || unleet(*b).is_some()) {
        return false;
    }
    // An address is no word.
    if let Some(at) = letters.iter().position(|b| *b == b'@') {
        let (left, right) = (at, letters.len() - at - 1);
        if after == b'.' || left.min(right) > 2 || left == 0 {
            return false;
        }
    }
    if letters[0] == b'$' || letters[0] == b'!' || letters[0] == b'|' {
        return false;
    }
    let letter = |b: &u8| b.is_ascii_alphabetic();
    let within = letters.iter().position(letter).zip(letters.iter().rposition(letter));
    let between = within.is_some_and(|(first, last)| !letters[first..=last].iter().all(letter));
    // `0pen` and `y0u`, but not `0xff`, `3rd`, `5min` and `w3c`.
    let least = if letters[0] == b'0' { 4 } else { 5 };
    let leads = letters.len() >= least && !letter(&letters[0]) && letters[1..least].iter().all(letter);
    between && (letters.len() >= 4 || letters[1] == b'0') || leads
}

/// `a11`, `wi11`: a short word of which two ones after a vowel are the end.
fn ends_in_ll(letters: &[u8]) -> bool {
    let [stem @ .., b'1', b'1'] = letters else { return false };
    let vowel = stem.last().is_some_and(|b| b"aeiouAEIOU".contains(b));
    vowel && stem.len() <= 4 && stem.iter().all(u8::is_ascii_alphabetic)
}

/// The letter that a digit or sign is read as.
fn unleet(byte: u8) -> Option<u8> {
    Some(match byte {
        b'0' => b'o',
        b'1' | b'!' | b'|' => b'i',
        b'3' => b'e',
        b'4' | b'@' => b'a',
        b'5' | b'$' => b's',
        b'7' => b't',
        _ => return None,
    })
}

/// As [`unleet`], where a one may be an L as its neighbours have it.
fn read(letters: &[u8], at: usize) -> u8 {
    let plain = |at: usize| letters.get(at).map_or(b' ', |b| unleet(*b).unwrap_or(*b).to_ascii_lowercase());
    let written = letters[at];
    if written != b'1' && written != b'|' {
        return unleet(written).unwrap_or(written);
    }
    let (before, after) = (if at == 0 { b' ' } else { plain(at - 1) }, plain(at + 1));
    let vowel = |b: u8| b"aeiou".contains(&b);
    let double = letters.get(at + 1) == Some(&written) || at > 0 && letters[at - 1] == written;
    let ell = double
        || vowel(before) && vowel(after)
        || b"bcfgkp".contains(&before) && vowel(after)
        || before == b'e' && b"lpdtfm".contains(&after)
        || before == b'o' && b"dv".contains(&after)
        || before == b'u' && at > 1 && plain(at - 2) == b'o'
        || before == b'r' && after == b'd' && at + 2 == letters.len();
    if ell { b'l' } else { b'i' }
}
