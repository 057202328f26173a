use super::each_is_told;

#[test]
fn revisions_within_bounds() {
    let from = "max_tokens: 1024, model: null";
    each_is_told(
        "revisions_within_bounds",
        &[
            (from, "rounds: 0", "34:33", &["revise.rounds: expected a number from 1 to 16, found 0"]),
            (from, "when: always", "34:31", &["revise.when: `always` needs `on_stream: hold`"]),
            (from, "when: allways", "34:31", &["did you mean `always`?"]),
            (from, "on_error: open", "34:35", &["revise.on_error: only with `when: always`"]),
            (from, "max_tokens: 4", "34:37", &["revise.max_tokens: expected a number from 16 to 1048576, found 4"]),
            (
                from,
                "model: m, upstream: revisor",
                "34:45",
                &[
                    "revise.upstream: unknown upstream `revisor`, expected one of `openai`, `reviser`; did you mean `reviser`?",
                ],
            ),
            (
                "pairs: { rate: 0.5 }\njudge: { model: j, ",
                "pairs: { compare: { rate: 0.5 } }\njudge: { ",
                "35:27",
                &["pairs.compare.rate: nobody judges: expected `judge.model`, and principles"],
            ),
            (
                "pairs: { rate: 0.5 }",
                "pairs: { compare: { upstream: reviser } }",
                "35:31",
                &["pairs.compare.upstream: another upstream needs a `model`"],
            ),
            ("score: 7", "score: 10", "36:86", &["judge.examples[0].score: expected a number from 1 to 9, found 10"]),
            (from, "upstream: reviser", "34:35", &["revise.upstream: another upstream needs a `model`"]),
        ],
    );
}
