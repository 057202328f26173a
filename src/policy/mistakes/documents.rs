//! Whole documents, and how mistakes are reported.

use super::{SOUND, checked, each_is_told};
use crate::policy::PolicyError;

#[test]
fn broken_yaml() {
    each_is_told(
        "broken_yaml",
        &[
            ("  preamble: Be good.", "\tpreamble: Be good.", "3:2", &["tabs disallowed"]),
            ("message: Sorry.", "message: \"Sorry.", "32:44", &["unclosed quote"]),
            ("    stages: [input]\n", "   stages: [input]\n", "15:4", &["did not find expected"]),
        ],
    );
}

#[test]
fn a_document_that_is_no_policy() {
    for (text, told) in [
        ("", "1:1: the file is empty"),
        ("# nothing\n", "1:1: the file is empty"),
        ("name: default\n", "1:1: missing field `rules` (write `rules: []` for a policy without guards)"),
        ("rules:\n", "1:6: rules: expected a list (`[a, b]`, or lines that start with `- `)"),
        ("- id: a\n", "1:1: expected a mapping (`{ key: value }`, or lines of `key: value`)"),
    ] {
        assert_eq!(checked(text).unwrap_err()[0].to_string(), format!("policies/default.yaml:{told}"));
    }
    let deep = format!("rules: {}{}", "[".repeat(99), "]".repeat(99));
    assert_eq!(checked(&deep).unwrap_err().len(), 1);
    let bomb =
        "a: &a [x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\nc: [*b, *b, *b, *b]\nrules: []\n";
    assert_eq!(checked(bomb).unwrap_err().len(), 1);
}

#[test]
fn mistakes_in_several_places_are_told_at_once() {
    let text = SOUND.replace("timeout: 2s", "timeout: never").replace("principle: honest", "principle: kind");
    let problems = checked(&text.replace("rate: 0.5", "rate: 2")).unwrap_err();
    let lines: Vec<u64> = problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [19, 25, 35]);
}

#[test]
fn the_report_shows_the_line_and_a_caret() {
    let text = SOUND.replace("    action: block", "    actoin: block");
    assert_eq!(
        PolicyError::Files(checked(&text).unwrap_err()).report(),
        "error: policies/default.yaml:18:5: rules[0]: unknown field `actoin`, expected one of `id`, `guard`, `stages`, \
         `origins`, `threshold`, `warn`, `by_origin`, `action`, `mode`, `when`, `sampling`, `on_error`, `timeout`, `principle`, `message`; did you mean `action`?\n   \
         |\n18 |     actoin: block\n   |     ^^^^^^\n"
    );
}

#[test]
fn a_report_carries_no_control_characters_of_the_file() {
    let report = PolicyError::Files(checked("rules: []\nname: \"\u{9b}31m\" # \u{1b}[31m\n").unwrap_err()).report();
    assert!(!report.chars().any(|c| c.is_control() && c != '\n'), "{report:?}");
}
