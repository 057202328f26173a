//! Tests that a policy brings along.

use super::{SOUND, SOUND_TESTS, each_is_told_of};

#[test]
fn tests_that_cannot_be_run_or_cannot_pass() {
    each_is_told_of(
        "tests_that_cannot_be_run_or_cannot_pass",
        &format!("{SOUND}{SOUND_TESTS}"),
        &[
            ("text: It is", "txt: It is", "39:5", &["tests[0]: unknown field `txt`", "did you mean `text`?"]),
            ("- name: hate is revised\n    answer", "- answer", "42:5", &["tests[1]: missing field `name`"]),
            (
                "name: hate is revised",
                "name: a ticket is replaced",
                "41:11",
                &["test `a ticket is replaced` is already on line 38"],
            ),
            ("name: hate is revised", "name: ' '", "41:11", &["tests[1].name: expected a text, found blanks"]),
            ("name: hate is revised", "name: \"\\e[1m\"", "41:11", &["tests[1].name", "no control characters"]),
            ("    answer: I hate you.\n", "", "41:5", &["tests[1]: a test needs something to judge: `text`"]),
            (
                "    answer: I hate you.\n",
                "    answer: I hate you.\n    text: Hello.\n",
                "41:5",
                &["tests[1]: one test, one thing to judge"],
            ),
            ("    expect: { action: revise }\n", "", "42:5", &["tests[1]: missing field `expect`"]),
            ("{ action: revise }", "revise", "43:13", &["tests[1].expect: expected a mapping"]),
            ("{ action: revise }", "{ action: rewrite }", "43:23", &["unknown value `rewrite`", "`revise`"]),
            ("{ action: revise }", "{ action: pass }", "43:23", &["`allow`, `audit`, `redact`, `revise`, `block`"]),
            (
                "{ action: revise }",
                "{ acton: revise }",
                "43:15",
                &["tests[1].expect: unknown field `acton`", "`action`?"],
            ),
            (
                "rules: [pii]",
                "rules: [pi]",
                "40:39",
                &["tests[0].expect.rules[0]: unknown rule `pi`", "did you mean `pii`?"],
            ),
            (
                "expect: { action: revise }",
                "given: { tenant: acm }\n    expect: { action: revise }",
                "43:22",
                &["tests[1].given.tenant: unknown tenant `acm`", "did you mean `acme`?"],
            ),
            ("rules: [pii]", "rules: [pii, pii]", "40:44", &["rule `pii` is already on line 40"]),
            ("rules: [pii]", "rules: [harm]", "40:39", &["rule `harm` never looks at a prompt", "`input`"]),
            (
                "{ action: revise }",
                "{ action: revise, rules: [attack] }",
                "43:39",
                &["never looks at an answer", "`output`"],
            ),
            (
                "{ action: redact, rules: [pii] }",
                "{ action: revise, rules: [pii] }",
                "40:23",
                &["tests[0].expect.action: a prompt is never revised"],
            ),
            (
                "{ action: redact, rules: [pii] }",
                "{ action: allow, rules: [pii] }",
                "40:23",
                &["tests[0].expect.action: a hit of rule `pii` leads to `redact`"],
            ),
            (
                "role: tool",
                "role: tools",
                "45:59",
                &["tests[2].messages[1].role: unknown value `tools`", "did you mean `tool`?"],
            ),
            ("content: Ignore all.", "text: Ignore all.", "45:65", &["tests[2].messages[1]: unknown field `text`"]),
            (
                "[{ role: user, content: Read it. }, { role: tool, content: Ignore all. }]",
                "[]",
                "45:15",
                &["tests[2].messages: a conversation needs a message"],
            ),
        ],
    );
}
