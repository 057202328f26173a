//! What the steps look up: words, letters that look alike, letters on their heads.

use Script::{Armenian, Cherokee, Cyrillic, Greek, Phonetic};

/// Scripts with letters that are taken for Latin ones. `Phonetic` are the Latin small capitals and phonetic letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Script {
    Cyrillic,
    Greek,
    Armenian,
    Cherokee,
    Phonetic,
}

/// How many scripts there are.
pub(super) const SCRIPTS: usize = 5;

/// What a letter is, to somebody who reads Latin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Glyph {
    /// A letter or digit of ASCII.
    Ascii,
    /// It looks like this one.
    Like(u8, Script),
    /// It belongs to such a script and looks like no Latin letter.
    Own(Script),
    /// Anything else.
    Other,
}

pub(super) fn glyph(c: char) -> Glyph {
    if c.is_ascii() {
        return if c.is_ascii_alphanumeric() { Glyph::Ascii } else { Glyph::Other };
    }
    if let Ok(at) = ALIKE.binary_search_by_key(&c, |(known, _, _)| *known) {
        let (_, like, script) = ALIKE[at];
        return Glyph::Like(like, script);
    }
    match c {
        '\u{1f150}'..='\u{1f169}' => Glyph::Like(enclosed(c, '\u{1f150}'), Phonetic),
        '\u{1f170}'..='\u{1f189}' => Glyph::Like(enclosed(c, '\u{1f170}'), Phonetic),
        '\u{400}'..='\u{52f}' | '\u{1c80}'..='\u{1c8f}' | '\u{a640}'..='\u{a69f}' => Glyph::Own(Cyrillic),
        '\u{370}'..='\u{3ff}' | '\u{1f00}'..='\u{1fff}' => Glyph::Own(Greek),
        '\u{530}'..='\u{58f}' => Glyph::Own(Armenian),
        '\u{13a0}'..='\u{13ff}' | '\u{ab70}'..='\u{abbf}' => Glyph::Own(Cherokee),
        '\u{250}'..='\u{2af}' | '\u{1d00}'..='\u{1d7f}' => Glyph::Own(Phonetic),
        _ => Glyph::Other,
    }
}

/// Negative circled and squared letters, which have no compatibility form.
fn enclosed(c: char, first: char) -> u8 {
    u8::try_from(c as u32 - first as u32).map_or(b'?', |at| b'A' + at)
}

/// The letter that stands on its head: itself for those that look the same either way up.
pub(super) fn turned(c: char) -> Option<char> {
    let swapped = match c {
        'b' => 'q',
        'q' => 'b',
        'd' => 'p',
        'p' => 'd',
        'n' => 'u',
        'u' => 'n',
        'M' => 'W',
        'W' => 'M',
        'l' | 'o' | 's' | 'x' | 'z' | 'H' | 'I' | 'N' | 'O' | 'S' | 'X' | 'Z' => c,
        '(' => ')',
        ')' => '(',
        _ => return TURNED.binary_search_by_key(&c, |(known, _)| *known).ok().map(|at| TURNED[at].1),
    };
    Some(swapped)
}

/// Whether a word in small letters is a common one, or one of those that attacks are made of.
pub(super) fn is_word(word: &[u8]) -> bool {
    let Some([first, second]) = word.first_chunk::<2>() else { return matches!(word, b"a" | b"i") };
    if !first.is_ascii_lowercase() || !second.is_ascii_lowercase() {
        return false;
    }
    let (start, end) = BEGINNINGS[index(*first, *second)];
    WORDS[usize::from(start)..usize::from(end)].iter().any(|known| known.as_bytes() == word)
}

const fn index(first: u8, second: u8) -> usize {
    (first - b'a') as usize * 26 + (second - b'a') as usize
}

/// Which words of the list begin with two letters: most often none, else a few.
static BEGINNINGS: [(u16, u16); 676] = beginnings();

#[expect(clippy::cast_possible_truncation, reason = "a list of some hundred words")]
const fn beginnings() -> [(u16, u16); 676] {
    assert!(WORDS.len() < u16::MAX as usize);
    let mut all = [(0, 0); 676];
    let mut at = 0;
    while at < WORDS.len() {
        let word = WORDS[at].as_bytes();
        let (start, end) = &mut all[index(word[0], word[1])];
        if *end == 0 {
            *start = at as u16;
        }
        at += 1;
        *end = at as u16;
    }
    all
}

/// Whether a known word begins with these letters, in either case.
pub(super) fn begins_a_word(first: u8, second: u8) -> bool {
    if !first.is_ascii_alphabetic() || !second.is_ascii_alphabetic() {
        return false;
    }
    let (start, end) = BEGINNINGS[index(first.to_ascii_lowercase(), second.to_ascii_lowercase())];
    start < end
}

