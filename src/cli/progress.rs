//! A progress bar on standard error, where that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `texts` texts.
pub(super) fn bar(texts: usize) -> ProgressBar {
    let bar = ProgressBar::new(u64::try_from(texts).unwrap_or(u64::MAX));
    // A template that cannot be read leaves the plain bar; nothing hangs on its looks.
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} texts, {per_sec:.0}, {eta} left") {
        bar.set_style(style);
    }
    bar.set_message("scoring");
    bar
}
