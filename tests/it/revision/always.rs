//! `when: always`: every answer is criticised, whole or streamed, and rewritten where the critic finds something.

use serde_json::{Value, json};

use super::streams::{ANSWERED, CHAT, MESSAGES, RESPONSES, answer_stream, asked, chunk, path, read};
use super::{REWRITE, Role, VIOLATED, policy, role, say};
use crate::support::{Recorded, Reply, Running, Setup, Step, Upstream, json as answer, sse};

const CLEAN: &str = r#"{"violated": false, "where": "", "why": "Fine."}"#;
const WORDS: &[&str] = &["The sea is wide.", " All is", " well."];

fn policy_with(more: &str) -> String {
    policy() + &format!("revise: {{ when: always, on_stream: hold{more} }}\n")
}

/// The words as an answer to the request, whole or streamed.
fn calm(request: &Recorded, words: &[&str]) -> Vec<Step> {
    if request.json()["stream"] == true {
        return sse(&[answer_stream(path(request), words).as_bytes()], 0);
    }
    say(request, &words.concat())
}

async fn played(
    policy: &str,
    (to, stream): (&str, bool),
    script: impl Fn(&Recorded) -> Vec<Step> + Send + Sync + 'static,
) -> (Running, Upstream, Reply) {
    let upstream = Upstream::start(script).await;
    let running = Running::start(Setup::with(policy), upstream.address).await;
    let reply = running.client().post(to, asked(to, "Hello", stream)).await;
    (running, upstream, reply)
}

/// Each dialect, whole and streamed.
fn ways() -> impl Iterator<Item = (&'static str, bool)> {
    ANSWERED.into_iter().flat_map(|(path, _)| [(path, false), (path, true)])
}

/// The answer's text, as a client of the dialect reads it.
fn text(way: (&str, bool), reply: &Reply) -> String {
    if way.1 {
        return read(way.0, &reply.text());
    }
    let body = reply.json();
    let places = ["/choices/0/message/content", "/choices/0/text", "/content/0/text", "/output/0/content/0/text"];
    places.iter().find_map(|place| body.pointer(place)?.as_str()).unwrap_or_default().to_owned()
}

/// Whether the answer ended as the dialect's blocked answers do.
fn is_refused(way: (&str, bool), reply: &Reply) -> bool {
    let end = match way.0 {
        MESSAGES => r#""stop_reason":"refusal""#,
        RESPONSES => r#""reason":"content_filter""#,
        _ => r#""finish_reason":"content_filter""#,
    };
    reply.status == 200 && reply.text().contains(end)
}

