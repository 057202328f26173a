//! `wardline judge`: the binary, a scripted judge, and comparisons by people.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::{Recorded, Step, Upstream, json as answer, status};

const POLICY: &str = "constitution:
  principles: [{ id: kind, text: Be kind. }, { id: true-words, text: Say what is true. }]
rules: []
judge:
  model: judge-1
  rubric: A lie weighs more than a harsh word.
  examples: [{ prompt: Hi, first: Go away., second: Hello., reasoning: The second is kind., score: 9 }]
";

struct Judged {
    code: i32,
    out: String,
    err: String,
    asked: Vec<Recorded>,
    lines: Vec<Value>,
}

fn row(prompt: &str, first: &str, second: &str, label: &str) -> Value {
    let (a, b) = match label {
        "a" => (9, 1),
        "b" => (2, 8),
        _ => (7, 7),
    };
    json!({"prompt": prompt, "response_a": first, "response_b": second, "label": label, "score_a": a, "score_b": b, "scale": "1-10", "source": "people"})
}

/// What the judge was given to compare.
fn material(request: &Recorded) -> Value {
    let body = request.json();
    serde_json::from_str(body["messages"][1]["content"].as_str().unwrap()).unwrap()
}

fn say(text: &str) -> Vec<Step> {
    let message = json!({"role": "assistant", "content": text});
    answer(&json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}).to_string())
}

fn score(score: u8) -> Vec<Step> {
    say(&json!({"reasoning": "So it is.", "score": score}).to_string())
}

