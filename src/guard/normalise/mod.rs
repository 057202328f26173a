//! Text as it reads once tricks of writing are undone, with the way back to the bytes that were sent.
//!
//! ```text
//! characters ─► decodings (twice at most) ─► ciphers ─► words
//! ```
//! A classifier and a keyword see letters; a language model sees through full-width forms, look-alikes, hidden
//! characters, letters set apart and base64. What is made here is a second view of a text for whoever judges. It is
//! never sent anywhere: a place found in it is looked up in the text as it came ([`Normalised::source`]).
//!
//! Most text is plain. One walk sees that ([`plain`]) and nothing else is done.
//!
//! Each step finds pieces to replace, in order, in one walk, and there is a fixed number of steps, so that the time is
//! linear in the text. Undoing is idempotent; decoding stops after two layers, and a third stays as it is.

mod characters;
mod ciphers;
mod decodings;
mod plain;
mod plausible;
#[cfg(test)]
mod real_model;
mod tables;
#[cfg(test)]
mod tests;
mod view;
mod words;

use std::ops::Range;

pub use view::{Kind, Normalised};

/// Layers of encoding that are taken off.
const LAYERS: usize = 2;
/// Rounds until undoing changes nothing more; one trick may hide another.
const ROUNDS: usize = 4;
/// Bytes that are normalised in one go: a whole text, but for very long ones.
const PART: usize = 256 * 1024;

/// The text with tricks undone; `None` where that changes nothing.
pub fn normalise(text: &str) -> Option<Normalised> {
    if plain::is_plain(text) { None } else { thoroughly(text) }
}

/// The same without a look ahead.
fn thoroughly(text: &str) -> Option<Normalised> {
    let mut view = characters::undo(Normalised::of(text));
    for _ in 0..LAYERS {
        let (decoded, changed) = decodings::undo(view);
        view = decoded;
        if !changed {
            break;
        }
        view = characters::undo(view);
    }
    view = ciphers::undo(view);
    for _ in 0..ROUNDS {
        let edits = view.edits();
        view = words::undo(characters::undo(view));
        if view.edits() == edits {
            break;
        }
    }
    (view.edits() > 0 && view.text() != text).then_some(view)
}

/// Cuts a long text into parts, each to be normalised for itself, so that the lists of pieces stay small whatever is sent.
/// A part ends after a blank, where there is one near its end; a trick that goes over it is not undone.
pub(super) fn parts(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        if start == text.len() {
            return None;
        }
        let mut end = text.len().min(start + PART);
        if end < text.len() {
            let near = end - PART / 4;
            let blank = text.as_bytes()[near..end].iter().rposition(u8::is_ascii_whitespace);
            end = blank.map_or(end, |at| near + at + 1);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
        }
        let part = start..end;
        start = end;
        Some(part)
    })
}

/// The text with its characters undone and nothing else: what can be said of a text that still goes on, as it changes
/// nothing before its last character, whatever follows.
pub(super) fn characters_only(text: &str) -> Option<Normalised> {
    if text.bytes().all(characters::is_plain) {
        return None;
    }
    let view = characters::undo(Normalised::of(text));
    (view.edits() > 0).then_some(view)
}
