//! Constitutions.

use super::{SOUND_CONSTITUTION, checked, each_is_told_of};

#[test]
fn constitutions_that_make_no_sense() {
    each_is_told_of(
        "constitutions_that_make_no_sense",
        SOUND_CONSTITUTION,
        &[
            ("topics:", "topic:", "9:3", &["constitution: unknown field `topic`", "did you mean `topics`?"]),
            ("off_topic: I", "offtopic: I", "9:35", &["constitution.topics: unknown field `offtopic`", "`off_topic`?"]),
            (
                "[tea, cups]",
                "[]",
                "9:22",
                &["constitution.topics.allowed: an assistant without topics could say nothing"],
            ),
            ("[tea, cups]", "[tea, tea]", "9:28", &["topic `tea` is already on line 9"]),
            ("[tea, cups]", "tea", "9:22", &["constitution.topics.allowed: expected a list"]),
            (", off_topic: I only know tea.", "", "9:13", &["constitution.topics: missing field `off_topic`"]),
            ("name: Shelf", "name: Manual", "10:71", &["source `Manual` is already on line 10"]),
            ("cite: 'Cite as [name].', ", "", "10:81", &["constitution.sources: missing field `cite`"]),
            (
                "authority: application",
                "authority: app",
                "7:48",
                &["principles[1].authority", "`fixed`, `application`, `user`"],
            ),
            (
                "good: Like so., bad: Never., ",
                "",
                "6:18",
                &["examples[0]: an example shows a `good` or a `bad` answer"],
            ),
            ("good: Like so.", "god: Like so.", "6:34", &["examples[0]: unknown field `god`", "did you mean `good`?"]),
            ("id: west", "id: east", "13:13", &["perspective `east` is already on line 12"]),
            ("perspective: west", "perspective: wst", "14:16", &["unknown perspective `wst`", "did you mean `west`?"]),
            ("style: Dry.", "style: ' '", "15:10", &["constitution.style: expected a text, found blanks"]),
            ("prompt: Which cup?, ", "", "16:36", &["constitution.cases[0]: missing field `prompt`"]),
            ("max_tokens: 500", "max_tokens: 0", "17:15", &["expected a number from 1 to 1000000, found 0"]),
            (
                "max_tokens: 500",
                "max_tokens: 50",
                "17:15",
                &["constitution.max_tokens: the constitution has about", "tokens, over its limit of 50", "shorten it"],
            ),
            (
                "preamble: Be",
                "file: ../secret.md\n  preamble: Be",
                "2:9",
                &["constitution.file: expected the name of a", "`../secret.md`"],
            ),
            (
                "preamble: Be",
                "file: prose.html\n  preamble: Be",
                "2:9",
                &["expected the name of a `*.md` or `*.txt` file"],
            ),
            ("preamble: Be", "file: no-such.md\n  preamble: Be", "2:9", &["policies/no-such.md: No such file"]),
        ],
    );
    let weak = SOUND_CONSTITUTION.replace("text: Do no harm.", "text: Do no harm.\n      authority: user");
    let told = checked(&weak).unwrap_err()[0].to_string();
    let expected = "8:48: constitution.principles[1].authority: `application` outweighs `user`, the authority of the \
                    principle before: move this principle up";
    assert!(told.ends_with(expected), "{told}");
}
