//! Rules, and what they hang on.

use super::{checked, each_is_told, each_is_told_of};
use crate::api::Origin;

#[test]
fn names_that_do_not_exist() {
    each_is_told(
        "names_that_do_not_exist",
        &[
            (
                "timeout: 2s",
                "timeuot: 2s",
                "19:5",
                &["rules[0]: unknown field `timeuot`", "`timeout`", "did you mean `timeout`?"],
            ),
            ("- id: harm\n", "- idd: harm\n", "20:5", &["rules[1]: unknown field `idd`", "did you mean `id`?"]),
            ("pairs:", "pair:", "35:1", &["unknown field `pair`, expected one of", "did you mean `pairs`?"]),
            (
                "pairs:",
                "stored_state: [conversaton]\npairs:",
                "35:16",
                &["stored_state[0]: unknown value `conversaton`", "did you mean `conversation`?"],
            ),
            ("role: auto", "position: first", "11:11", &["inject: unknown field `position`, expected `role`"]),
            (
                "action: block",
                "action: deny",
                "18:13",
                &["rules[0].action: unknown value `deny`", "`audit`, `redact`, `revise`, `block`"],
            ),
            ("[input]", "[inptu]", "15:14", &["rules[0].stages[0]: unknown value `inptu`", "did you mean `input`?"]),
            (
                "[user, tool_result]",
                "[user, tool_results]",
                "16:21",
                &["rules[0].origins[1]", "did you mean `tool_result`?"],
            ),
            (
                "classifier: prompt_attack",
                "classifier: promptattack",
                "14:26",
                &[
                    "rules[0].guard.classifier: unknown classifier head `promptattack`",
                    "`prompt_attack`, `harm`",
                    "did you mean `prompt_attack`?",
                ],
            ),
            (
                "labels: [attack]",
                "labels: [atack]",
                "14:50",
                &["`prompt_attack` has no label `atack`", "did you mean `attack`?"],
            ),
            (
                "threshold: fpr_0.5\n",
                "threshold: fpr_0.1\n",
                "17:16",
                &[
                    "rules[0].threshold: no threshold `fpr_0.1` is calibrated for `prompt_attack.attack`",
                    "`fpr_0.5`, `fpr_1`",
                ],
            ),
            (
                "violence: fpr_0.5",
                "violence: fpr_1",
                "23:39",
                &["rules[1].threshold.violence", "`harm.violence`", "expected `fpr_0.5`"],
            ),
            (
                "violence: fpr_0.5",
                "violins: 0.5",
                "23:29",
                &["the rule has no label `violins`, expected one of `hate`, `violence`"],
            ),
            (
                "principle: honest",
                "principle: honesty",
                "25:16",
                &["unknown principle `honesty`", "`harmless`, `honest`", "did you mean `honest`?"],
            ),
            (
                "[US_SSN]",
                "[EMAIL_ADRESS]",
                "28:18",
                &["rules[2].guard.entities[0]: unknown entity", "did you mean `EMAIL_ADDRESS`?"],
            ),
        ],
    );
}

#[test]
fn values_of_another_kind() {
    each_is_told(
        "values_of_another_kind",
        &[
            ("[input]", "input", "15:13", &["rules[0].stages: expected a list"]),
            ("[US_SSN]", "", "28:15", &["rules[2].guard.entities: expected a list"]),
            ("[user, tool_result]", "", "16:12", &["rules[0].origins: expected a list"]),
            ("message: Sorry.", "message: ", "32:42", &["respond.message: expected a text, found nothing"]),
            ("rate: 0.5", "rate: null", "35:16", &["pairs.rate: expected a number"]),
            ("{ classifier: harm }", "harm", "21:12", &["rules[1].guard: expected a mapping"]),
            (
                "timeout: 2s",
                "timeout: 2",
                "19:14",
                &["rules[0].timeout: expected a duration such as `400ms`", "found `2`"],
            ),
            ("hold: 400ms", "hold: 0ms", "33:36", &["stream.hold: expected a duration above zero"]),
            ("window_chars: 400", "window_chars: many", "33:25", &["stream.window_chars: expected a whole number"]),
            ("window_chars: 400", "window_chars: 4", "33:25", &["expected a number from 16 to 65536, found 4"]),
            ("rate: 0.5", "rate: 50", "35:16", &["pairs.rate: expected a number from 0 to 1, found 50"]),
            ("rate: 0.5", "rate: half", "35:16", &["pairs.rate: expected a number"]),
            ("threshold: fpr_0.5\n", "threshold: 50\n", "17:16", &["expected a number above 0 and up to 1, found 50"]),
            ("threshold: fpr_0.5\n", "threshold: 0\n", "17:16", &["expected a number above 0 and up to 1, found 0"]),
            ("threshold: fpr_0.5\n", "threshold: .nan\n", "17:16", &["expected a finite number, found `.nan`"]),
            (
                "threshold: fpr_0.5\n",
                "threshold: [0.5]\n",
                "17:5",
                &["rules[0].threshold: invalid type: sequence, expected a number above 0"],
            ),
            ("message: Sorry.", "message: ' '", "32:44", &["respond.message: expected a text, found blanks"]),
            ("- id: attack", "- id: 'attack, you'", "13:9", &["rules[0].id: `attack, you` is no name"]),
        ],
    );
}

