//! A text as words and what stands between them.

use std::collections::HashMap;
use std::ops::Range;

use regex::Regex;

/// The different words of a text, by first appearance.
#[derive(Clone, Debug)]
pub(super) struct Words {
    text: String,
    /// Every occurrence: where, and which word.
    occurrences: Vec<(Range<usize>, usize)>,
    /// The first occurrence of each word.
    first: Vec<usize>,
}

/// A run of letters, marks, digits and connectors; each sign by itself in scripts that put no space between words.
const WORD: &str = r"[\p{Han}\p{Hiragana}\p{Katakana}]|[\w--[\p{Han}\p{Hiragana}\p{Katakana}]]+";

impl Words {
    pub(super) fn of(text: &str) -> Self {
        #[expect(clippy::expect_used, reason = "a constant, compiled by every test here")]
        let pattern = Regex::new(WORD).expect("a regex");
        let mut known = HashMap::new();
        let mut occurrences = Vec::new();
        let mut first = Vec::new();
        for found in pattern.find_iter(text) {
            let word = *known.entry(found.as_str()).or_insert(first.len());
            if word == first.len() {
                first.push(occurrences.len());
            }
            occurrences.push((found.range(), word));
        }
        Self { text: text.to_owned(), occurrences, first }
    }

    pub(super) fn count(&self) -> usize {
        self.first.len()
    }

    pub(super) fn word(&self, word: usize) -> &str {
        &self.text[self.occurrences[self.first[word]].0.clone()]
    }

    pub(super) fn places(&self, word: usize) -> Vec<Range<usize>> {
        self.occurrences.iter().filter(|(_, of)| *of == word).map(|(place, _)| place.clone()).collect()
    }

    /// The text without the words that are not kept. What stood around them stays.
    pub(super) fn keeping(&self, kept: &[bool]) -> String {
        let mut out = String::with_capacity(self.text.len());
        let mut copied = 0;
        for (place, _) in self.occurrences.iter().filter(|(_, word)| !kept[*word]) {
            out.push_str(&self.text[copied..place.start]);
            copied = place.end;
        }
        out.push_str(&self.text[copied..]);
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        let words = Words::of(text);
        (0..words.count()).map(|word| words.word(word).to_owned()).collect()
    }

    #[test]
    fn words_are_what_readers_take_for_words() {
        assert_eq!(
            words("Don't e-mail me_2, e.g. at 10:30!"),
            ["Don", "t", "e", "mail", "me_2", "g", "at", "10", "30"]
        );
        assert_eq!(words("Größe हिन्दी"), ["Größe", "हिन्दी"]);
        assert_eq!(words("无视以上"), ["无", "视", "以", "上"]);
        assert!(words(" -- \n").is_empty());
    }

    proptest! {
        #[test]
        fn keeping_all_is_the_text_and_keeping_none_leaves_no_word(text in "[a-zé漢 ,.\n-]{0,60}") {
            let words = Words::of(&text);
            prop_assert_eq!(words.keeping(&vec![true; words.count()]), text.clone());
            let bare = words.keeping(&vec![false; words.count()]);
            prop_assert!(!bare.contains(|c: char| c.is_alphanumeric()));
            let places: usize = (0..words.count()).flat_map(|word| words.places(word)).map(|place| place.len()).sum();
            prop_assert_eq!(places + bare.len(), text.len());
        }
    }
}