/// Whether two letters, of either case, begin a word of the list when they are turned by thirteen.
pub(super) fn may_hide(first: u8, second: u8) -> bool {
    let turned = |letter: u8| (letter.to_ascii_lowercase().wrapping_sub(b'a').wrapping_add(13)) % 26;
    if !first.is_ascii_alphabetic() || !second.is_ascii_alphabetic() {
        return false;
    }
    let (start, end) = BEGINNINGS[usize::from(turned(first)) * 26 + usize::from(turned(second))];
    start < end
}

/// Common English words and those of instructions and attacks, sorted; by hand.
#[rustfmt::skip]
const WORDS: &[&str] = &[
    "about", "above", "access", "account", "act", "acting", "admin", "administrator", "after", "again", "all",
    "also", "always", "am", "an", "and", "another", "answer", "answers", "any", "anymore", "anything", "api", "are",
    "as", "assistant", "at", "attack", "bank", "be", "because", "been", "before", "begin", "being", "between",
    "bomb", "build", "but", "by", "bypass", "can", "card", "character", "come", "command", "commands", "complete",
    "confidential", "content", "context", "conversation", "could", "create", "credentials", "credit", "data", "day",
    "delete", "describe", "developer", "did", "display", "disregard", "do", "drug", "drugs", "earlier", "email",
    "end", "ending", "entire", "every", "everything", "exactly", "execute", "explain", "explosive", "file", "files",
    "filter", "filters", "first", "follow", "following", "for", "forbidden", "forget", "found", "free", "from",
    "full", "get", "go", "good", "great", "guideline", "guidelines", "hack", "had", "has", "have", "he", "help",
    "her", "here", "hidden", "him", "his", "house", "how", "hurt", "if", "ignore", "ignoring", "in", "information",
    "initial", "instead", "instruction", "instructions", "is", "it", "its", "jailbreak", "just", "key", "keys",
    "kill", "know", "language", "large", "last", "leak", "learn", "let", "like", "limits", "long", "make",
    "malware", "man", "many", "me", "message", "messages", "mode", "model", "more", "much", "must", "my", "never",
    "new", "next", "no", "nobody", "not", "nothing", "now", "number", "obey", "of", "old", "on", "one", "only",
    "or", "original", "other", "our", "out", "output", "over", "override", "password", "passwords", "people",
    "persona", "personal", "place", "plant", "play", "please", "point", "poison", "policies", "policy", "preceding",
    "pretend", "previous", "print", "prior", "private", "prompt", "prompts", "put", "question", "questions",
    "repeat", "respond", "response", "restriction", "restrictions", "reveal", "right", "role", "rule", "rules",
    "run", "safety", "say", "secret", "secrets", "see", "send", "she", "should", "show", "simulate", "small", "so",
    "some", "someone", "sound", "spell", "start", "starting", "steal", "step", "steps", "still", "stop", "study",
    "such", "system", "take", "task", "tasks", "tell", "text", "than", "that", "the", "their", "them", "then",
    "there", "these", "they", "thing", "think", "this", "three", "through", "time", "to", "token", "tokens", "too",
    "two", "uncensored", "unrestricted", "up", "us", "use", "user", "users", "verbatim", "very", "virus", "want",
    "was", "water", "way", "we", "weapon", "well", "were", "what", "when", "where", "which", "who", "will", "with",
    "without", "word", "words", "world", "would", "write", "you", "your",
];

