//! Tokens for models whose own tokens are not known here.

use super::windows::Frame;

/// A text's characters as its tokens, for a model on somebody else's server: windows overlap as they do for a model at
/// hand, and none of it is ever left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Characters {
    /// Characters in a full window. At least 1.
    pub window: usize,
    /// Characters that a window shares with the one before it. Below `window`.
    pub overlap: usize,
}

/// Stands before and after a window, and for nothing in it: no character has this number.
const BORDER: u32 = u32::MAX;

impl Characters {
    /// The characters of a text; none of one that shows nothing.
    pub fn tokens(text: &str) -> Vec<u32> {
        if text.trim().is_empty() { Vec::new() } else { text.chars().map(u32::from).collect() }
    }

    /// How they become windows.
    pub fn frame(&self) -> Frame {
        Frame { tokens: self.window + 2, stride: self.window - self.overlap, first: BORDER, last: BORDER }
    }

    /// A window's text.
    pub fn text(window: &[u32]) -> String {
        window.iter().filter_map(|token| char::from_u32(*token)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn blanks_are_nothing_to_judge() {
        assert!(Characters::tokens(" \n\t").is_empty());
    }

    proptest! {
        #[test]
        fn windows_hold_the_whole_text(text in "\\PC{0,80}", window in 1_usize..20, part in 0_usize..20) {
            let characters = Characters { window, overlap: part.min(window - 1) };
            let windows = characters.frame().cut(&Characters::tokens(&text));
            let mut whole = String::new();
            for window in windows {
                let text = Characters::text(&window);
                let new = if whole.is_empty() { 0 } else { characters.overlap };
                whole.extend(text.chars().skip(new));
            }
            prop_assert_eq!(whole, if text.trim().is_empty() { "" } else { text.as_str() });
        }
    }
}