#[test]
fn what_is_missing_or_too_much() {
    each_is_told(
        "what_is_missing_or_too_much",
        &[
            ("    action: block\n", "", "18:5", &["rules[0]: missing field `action`"]),
            ("      text: Do no harm.\n", "", "7:7", &["constitution.principles[0]: missing field `text`"]),
            (
                "    threshold: fpr_0.5\n",
                "",
                "14:12",
                &["rules[0].guard: a classifier rule needs a `threshold`", "`fpr_0.5`, `fpr_1`"],
            ),
            ("hate: 0.5, violence", "violence", "23:16", &["rules[1].threshold: no threshold for label `hate`"]),
            ("[input]", "[]", "15:13", &["rules[0].stages: a rule without stages would never look"]),
            ("{ classifier: harm }", "{}", "21:12", &["rules[1].guard: a guard needs `classifier`, or"]),
            ("labels: [attack]", "labels: []", "14:49", &["rules[0].guard.labels: a classifier rule needs a label"]),
            (
                "{ classifier: harm }",
                "{ classifier: tone }",
                "21:26",
                &["head `tone` has no calibrated labels", "`rude`"],
            ),
            ("{ classifier: harm }", "{ classifier: harm, entities: [US_SSN] }", "21:12", &["one guard, one kind"]),
            ("name: default\n", "name: default\nname: default\n", "2:1", &["name: `name` is written twice"]),
            ("- id: pii", "- id: harm", "26:9", &["rules[2].id: rule `harm` is already on line 20"]),
            ("- id: harmless", "- id: honest", "9:11", &["principle `honest` is already on line 5"]),
            ("[attack]", "[attack, attack]", "14:58", &["label `attack` is already on line 14"]),
            ("id: ticket", "id: US_SSN", "29:24", &["`US_SSN` is a built-in entity"]),
            (
                "name: default",
                "name: other",
                "1:7",
                &["name: the policy in default.yaml is called `default`, not `other`"],
            ),
            ("pairs: ", "---\npairs: ", "36:1", &["one document"]),
            (
                "inject: { role: auto }",
                "inject: &a { role: auto, <<: *a }",
                "11:26",
                &["merge keys (`<<`) are not allowed"],
            ),
            ("message: Sorry.", "message: !env SORRY", "32:49", &["unsupported tag `!env`"]),
        ],
    );
}

#[test]
fn combinations_that_cannot_work() {
    each_is_told(
        "combinations_that_cannot_work",
        &[
            ("action: block", "action: redact", "18:13", &["rules[0].action: `redact` needs to know which characters"]),
            ("action: block", "action: revise", "18:13", &["`revise` works on answers only"]),
            (
                "stages: [output]\n    threshold",
                "stages: [input, output]\n    threshold",
                "24:13",
                &["`revise` works on answers only"],
            ),
            ("    timeout: 2s", "    principle: honest", "19:16", &["only with `action: revise`"]),
            (
                "[input]",
                "[input, output]",
                "16:14",
                &["rules[0].origins: no answer has a text of these origins", "`output`"],
            ),
            ("[user, tool_result]", "[output]", "16:14", &["rules[0].origins: no prompt has a text of these origins"]),
            (
                "    action: redact\n",
                "    action: redact\n    threshold: 0.5\n",
                "32:16",
                &["a pattern is found or not"],
            ),
            (
                "'TCK-\\d{6}'",
                "'TCK-(\\d{6}'",
                "29:39",
                &["patterns[0].regex: not a regular expression: unclosed group", "character 5"],
            ),
            ("'TCK-\\d{6}'", "'\\d*'", "29:39", &["matches the empty text"]),
            (
                "window_chars: 400",
                "window_chars: 100, overlap_chars: 200",
                "33:45",
                &["expected a number from 0 to 100, found 200"],
            ),
            (
                "window_chars: 400",
                "window_chars: 400, max_window_chars: 200",
                "33:48",
                &["expected a number from 400 to 65536, found 200"],
            ),
            ("window_chars: 400", "window_chars: 400, prompt_chars: 9000", "33:44", &["found 9000"]),
        ],
    );
}

