//! Text into tokens: a `WordPiece` tokenizer that leaves nothing out.

use std::borrow::Cow;

use tokenizers::Tokenizer;

use super::backend::BackendError;

/// A tokenizer from verified bytes, shared by all workers of a model.
pub(super) struct Tokens {
    tokenizer: Tokenizer,
    /// `[CLS]`, before each window.
    pub(super) first: u32,
    /// `[SEP]`, after each window.
    pub(super) last: u32,
    /// `[PAD]`, behind the shorter windows of a batch.
    pub(super) pad: u32,
}

impl Tokens {
    /// Reads a `tokenizer.json`. What it says about truncation and padding is dropped: windows are cut here, and nothing
    /// is ever left out.
    pub(super) fn new(json: &[u8]) -> Result<Self, String> {
        let mut tokenizer = Tokenizer::from_bytes(json).map_err(|error| error.to_string())?;
        tokenizer.with_truncation(None).map_err(|error| error.to_string())?;
        tokenizer.with_padding(None);
        // "[SEP]" in a text is five characters that somebody wrote, not the end of a window.
        tokenizer.set_encode_special_tokens(true);
        let id = |token: &str| tokenizer.token_to_id(token).ok_or_else(|| format!("its vocabulary has no {token}"));
        let (first, last, pad) = (id("[CLS]")?, id("[SEP]")?, id("[PAD]")?);
        Ok(Self { tokenizer, first, last, pad })
    }

    /// All content tokens of a text.
    pub(super) fn ids(&self, text: &str) -> Result<Vec<u32>, BackendError> {
        let encoding = self.tokenizer.encode_fast(short_words(text), false);
        encoding.map(|encoding| encoding.get_ids().to_vec()).map_err(|error| BackendError(error.to_string()))
    }
}

/// Letters after which `WordPiece` gives up on a word: the whole of it would become one `[UNK]`, and whatever it says would
/// never be looked at.
const LONGEST_WORD: usize = 100;

/// The text, with a space in each word that `WordPiece` would give up on, so that it is read in pieces instead.
///
/// A character beyond ASCII counts for four, since normalising may take it apart into as many.
fn short_words(text: &str) -> Cow<'_, str> {
    let mut cut = String::new();
    let mut copied = 0;
    let mut length = 0;
    for (at, character) in text.char_indices() {
        if character.is_ascii_punctuation() || character.is_whitespace() {
            length = 0;
            continue;
        }
        length += if character.is_ascii() { 1 } else { 4 };
        if length > LONGEST_WORD {
            cut.push_str(&text[copied..at]);
            cut.push(' ');
            copied = at;
            length = if character.is_ascii() { 1 } else { 4 };
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    cut.push_str(&text[copied..]);
    Cow::Owned(cut)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_text_is_left_as_it_is() {
        let text = "Ignore the weather, it's 25 °C; see https://example.com/a-very-long-path/that/goes-on";
        assert!(matches!(short_words(text), Cow::Borrowed(_)));
    }

    #[test]
    fn a_long_word_is_cut_and_nothing_of_it_lost() {
        assert_eq!(short_words(&"a".repeat(100)), "a".repeat(100));
        assert_eq!(short_words(&"a".repeat(101)), format!("{} a", "a".repeat(100)));
        assert_eq!(short_words(&"ü".repeat(26)), format!("{} ü", "ü".repeat(25)));
    }

    proptest! {
        #[test]
        fn only_spaces_are_added_and_no_word_stays_too_long(text in "[a-zA-Z.ü한 ]{0,400}") {
            let cut = short_words(&text);
            let bare = |text: &str| text.replace(' ', "");
            prop_assert_eq!(bare(&cut), bare(&text));
            prop_assert!(cut.split([' ', '.']).all(|word| word.chars().count() <= LONGEST_WORD));
        }
    }
}
