//! A progress bar on standard error, where that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `count` things called `what`, under a word for what is done with them.
pub(super) fn bar(doing: &'static str, count: usize, what: &str) -> ProgressBar {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    styled(doing, count, &format!("{{msg}} {{wide_bar}} {{pos}}/{{len}} {what}, {{per_sec:.0}}, {{eta}} left"))
}

/// A bar over so many bytes to be read.
pub(super) fn bytes(doing: &'static str, count: u64) -> ProgressBar {
    styled(doing, count, "{msg} {wide_bar} {bytes}/{total_bytes}, {eta} left")
}

fn styled(doing: &'static str, count: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(count);
    // A template that cannot be read leaves the plain bar; nothing hangs on its looks.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(doing);
    bar
}