#[test]
fn revise_needs_a_principle() {
    let text = "rules:\n- id: a\n  guard: { classifier: harm }\n  stages: [output]\n  threshold: 1\n  action: revise\n";
    let told = checked(text).unwrap_err()[0].to_string();
    assert!(told.contains(":6:11: rules[0].action: `revise` needs a principle"), "{told}");
}

const SOUND_LEVELS: &str = "\
rules:
  - id: attack
    guard: { classifier: prompt_attack, labels: [attack] }
    stages: [input]
    origins: [user, tool_result]
    threshold: fpr_0.5
    warn: 0.5
    by_origin:
      tool_result: { threshold: fpr_1, warn: 0.25 }
    action: block
  - id: mail
    guard: { entities: [EMAIL_ADDRESS] }
    stages: [input]
    action: audit
";

#[test]
fn levels_of_origins_replace_those_of_the_rule() {
    let policy = checked(SOUND_LEVELS).unwrap();
    let levels =
        |origin| policy.rules[0].bounds(origin).iter().map(|bound| (bound.threshold, bound.warn)).collect::<Vec<_>>();
    assert_eq!(levels(Origin::User), [(0.92, Some(0.5))]);
    assert_eq!(levels(Origin::ToolResult), [(0.82, Some(0.25))]);
    let kept = checked(&SOUND_LEVELS.replace("threshold: fpr_1, ", "")).unwrap();
    assert_eq!(kept.rules[0].bounds(Origin::ToolResult)[0].threshold.to_string(), "0.92");
    assert!(policy.rules[1].bounds(Origin::User).is_empty());
}

#[test]
fn levels_that_make_no_sense() {
    each_is_told_of(
        "levels_that_make_no_sense",
        SOUND_LEVELS,
        &[
            (
                "warn: 0.5\n",
                "warn: 0.95\n",
                "7:11",
                &["rules[0].warn: a warning comes before the hit", "0.92, found 0.95"],
            ),
            ("warn: 0.5\n", "warn: fpr_9\n", "7:11", &["rules[0].warn: no threshold `fpr_9` is calibrated"]),
            ("warn: 0.5\n", "warn: { atack: 0.5 }\n", "7:13", &["the rule has no label `atack`"]),
            ("warn: 0.5\n", "wran: 0.5\n", "7:5", &["unknown field `wran`"]),
            ("warn: 0.25", "warn: 0.85", "9:46", &["rules[0].by_origin.tool_result.warn: a warning comes before"]),
            ("tool_result: {", "tool: {", "9:7", &["unknown value `tool`", "`tool_result`"]),
            ("tool_result: {", "document: {", "9:17", &["the rule does not look at `document`"]),
            ("{ threshold: fpr_1, warn: 0.25 }", "{}", "9:20", &["expected a `threshold` or a `warn` for this origin"]),
            ("{ threshold: fpr_1, warn: 0.25 }", "0.5", "9:20", &["by_origin.tool_result: expected a mapping"]),
            (
                "stages: [input]\n    action: audit",
                "stages: [input]\n    warn: 0.5\n    action: audit",
                "14:11",
                &["a pattern is found or not: `warn`"],
            ),
            (
                "stages: [input]\n    action: audit",
                "stages: [input]\n    by_origin: { user: { warn: 0.5 } }\n    action: audit",
                "14:24",
                &["a pattern is found or not: `by_origin`"],
            ),
        ],
    );
}