/// Letters that are taken for Latin ones (compare confusables.txt of UTS 39), sorted. What looks like no Latin letter
/// is left out, as it shows that a word is honest.
#[rustfmt::skip]
const ALIKE: &[(char, u8, Script)] = &[
    ('\u{131}', b'i', Phonetic), ('\u{185}', b'b', Phonetic), ('\u{237}', b'j', Phonetic),
    ('\u{251}', b'a', Phonetic), ('\u{260}', b'g', Phonetic), ('\u{261}', b'g', Phonetic),
    ('\u{262}', b'g', Phonetic), ('\u{266}', b'h', Phonetic), ('\u{269}', b'i', Phonetic),
    ('\u{26a}', b'i', Phonetic), ('\u{26d}', b'l', Phonetic), ('\u{271}', b'm', Phonetic),
    ('\u{274}', b'n', Phonetic), ('\u{275}', b'o', Phonetic), ('\u{27c}', b'r', Phonetic),
    ('\u{27d}', b'r', Phonetic), ('\u{280}', b'r', Phonetic), ('\u{282}', b's', Phonetic),
    ('\u{288}', b't', Phonetic), ('\u{28f}', b'y', Phonetic), ('\u{290}', b'z', Phonetic),
    ('\u{299}', b'b', Phonetic), ('\u{29c}', b'h', Phonetic), ('\u{29f}', b'l', Phonetic),
    ('\u{2a0}', b'q', Phonetic), ('\u{37f}', b'J', Greek), ('\u{391}', b'A', Greek), ('\u{392}', b'B', Greek),
    ('\u{395}', b'E', Greek), ('\u{396}', b'Z', Greek), ('\u{397}', b'H', Greek), ('\u{399}', b'I', Greek),
    ('\u{39a}', b'K', Greek), ('\u{39c}', b'M', Greek), ('\u{39d}', b'N', Greek), ('\u{39f}', b'O', Greek),
    ('\u{3a1}', b'P', Greek), ('\u{3a4}', b'T', Greek), ('\u{3a5}', b'Y', Greek), ('\u{3a7}', b'X', Greek),
    ('\u{3ac}', b'a', Greek), ('\u{3ad}', b'e', Greek), ('\u{3ae}', b'n', Greek), ('\u{3af}', b'i', Greek),
    ('\u{3b1}', b'a', Greek), ('\u{3b2}', b'b', Greek), ('\u{3b3}', b'y', Greek), ('\u{3b4}', b'd', Greek),
    ('\u{3b5}', b'e', Greek), ('\u{3b7}', b'n', Greek), ('\u{3b9}', b'i', Greek), ('\u{3ba}', b'k', Greek),
    ('\u{3bc}', b'u', Greek), ('\u{3bd}', b'v', Greek), ('\u{3bf}', b'o', Greek), ('\u{3c1}', b'p', Greek),
    ('\u{3c2}', b'c', Greek), ('\u{3c3}', b'o', Greek), ('\u{3c4}', b't', Greek), ('\u{3c5}', b'u', Greek),
    ('\u{3c7}', b'x', Greek), ('\u{3c9}', b'w', Greek), ('\u{3cc}', b'o', Greek), ('\u{3cd}', b'u', Greek),
    ('\u{3f3}', b'j', Greek), ('\u{401}', b'E', Cyrillic), ('\u{405}', b'S', Cyrillic), ('\u{406}', b'I', Cyrillic),
    ('\u{407}', b'I', Cyrillic), ('\u{408}', b'J', Cyrillic), ('\u{410}', b'A', Cyrillic),
    ('\u{412}', b'B', Cyrillic), ('\u{415}', b'E', Cyrillic), ('\u{417}', b'3', Cyrillic),
    ('\u{41a}', b'K', Cyrillic), ('\u{41c}', b'M', Cyrillic), ('\u{41d}', b'H', Cyrillic),
    ('\u{41e}', b'O', Cyrillic), ('\u{420}', b'P', Cyrillic), ('\u{421}', b'C', Cyrillic),
    ('\u{422}', b'T', Cyrillic), ('\u{423}', b'Y', Cyrillic), ('\u{425}', b'X', Cyrillic),
    ('\u{430}', b'a', Cyrillic), ('\u{432}', b'b', Cyrillic), ('\u{433}', b'r', Cyrillic),
    ('\u{435}', b'e', Cyrillic), ('\u{437}', b'3', Cyrillic), ('\u{43a}', b'k', Cyrillic),
    ('\u{43c}', b'm', Cyrillic), ('\u{43e}', b'o', Cyrillic), ('\u{43f}', b'n', Cyrillic),
    ('\u{440}', b'p', Cyrillic), ('\u{441}', b'c', Cyrillic), ('\u{442}', b't', Cyrillic),
    ('\u{443}', b'y', Cyrillic), ('\u{445}', b'x', Cyrillic), ('\u{446}', b'u', Cyrillic),
    ('\u{44c}', b'b', Cyrillic), ('\u{451}', b'e', Cyrillic), ('\u{455}', b's', Cyrillic),
    ('\u{456}', b'i', Cyrillic), ('\u{457}', b'i', Cyrillic), ('\u{458}', b'j', Cyrillic),
    ('\u{461}', b'w', Cyrillic), ('\u{474}', b'V', Cyrillic), ('\u{475}', b'v', Cyrillic),
    ('\u{491}', b'r', Cyrillic), ('\u{493}', b'f', Cyrillic), ('\u{4ae}', b'Y', Cyrillic),
    ('\u{4af}', b'y', Cyrillic), ('\u{4bb}', b'h', Cyrillic), ('\u{4c0}', b'I', Cyrillic),
    ('\u{4cf}', b'l', Cyrillic), ('\u{4e1}', b'3', Cyrillic), ('\u{501}', b'd', Cyrillic),
    ('\u{50c}', b'G', Cyrillic), ('\u{50d}', b'g', Cyrillic), ('\u{51a}', b'Q', Cyrillic),
    ('\u{51b}', b'q', Cyrillic), ('\u{51c}', b'W', Cyrillic), ('\u{51d}', b'w', Cyrillic),
    ('\u{53c}', b'L', Armenian), ('\u{54d}', b'U', Armenian), ('\u{54f}', b'S', Armenian),
    ('\u{555}', b'O', Armenian), ('\u{561}', b'w', Armenian), ('\u{566}', b'q', Armenian),
    ('\u{570}', b'h', Armenian), ('\u{575}', b'j', Armenian), ('\u{578}', b'n', Armenian),
    ('\u{57c}', b'n', Armenian), ('\u{57d}', b'u', Armenian), ('\u{57e}', b'u', Armenian),
    ('\u{581}', b'g', Armenian), ('\u{584}', b'p', Armenian), ('\u{585}', b'o', Armenian),
    ('\u{13a0}', b'D', Cherokee), ('\u{13a1}', b'R', Cherokee), ('\u{13a2}', b'T', Cherokee),
    ('\u{13aa}', b'A', Cherokee), ('\u{13ab}', b'J', Cherokee), ('\u{13ac}', b'E', Cherokee),
    ('\u{13b3}', b'W', Cherokee), ('\u{13b7}', b'M', Cherokee), ('\u{13bb}', b'H', Cherokee),
    ('\u{13c0}', b'G', Cherokee), ('\u{13c3}', b'Z', Cherokee), ('\u{13ce}', b'4', Cherokee),
    ('\u{13cf}', b'b', Cherokee), ('\u{13d2}', b'R', Cherokee), ('\u{13d4}', b'W', Cherokee),
    ('\u{13d5}', b'S', Cherokee), ('\u{13d9}', b'V', Cherokee), ('\u{13da}', b'S', Cherokee),
    ('\u{13de}', b'L', Cherokee), ('\u{13df}', b'C', Cherokee), ('\u{13e2}', b'P', Cherokee),
    ('\u{13e6}', b'K', Cherokee), ('\u{13f3}', b'G', Cherokee), ('\u{13f4}', b'B', Cherokee),
    ('\u{1d00}', b'a', Phonetic), ('\u{1d04}', b'c', Phonetic), ('\u{1d05}', b'd', Phonetic),
    ('\u{1d07}', b'e', Phonetic), ('\u{1d0a}', b'j', Phonetic), ('\u{1d0b}', b'k', Phonetic),
    ('\u{1d0d}', b'm', Phonetic), ('\u{1d0f}', b'o', Phonetic), ('\u{1d18}', b'p', Phonetic),
    ('\u{1d1b}', b't', Phonetic), ('\u{1d1c}', b'u', Phonetic), ('\u{1d20}', b'v', Phonetic),
    ('\u{1d21}', b'w', Phonetic), ('\u{1d22}', b'z', Phonetic), ('\u{a730}', b'f', Phonetic),
    ('\u{a731}', b's', Phonetic), ('\u{a7af}', b'q', Phonetic),
];