async fn judged(
    rows: &[Value],
    more: &'static [&'static str],
    script: impl Fn(&Recorded) -> Vec<Step> + Send + Sync + 'static,
) -> Judged {
    let upstream = Upstream::start(script).await;
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let config = format!(
        "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nupstreams:\n  other: {{ dialect: openai, url: 'http://{}', api_key_env: JUDGE_TEST_KEY }}\npolicies: {{ dir: policies, active: test }}\n",
        upstream.address
    );
    std::fs::create_dir(at("policies")).unwrap();
    std::fs::write(at("policies/test.yaml"), POLICY).unwrap();
    std::fs::write(at("wardline.yaml"), config).unwrap();
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    std::fs::write(at("people.jsonl"), lines.join("\n") + "\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_wardline"));
    command.arg("judge").args(["--jobs", "1"]).args(more);
    command.arg("--data").arg(at("people.jsonl")).arg("--config").arg(at("wardline.yaml"));
    command.arg("--out").arg(at("verdicts.jsonl")).env("JUDGE_TEST_KEY", "k").env("ORT_DISABLE_TELEMETRY", "1");
    let Output { status, stdout, stderr } =
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let lines = std::fs::read_to_string(at("verdicts.jsonl")).unwrap_or_default();
    Judged {
        code: status.code().unwrap(),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
        asked: upstream.requests(),
        lines: lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fair_judge_is_asked_in_both_orders_and_agrees() {
    let rows = [row("Hi", "kind", "rude", "a"), row("Hi", "rude", "kind", "b"), row("Hi", "kind", "kind", "tie")];
    let judged = judged(&rows, &[], |request| {
        let material = material(request);
        match (material["first"].as_str().unwrap(), material["second"].as_str().unwrap()) {
            ("kind", "rude") => score(1),
            ("rude", "kind") => score(9),
            _ => score(5),
        }
    })
    .await;
    assert_eq!(judged.code, 0, "{}", judged.err);
    assert_eq!(judged.asked.len(), 6);
    let asked: Vec<Value> = judged.asked.iter().map(material).collect();
    assert_eq!((&asked[0]["first"], &asked[1]["first"]), (&json!("kind"), &json!("rude")), "both orders");
    assert_eq!(asked[0]["principles"], json!(["Be kind.", "Say what is true."]));
    assert_eq!(asked[0]["rubric"], "A lie weighs more than a harsh word.");
    assert_eq!(asked[0]["examples"][0]["score"], 9);
    assert_eq!(judged.asked[0].json()["model"], "judge-1");
    let scores: Vec<f64> = judged.lines.iter().map(|line| line["score"].as_f64().unwrap()).collect();
    assert_eq!(scores.iter().map(|score| score.round()).collect::<Vec<_>>(), [1.0, 9.0, 5.0]);
    for words in [
        "3 comparisons judged in both orders, 0 failed",
        "over everything           100.0 % of 3",
        "orders that prefer different answers: 0 (0.0 %)",
        "mean lean: +0.00 points",
    ] {
        assert!(judged.out.contains(words), "{words}\n{}", judged.out);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_liking_for_the_first_place_is_found_out() {
    let rows =
        [row("Hi", "x", "y", "a"), row("Hi", "y", "x", "b"), row("Hi", "x", "y", "tie"), row("Hi", "y", "x", "tie")];
    let judged = judged(&rows, &[], |_| score(2)).await;
    assert_eq!(judged.code, 0, "{}", judged.err);
    assert!(judged.lines.iter().all(|line| line["contradicts_itself"] == true && line["score"] == 5.0));
    for words in [
        "orders that prefer different answers: 4 (100.0 %)",
        "mean lean: -3.00 points",
        "on 2 pairs that people find equal: lean -3.00; first place 4, second place 0, equal 0 of 4 questions",
    ] {
        assert!(judged.out.contains(words), "{words}\n{}", judged.out);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_judgement_is_asked_for_once_more_and_then_an_error() {
    let rows = [row("mends", "x", "y", "a"), row("never", "x", "y", "b"), row("fine", "x", "y", "tie")];
    let tries = std::sync::atomic::AtomicUsize::new(0);
    let judged = judged(&rows, &[], move |request| match material(request)["prompt"].as_str().unwrap() {
        "mends" if tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 => say("The first, clearly: 1"),
        "never" => say(r#"{"score": 9, "reasoning": "Score first."}"#),
        _ => score(5),
    })
    .await;
    assert_eq!(judged.code, 0, "{}", judged.err);
    assert_eq!(judged.asked.len(), 3 + 2 + 2);
    assert!(
        judged.out.contains("2 comparisons judged in both orders, 1 failed, 1 answers asked for again"),
        "{}",
        judged.out
    );
    assert!(judged.lines[1]["error"].as_str().unwrap().contains("the judge did not answer"), "{:?}", judged.lines[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_judged_is_a_failure_and_bad_data_starts_nothing() {
    let judged_none = judged(&[row("Hi", "x", "y", "a")], &[], |_| status(500, "", "{}")).await;
    assert_eq!(judged_none.code, 1);
    assert!(judged_none.err.contains("none of 1 comparisons could be judged"), "{}", judged_none.err);
    let bad = judged(&[row("Hi", "x", "y", "a"), json!({"prompt": "Hi"})], &[], |_| score(5)).await;
    assert_eq!((bad.code, bad.asked.len()), (64, 0));
    assert!(bad.err.contains("people.jsonl:2: no row: a column is missing"), "{}", bad.err);
    let unknown = judged(&[row("Hi", "x", "y", "a")], &["--upstream", "nobody"], |_| score(5)).await;
    assert_eq!((unknown.code, unknown.asked.len()), (64, 0));
    assert!(unknown.err.contains("unknown upstream `nobody`: expected one of other"), "{}", unknown.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_takes_rows_from_the_whole_file() {
    let rows: Vec<Value> = (0..10).map(|i| row(&format!("p{i}"), "x", "y", "a")).collect();
    let judged = judged(&rows, &["--limit", "2"], |_| score(1)).await;
    let prompts: Vec<Value> =
        judged.asked.iter().step_by(2).map(|request| material(request)["prompt"].clone()).collect();
    assert_eq!((judged.code, prompts), (0, vec![json!("p4"), json!("p9")]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_report_is_drawn_on_a_page_of_its_own() {
    let mut rows =
        vec![row("Hi", "kind", "rude", "a"), row("Hi", "rude", "kind", "b"), row("Hi", "kind", "kind", "tie")];
    rows[0]["source"] = json!("<b>crowd</b>");
    let place = tempfile::tempdir().unwrap();
    let page = place.path().join("judge.html");
    let more: &'static [&'static str] = Box::leak(Box::new(["--html", page.to_str().unwrap().to_owned().leak()]));
    let judged = judged(&rows, more, |request| {
        let material = material(request);
        match (material["first"].as_str().unwrap(), material["second"].as_str().unwrap()) {
            ("kind", "rude") => score(1),
            ("rude", "kind") => score(9),
            _ => score(3),
        }
    })
    .await;
    assert_eq!(judged.code, 0, "{}", judged.err);
    let page = std::fs::read_to_string(page).unwrap();
    assert_eq!(page.matches("<svg ").count(), 3, "scores, agreement, position bias");
    for words in [
        "<title>judge, 1: 1</title>",
        "<title>people, 7: 1</title>",
        "<title>judge: the first, people: the first: 1</title>",
        "<title>pairs that people find equal, -2: 1</title>",
        "<tr><td>over everything<td class=n>3<td class=n>3<td class=n>100.0</tr>",
        "<tr><td>on these: questions won by the first place<td class=n>2</tr>",
        "rows of &lt;b&gt;crowd&lt;/b&gt;",
        "judged by judge-1 under 2 principles of policy test",
    ] {
        assert!(page.contains(words), "{words}\n{page}");
    }
    assert!(!page.contains("<script") && !page.contains("http://") && !page.contains("https://"), "{page}");
    let unwritable = self::judged(&rows, &["--html", "/no/such/place/judge.html"], |_| score(5)).await;
    assert_eq!((unwritable.code, unwritable.asked.len()), (64, 0), "{}", unwritable.err);
}