fn outcome(outcome: &str) -> String {
    format!(r#"wardline_revision_outcomes_total{{outcome="{outcome}",policy="test"}}"#)
}

#[tokio::test]
async fn what_the_critic_objects_to_is_rewritten_before_anyone_reads_it() {
    for way in ways() {
        let (running, upstream, reply) = played(&policy_with(""), way, |request| match role(request) {
            Role::Assistant => calm(request, WORDS),
            Role::Critic => say(request, VIOLATED),
            Role::Reviser => say(request, REWRITE),
        })
        .await;
        assert_eq!(text(way, &reply), "You matter.", "{way:?}");
        let told = reply.text();
        assert!(told.contains(r#""action":"revise""#) && told.contains(r#""id":"kind""#), "{told}");
        assert_eq!(upstream.requests().len(), 3);
        running.wait_for(&outcome("accepted"), 1.0).await;
        running.wait_for(r#"wardline_pairs_sampled_total{sink="spool"}"#, 1.0).await;
        let row = &running.rows()[0];
        assert_eq!((&row["meta"]["source"], &row["meta"]["principle_id"]), (&json!("revision"), &json!("kind")));
        assert_eq!(row["rejected"][0]["content"], WORDS.concat());
        assert_eq!((&row["chosen"][0]["content"], &row["meta"]["tags"]), (&json!("You matter."), &json!([])));
    }
}

#[tokio::test]
async fn what_the_critic_has_nothing_against_comes_down_as_it_came() {
    for way in ways() {
        let (running, upstream, reply) = played(&policy_with(""), way, |request| match role(request) {
            Role::Assistant => calm(request, WORDS),
            _ => say(request, CLEAN),
        })
        .await;
        assert_eq!((text(way, &reply), upstream.requests().len()), (WORDS.concat(), 2));
        assert!(!reply.text().contains("guardrail"), "{}", reply.text());
        if way.1 {
            assert_eq!(reply.text(), answer_stream(way.0, WORDS));
            assert_eq!(reply.header("x-guardrail-stream"), "hold");
        }
        running.wait_for(&outcome("unchanged"), 1.0).await;
        assert!(running.rows().is_empty());
    }
}

#[tokio::test]
async fn an_objection_without_a_good_revision_is_a_refusal_and_an_unpaired_row() {
    for way in ways() {
        let (running, _upstream, reply) = played(&policy_with(""), way, |request| match role(request) {
            Role::Assistant => calm(request, WORDS),
            Role::Critic => say(request, VIOLATED),
            Role::Reviser => say(request, r#"{"revision": "You are worthless."}"#),
        })
        .await;
        assert!(is_refused(way, &reply), "{}", reply.text());
        assert!(!reply.text().contains("sea") && !reply.text().contains("worthless"), "{}", reply.text());
        assert!(reply.text().contains(r#""id":"kind""#), "{}", reply.text());
        running.wait_for(&outcome("still_violating"), 1.0).await;
        running.wait_for(r#"wardline_pairs_sampled_total{sink="spool"}"#, 1.0).await;
        let row = &running.rows()[0];
        assert_eq!((&row["label"], &row["meta"]["source"]), (&json!(false), &json!("block")));
        assert_eq!((&row["completion"][0]["content"], &row["meta"]["tags"]), (&json!(WORDS.concat()), &json!([])));
    }
}

#[tokio::test]
async fn where_nobody_can_say_the_policy_does() {
    for way in ways() {
        for (steps, reason) in [("prose", "failed"), ("slow", "out_of_budget")] {
            for (on_error, passes) in [("", false), (", on_error: open", true)] {
                let policy = policy_with(&format!(", timeout: 1s{on_error}"));
                let (running, _upstream, reply) = played(&policy, way, move |request| match role(request) {
                    Role::Assistant => calm(request, WORDS),
                    _ if steps == "slow" => vec![Step::Hold],
                    _ => say(request, "I find nothing wrong. verdict: safe"),
                })
                .await;
                if passes {
                    assert_eq!(text(way, &reply), WORDS.concat());
                } else {
                    assert!(!reply.text().contains("sea"), "{}", reply.text());
                    assert_eq!(reply.status, if way.1 { 200 } else { 503 });
                    let told = [r#""guardrail_unavailable""#, r#""api_error""#];
                    assert!(told.iter().any(|told| reply.text().contains(told)), "{}", reply.text());
                }
                let word = if passes { "open" } else { "closed" };
                let series = format!(
                    r#"wardline_guard_failures_total{{disposition="{word}",guard="revise",reason="{reason}"}}"#
                );
                running.wait_for(&series, 1.0).await;
                running.wait_for(&outcome(reason), 1.0).await;
            }
        }
    }
}

#[tokio::test]
async fn a_rule_has_the_first_word_and_the_critic_the_last() {
    let policy = policy_with(", rounds: 2").replacen(
        "rules:",
        "    - { id: brief, text: Be brief., critique: Where is it long?, revision: Shorten it. }\nrules:",
        1,
    );
    for way in ways() {
        let (running, upstream, reply) = played(&policy, way, |request| match role(request) {
            Role::Assistant => calm(request, &["You are", " worthless."]),
            Role::Critic if request.body.contains("Be brief.") => say(request, VIOLATED),
            Role::Critic => say(request, VIOLATED),
            Role::Reviser if request.body.contains("Be brief.") => say(request, r#"{"revision": "You do."}"#),
            Role::Reviser => say(request, REWRITE),
        })
        .await;
        assert_eq!(text(way, &reply), "You do.");
        assert_eq!(upstream.requests().len(), 5, "under the rule's principle and under the other");
        running.wait_for(&outcome("accepted"), 1.0).await;
    }
}

/// One answer is redacted and otherwise kept, the other rewritten.
#[tokio::test]
async fn each_choice_is_criticised_for_itself_and_redactions_stay() {
    let script = |request: &Recorded| match role(request) {
        Role::Assistant if request.json()["stream"] == true => {
            let stream = [
                chunk(0, &json!({"role": "assistant", "content": "Write to jane@example.com."}), &Value::Null),
                chunk(1, &json!({"role": "assistant", "content": "All is well."}), &Value::Null),
                chunk(0, &json!({}), &json!("stop")),
                chunk(1, &json!({}), &json!("stop")),
                "data: [DONE]\n\n".to_owned(),
            ];
            sse(&[stream.concat().as_bytes()], 0)
        }
        Role::Assistant => {
            let choice = |index: u32, text: &str| json!({"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"});
            let choices = [choice(0, "Write to jane@example.com."), choice(1, "All is well.")];
            answer(&json!({"id": "c", "object": "chat.completion", "model": "m", "choices": choices}).to_string())
        }
        Role::Critic if request.body.contains("All is well.") => say(request, VIOLATED),
        Role::Critic => say(request, CLEAN),
        Role::Reviser => say(request, REWRITE),
    };
    for stream in [false, true] {
        let (_running, _upstream, reply) = played(&policy_with(""), (CHAT, stream), script).await;
        let told = reply.text();
        assert!(told.contains("Write to [EMAIL_ADDRESS].") && told.contains("You matter."), "{told}");
        assert!(!told.contains("jane") && !told.contains("All is well."), "{told}");
    }
}

#[tokio::test]
async fn tool_calls_stay_and_answers_without_text_are_left_alone() {
    for (said, calls) in [(json!("All is well."), 3), (json!(null), 1)] {
        let (running, upstream, reply) = played(&policy_with(""), (CHAT, false), move |request| match role(request) {
            Role::Assistant => {
                let call = json!({"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Rome\"}"}});
                let message = json!({"role": "assistant", "content": said, "tool_calls": [call]});
                let choice = json!({"index": 0, "message": message, "finish_reason": "tool_calls"});
                answer(&json!({"id": "c", "object": "chat.completion", "model": "m", "choices": [choice]}).to_string())
            }
            Role::Critic => say(request, VIOLATED),
            Role::Reviser => say(request, REWRITE),
        })
        .await;
        assert!(reply.text().contains(r#"{\"city\":\"Rome\"}"#), "{}", reply.text());
        assert_eq!((reply.text().contains("You matter."), upstream.requests().len()), (calls == 3, calls));
        drop(running);
    }
}

#[tokio::test]
async fn a_stream_that_breaks_shows_nothing_that_was_not_criticised() {
    for (to, _) in ANSWERED {
        let (_running, upstream, reply) = played(&policy_with(""), (to, true), move |request| match role(request) {
            Role::Assistant => {
                let stream = answer_stream(to, WORDS);
                sse(&[stream[..stream.find(" well.").unwrap()].rsplit_once("\n\n").unwrap().0.as_bytes(), b"\n\n"], 0)
            }
            _ => say(request, CLEAN),
        })
        .await;
        assert!(!reply.text().contains("sea") && reply.text().contains("error"), "{}", reply.text());
        assert_eq!(upstream.requests().len(), 1);
    }
}
