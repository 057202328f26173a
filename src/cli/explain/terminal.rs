//! An account for a terminal.

use std::fmt::Write as _;

use super::{Account, largest};
use crate::classify::Label;
use crate::classify::explain::{Explanation, Weighed};

/// Columns of the longest bar.
const BAR: usize = 24;

/// Foreground and background of what pushes up (orange) and of what pulls down (blue), from the 256-colour palette: far
/// apart for eyes that do not tell red from green.
const UP: [u8; 3] = [208, 130, 94];
const DOWN: [u8; 3] = [39, 25, 24];

pub(super) fn render(account: &Account, coloured: bool) -> String {
    let [name, revision, device] = &account.model;
    let mut out = format!(
        "{name} {revision} on {device}: {} samples around {} different words, as `{}`\n",
        account.settings.samples,
        account.words,
        account.origin.as_str()
    );
    for (label, score, explanation) in &account.explained {
        section(&mut out, account, label, *score, explanation, coloured);
    }
    let others = account.scores.iter().map(|(label, score)| format!("{label} {score:.3}"));
    let _ = writeln!(out, "\nall scores: {}", others.collect::<Vec<_>>().join(", "));
    out
}

// Writing to a String cannot fail.
fn section(out: &mut String, account: &Account, label: &Label, score: f32, explanation: &Explanation, coloured: bool) {
    let _ = writeln!(out, "\n{label} {score:.3}   {}", account.verdict(label, score));
    let _ = writeln!(
        out,
        "the line says {:.3} with these words and {:.3} without; it explains {:.0} % of what happens nearby (R²)\n",
        explanation.local,
        explanation.intercept,
        100.0 * explanation.fit
    );
    let most = largest(explanation);
    for word in &explanation.words {
        let _ = writeln!(out, "{}", line(word, most, coloured));
    }
    let parts = account.parts(explanation).into_iter().map(|(text, weight)| match weight {
        Some(weight) if coloured => painted(&visible(text), weight, most),
        Some(weight) if weight >= 0.0 => format!("[+{}]", visible(text)),
        Some(_) => format!("[-{}]", visible(text)),
        None => visible(text),
    });
    let _ = writeln!(out, "\n{}", parts.collect::<String>());
}

fn line(word: &Weighed, most: f64, coloured: bool) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and BAR")]
    #[expect(clippy::cast_precision_loss, reason = "a small constant")]
    let length = (word.weight.abs() / most * BAR as f64).round() as usize;
    let sign = if word.weight >= 0.0 { '+' } else { '-' };
    let bar = sign.to_string().repeat(length.max(1));
    let bar = format!("{bar:<BAR$}");
    let bar = if coloured { painted(&bar, word.weight, most) } else { bar };
    format!("  {:+.3}  {bar}  {}", word.weight, visible(&word.word))
}

/// The stronger the weight, the brighter.
fn painted(text: &str, weight: f64, most: f64) -> String {
    let share = weight.abs() / most;
    let level = if share > 0.6 {
        0
    } else if share > 0.25 {
        1
    } else {
        2
    };
    let background = if weight >= 0.0 { UP[level] } else { DOWN[level] };
    let foreground = if level == 0 { 16 } else { 231 };
    format!("\x1b[38;5;{foreground};48;5;{background}m{text}\x1b[0m")
}

/// What would steer a terminal, or turn the direction of what follows, made visible.
fn visible(text: &str) -> String {
    let steers = |c: char| {
        (c.is_control() && c != '\n' && c != '\t') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if steers(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_can_steer_the_terminal() {
        assert_eq!(visible("a\x1b[2Jb\r\n\tc\u{202e}"), "a\\u{1b}[2Jb\\u{d}\n\tc\\u{202e}");
    }

    #[test]
    fn bars_are_as_long_as_their_weights() {
        let word = |weight: f64| Weighed { word: "w".to_owned(), weight, places: Vec::new() };
        assert_eq!(line(&word(0.5), 0.5, false), format!("  +0.500  {}  w", "+".repeat(24)));
        assert_eq!(line(&word(-0.25), 0.5, false), format!("  -0.250  {}{}  w", "-".repeat(12), " ".repeat(12)));
        assert!(line(&word(-0.25), 0.5, true).contains("\x1b[38;5;231;48;5;25m"));
    }
}