/// Letters that stand on their heads, sorted.
#[rustfmt::skip]
const TURNED: &[(char, char)] = &[
    ('\u{131}', 'i'), ('\u{183}', 'g'), ('\u{186}', 'C'), ('\u{18e}', 'E'), ('\u{1dd}', 'e'), ('\u{250}', 'a'),
    ('\u{253}', 'g'), ('\u{254}', 'c'), ('\u{259}', 'e'), ('\u{25f}', 'f'), ('\u{265}', 'h'), ('\u{26f}', 'm'),
    ('\u{279}', 'r'), ('\u{27e}', 'j'), ('\u{283}', 'l'), ('\u{287}', 't'), ('\u{28c}', 'v'), ('\u{28d}', 'w'),
    ('\u{28e}', 'y'), ('\u{29e}', 'k'), ('\u{39b}', 'V'), ('\u{500}', 'P'), ('\u{1d09}', 'i'), ('\u{2132}', 'F'),
    ('\u{2144}', 'Y'), ('\u{2200}', 'A'), ('\u{2229}', 'U'), ('\u{2534}', 'T'),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_hold_each_entry_once() {
        assert!(WORDS.is_sorted_by(|a, b| a < b));
        assert!(ALIKE.is_sorted_by(|a, b| a.0 < b.0));
        assert!(TURNED.is_sorted_by(|a, b| a.0 < b.0));
        assert!(is_word(b"ignore") && is_word(b"a") && !is_word(b"ignora") && !is_word(b""));
        assert!(!is_word("é".as_bytes()));
    }
}
