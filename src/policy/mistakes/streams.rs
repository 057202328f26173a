//! Mistakes in how a stream is cut.

use super::each_is_told;

#[test]
fn windows_that_do_not_fit_into_each_other() {
    let from = "window_chars: 400";
    each_is_told(&[
        (from, "window_chars: 100, overlap_chars: 200", "33:45", &["expected a number from 0 to 100, found 200"]),
        (
            from,
            "window_chars: 400, max_window_chars: 200",
            "33:48",
            &["expected a number from 400 to 65536, found 200"],
        ),
        (from, "window_chars: 400, prompt_chars: 9000", "33:44", &["found 9000"]),
    ]);
}
