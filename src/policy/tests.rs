//! Sound files: what they mean, when two of them mean the same, and how one takes the place of another.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use super::mistakes::{checked, known};
use super::{
    Action, Asking, Config, Guard, InputMode, Known, Makers, Mode, OnError, Policy, PolicyError, Proof, ReplayedBlock,
    Selector, Store,
};
use crate::api::Origin;
use crate::telemetry::{Metrics, ReloadOutcome};

const SHIPPED: &str = include_str!("../../policies/default.yaml");

/// Long enough for the slowest machine; a test that passes does not wait for it.
const AT_LAST: Duration = Duration::from_mins(1);

fn harm(action: &str) -> String {
    format!(
        "rules:\n  - id: harm\n    guard: {{ classifier: harm }}\n    stages: [output]\n    threshold: 0.5\n    action: {action}\n"
    )
}

#[test]
fn the_shipped_policy_says_what_it_should() {
    let policy = checked(SHIPPED).unwrap();
    let rules: Vec<(&str, Action)> = policy.rules.iter().map(|rule| (rule.id.as_str(), rule.action)).collect();
    assert_eq!(
        rules,
        [
            ("prompt-attack", Action::Block),
            ("harm-prompt", Action::Block),
            ("harm-answer", Action::Revise),
            ("pii", Action::Redact),
        ]
    );
    assert_eq!(policy.rules[0].origins, Some(vec![Origin::User, Origin::ToolResult, Origin::Document]));
    assert!(policy.rules.iter().all(|rule| rule.mode == Mode::Enforce && rule.on_error == OnError::Closed));
    assert_eq!(policy.constitution.principles[policy.rules[2].principle.unwrap()].id, "harmless");
    let words = policy.constitution.text.split_whitespace().count();
    assert!(words < 170, "{words} words are more than 250 tokens or near it");
}

#[test]
fn labels_left_out_are_the_calibrated_ones_of_the_head() {
    let text =
        "rules:\n- { id: a, guard: { classifier: prompt_attack }, stages: [input], threshold: fpr_1, action: audit }";
    let policy = checked(text).unwrap();
    let Guard::Classifier { labels } = &policy.rules[0].guard else { panic!("{policy:?}") };
    let bound: Vec<(usize, &str, f32)> =
        labels.iter().map(|label| (label.label, label.name.as_str(), label.threshold)).collect();
    assert_eq!(bound, [(1, "prompt_attack.injection", 0.81), (2, "prompt_attack.attack", 0.82)]);
}

#[test]
fn a_revise_rule_without_a_principle_takes_the_first() {
    let text = format!("constitution: {{ principles: [{{ id: p, text: Be kind. }}] }}\n{}", harm("revise"));
    let policy = checked(&text).unwrap();
    assert_eq!(policy.rules[0].principle, Some(0));
    assert!(policy.constitution.principles[0].critique.ends_with("Be kind."));
}

#[test]
fn a_session_goes_on_and_a_prompt_waits_unless_the_policy_says_otherwise() {
    let policy = checked("rules: []").unwrap();
    assert_eq!((policy.input, policy.respond.on_replayed_block), (InputMode::Gate, ReplayedBlock::Notice));
    let policy = checked("rules: []\ninput: race\nrespond: { on_replayed_block: drop }").unwrap();
    assert_eq!((policy.input, policy.respond.on_replayed_block), (InputMode::Race, ReplayedBlock::Drop));
    let problem = &checked("rules: []\ninput: raced").unwrap_err()[0];
    assert!(problem.message.contains("gate") && problem.line == 2, "{problem}");
}

#[test]
fn a_short_window_shortens_what_goes_with_it() {
    let policy = checked("rules: []\nstream: { window_chars: 64 }").unwrap();
    let stream = policy.stream;
    assert_eq!((stream.first_window_chars, stream.overlap_chars, stream.max_window_chars), (64, 64, 192));
}

#[test]
fn the_revision_is_of_the_effect_not_of_the_layout() {
    let written = checked(&harm("block")).unwrap();
    let rewritten = "# a comment\nrules: [{ action: block, threshold: 0.50, stages: [output], id: harm, on_error: closed, \
                     guard: { labels: [hate, violence], classifier: harm }, timeout: 2000ms }]\npairs: { rate: 1 }\n";
    assert_eq!(checked(rewritten).unwrap(), written);
    assert_eq!(checked(&format!("\u{feff}{}", harm("block").replace('\n', "\r\n"))).unwrap(), written);
    assert_eq!(written.revision.len(), 12);
    assert_ne!(checked(&harm("audit")).unwrap().revision, written.revision);
}

#[test]
fn a_newly_calibrated_model_is_a_new_revision() {
    let text = harm("block").replace("0.5", "fpr_0.5");
    let at = |threshold| {
        let mut known = known();
        for label in &mut known.labels {
            label.thresholds.entry("fpr_0.5".into()).and_modify(|calibrated| *calibrated = threshold);
        }
        super::compile::compile(Path::new("default.yaml"), &text, &known).unwrap().policy.revision
    };
    assert_eq!(at(0.7), at(0.7));
    assert_ne!(at(0.7), at(0.8));
}

proptest! {
    #[test]
    fn folding_does_not_change_the_constitution(words in prop::collection::vec("[a-z]{1,9}", 1..40), width in 1..9_usize) {
        let folded = |width: usize| {
            let lines: Vec<String> = words.chunks(width).map(|line| line.join(" ")).collect();
            format!("constitution:\n  principles:\n  - id: p\n    text: >\n      {}\nrules: []\n", lines.join("\n      "))
        };
        let one = checked(&folded(width)).unwrap();
        let other = checked(&folded(words.len())).unwrap();
        prop_assert_eq!(&one.constitution.text, &format!("1. {}", words.join(" ")));
        prop_assert_eq!(one, other);
    }

    #[test]
    fn whatever_is_written_the_place_told_is_in_the_file(text in "[\\PC\n\t]{0,200}") {
        for text in [text.clone(), format!("rules: []\n{text}"), SHIPPED.replacen("harm", &text, 1)] {
            for problem in checked(&text).err().into_iter().flatten() {
                prop_assert!((1..=text.split('\n').count() as u64 + 1).contains(&problem.line), "{}", problem);
                prop_assert!(problem.column >= 1 && !problem.message.is_empty(), "{}", problem);
            }
        }
    }
}

/// A store over `dir` whose armed value is the first rule's action; the receiver hears of each arming.
fn open(dir: &Path) -> (Arc<Store<Action>>, Arc<Metrics>, Receiver<String>) {
    let (armed, heard) = mpsc::channel();
    let arm = move |policy: &Policy| {
        armed.send(policy.revision.clone()).unwrap();
        policy.rules.first().map(|rule| rule.action).ok_or_else(|| "nothing to guard with".to_owned())
    };
    let metrics = Arc::new(Metrics::new().unwrap());
    let config = Config { dir: dir.to_owned(), ..Config::default() };
    let store = Store::open(&config, known(), Arc::clone(&metrics), Makers::new(arm)).unwrap();
    assert_eq!(heard.recv().unwrap(), store.snapshot().policy.revision);
    (Arc::new(store), metrics, heard)
}

fn exposed(metrics: &Metrics, line: &str) -> bool {
    let text = String::from_utf8(metrics.render().unwrap()).unwrap();
    text.lines().any(|exposed| exposed == line)
}

#[test]
fn a_good_file_replaces_and_a_bad_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("default.yaml");
    fs::write(&file, harm("block")).unwrap();
    let (store, metrics, _heard) = open(dir.path());
    let begun = store.snapshot();

    assert_eq!(store.reload(), ReloadOutcome::Unchanged);
    assert!(Arc::ptr_eq(&begun, &store.snapshot()));

    fs::write(&file, harm("audit")).unwrap();
    assert_eq!(store.reload(), ReloadOutcome::Applied);
    let good = store.snapshot();
    assert_eq!((good.armed, begun.armed), (Action::Audit, Action::Block));
    assert_ne!(good.policy.revision, begun.policy.revision);

    fs::write(&file, harm("adit")).unwrap();
    assert_eq!(store.reload(), ReloadOutcome::Refused);
    assert!(Arc::ptr_eq(&good, &store.snapshot()));
    let last = store.last_reload();
    assert_eq!(last.outcome, ReloadOutcome::Refused);
    assert!(last.problems[0].contains("default.yaml:6:13: rules[0].action: unknown value `adit`"), "{last:?}");
    assert!(exposed(&metrics, "wardline_config_reloads_total{result=\"refused\"} 1"));
    let in_force = format!("wardline_policy_info{{policy=\"default\",revision=\"{}\"}} 1", good.policy.revision);
    assert!(exposed(&metrics, &in_force), "{in_force}");

    fs::write(&file, harm("audit")).unwrap();
    assert_eq!(store.reload(), ReloadOutcome::Unchanged);
    assert!(store.last_reload().problems.is_empty());
}

#[test]
fn a_mistake_in_any_file_refuses_the_reload() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("default.yaml"), harm("block")).unwrap();
    let (store, _metrics, _heard) = open(dir.path());

    fs::write(dir.path().join("other.yml"), harm("blok")).unwrap();
    fs::write(dir.path().join("default.yaml"), harm("audit")).unwrap();
    assert_eq!(store.reload(), ReloadOutcome::Refused);
    assert!(store.last_reload().problems[0].contains("other.yml:6:13"), "{:?}", store.last_reload());
    assert_eq!(store.snapshot().armed, Action::Block);

    fs::write(dir.path().join("other.yml"), harm("block")).unwrap();
    assert_eq!(store.reload(), ReloadOutcome::Applied);
    fs::write(dir.path().join("other.yaml"), harm("block")).unwrap();
    assert_eq!(store.reload(), ReloadOutcome::Refused);
    assert!(store.last_reload().problems[0].contains("same name"), "{:?}", store.last_reload());
}

#[test]
fn what_cannot_be_armed_or_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("default.yaml");
    fs::write(&file, harm("block")).unwrap();
    let (store, _metrics, _heard) = open(dir.path());
    for (bytes, told) in [
        (&b"rules: []\n"[..], "policy `default` cannot be armed: nothing to guard with"),
        (&b"rules: []\nname: \xff\n"[..], "default.yaml: invalid utf-8"),
        (&vec![b'#'; 1 << 21][..], "default.yaml: over 1048576 bytes"),
    ] {
        fs::write(&file, bytes).unwrap();
        assert_eq!(store.reload(), ReloadOutcome::Refused);
        assert!(store.last_reload().problems[0].contains(told), "{:?}", store.last_reload());
    }
    fs::remove_dir_all(dir.path()).unwrap();
    assert_eq!(store.reload(), ReloadOutcome::Refused);
    assert_eq!(store.snapshot().armed, Action::Block);
}

const TESTED: &str = "
tests:
  - { name: first, text: Hello., expect: { action: allow } }
  - { name: second, answer: You., expect: { action: block, rules: [harm] } }
";

/// A store whose tests fail while the policy's action is `audit`, and cannot be run while it is `block` in shadow.
fn open_proving(dir: &Path) -> Result<(Store<()>, Arc<Metrics>), PolicyError> {
    let metrics = Arc::new(Metrics::new().unwrap());
    let config = Config { dir: dir.to_owned(), ..Config::default() };
    let makers = Makers::new(|_: &Policy| Ok(())).proving(|snapshot, tests| {
        let rule = &snapshot.policy.rules[0];
        if rule.mode == Mode::Shadow {
            return Err("no time left".to_owned());
        }
        let failure =
            |at: usize| (at == 1 && rule.on_error == OnError::Open).then(|| "expected block; got allow".to_owned());
        Ok((0..tests.len()).map(|at| Proof { failure: failure(at), took: Duration::ZERO }).collect())
    });
    Store::open(&config, known(), Arc::clone(&metrics), makers).map(|store| (store, metrics))
}

#[test]
fn a_file_whose_tests_fail_is_refused_with_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("default.yaml");
    let sound = harm("block") + TESTED;
    fs::write(&file, &sound).unwrap();
    let (store, metrics) = open_proving(dir.path()).unwrap();
    let good = store.snapshot();
    assert_eq!(good.tests.len(), 2);
    assert!(exposed(&metrics, "wardline_policy_tests_total{policy=\"default\",result=\"passed\"} 2"));
    assert_eq!(store.reload(), ReloadOutcome::Unchanged);

    fs::write(&file, sound.replace("tests:", "    on_error: open\ntests:")).unwrap();
    assert_eq!(store.reload(), ReloadOutcome::Refused);
    let problems = store.last_reload().problems;
    let told = "default.yaml:11:5: tests[1]: test `second` failed: expected block; got allow";
    assert!(problems.len() == 1 && problems[0].ends_with(told), "{problems:?}");
    assert!(exposed(&metrics, "wardline_policy_tests_total{policy=\"default\",result=\"failed\"} 1"));
    assert!(exposed(&metrics, "wardline_config_reloads_total{result=\"refused\"} 1"));

    fs::write(&file, sound.replace("tests:", "    mode: shadow\ntests:")).unwrap();
    assert_eq!(store.reload(), ReloadOutcome::Refused);
    let problems = store.last_reload().problems;
    assert!(problems[0].ends_with("policy `default` cannot be tested: no time left"), "{problems:?}");
    assert!(Arc::ptr_eq(&good, &store.snapshot()));
}

#[test]
fn a_policy_that_fails_its_tests_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("default.yaml"), harm("block") + "    on_error: open" + TESTED).unwrap();
    let report = open_proving(dir.path()).map(|_| ()).unwrap_err().report();
    assert!(report.contains("test `second` failed") && report.contains("10 |   - { name: second"), "{report}");
}

#[test]
fn tests_alone_are_a_change_but_no_new_revision() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("default.yaml");
    fs::write(&file, harm("block") + TESTED).unwrap();
    let (store, _metrics) = open_proving(dir.path()).unwrap();
    let before = store.snapshot().policy.revision.clone();
    fs::write(&file, harm("block") + "# moved\n" + TESTED).unwrap();
    assert_eq!(store.reload(), ReloadOutcome::Unchanged);
    fs::write(&file, harm("block") + &TESTED.replace("Hello.", "Goodbye.")).unwrap();
    assert_eq!(store.reload(), ReloadOutcome::Applied);
    assert_eq!(store.snapshot().policy.revision, before);
}

#[test]
fn prose_beside_the_policy_is_part_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let prose = dir.path().join("prose.md");
    fs::write(&prose, "# Who we are\n\nA library.  \n").unwrap();
    let text = format!("constitution: {{ file: prose.md, preamble: Be kind. }}\n{}", harm("block"));
    fs::write(dir.path().join("default.yaml"), text).unwrap();
    let (store, _metrics, _heard) = open(dir.path());
    assert_eq!(store.snapshot().policy.constitution.text, "# Who we are\n\nA library.\n\nBe kind.");

    fs::write(&prose, "A bookshop.").unwrap();
    assert_eq!(store.reload(), ReloadOutcome::Applied);
    assert_eq!(store.snapshot().policy.constitution.text, "A bookshop.\n\nBe kind.");
    fs::write(&prose, "word ".repeat(4_000)).unwrap();
    assert_eq!(store.reload(), ReloadOutcome::Refused);
    let told = "default.yaml:1:15: constitution: the constitution has about 5003 tokens, over its limit of 4000";
    assert!(store.last_reload().problems[0].contains(told), "{:?}", store.last_reload());
    fs::write(&prose, b"\xff").unwrap();
    assert_eq!(store.reload(), ReloadOutcome::Refused);
    assert!(store.last_reload().problems[0].contains("constitution.file: "), "{:?}", store.last_reload());
}

#[test]
fn lines_of_the_configuration_choose_a_policy() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("default.yaml"), harm("block")).unwrap();
    fs::write(at("lax.yaml"), harm("audit")).unwrap();
    fs::write(at("unused.yaml"), harm("audit") + TESTED).unwrap();
    let line = |policy: &str, model: &str| Selector {
        policy: policy.to_owned(),
        models: vec![model.to_owned()],
        ..Selector::default()
    };
    let select = vec![line("lax", "small-*"), line("default", "large"), line("lax", "tiny")];
    let config = Config { dir: dir.path().to_owned(), select, ..Config::default() };
    let metrics = Arc::new(Metrics::new().unwrap());
    let arm = |policy: &Policy| Ok(policy.rules[0].action);
    let store = Store::open(&config, known(), Arc::clone(&metrics), Makers::new(arm)).unwrap();
    let of = |model| store.select(&Asking { route: "chat", model, ..Asking::default() });
    assert_eq!(
        (of("small-1").armed, of("large").armed, of("other").armed),
        (Action::Audit, Action::Block, Action::Block)
    );
    let asking = Asking { route: "chat", model: "tiny", ..Asking::default() };
    assert_eq!(store.chosen(&asking), ("lax", Some(2)));
    let names: Vec<String> = store.in_force().iter().map(|snapshot| snapshot.policy.name.clone()).collect();
    assert_eq!(names, ["default", "lax"]);
    for snapshot in store.in_force() {
        let Policy { name, revision, .. } = &snapshot.policy;
        let line = format!("wardline_policy_info{{policy=\"{name}\",revision=\"{revision}\"}} 1");
        assert!(exposed(&metrics, &line), "{line}");
    }

    let kept = store.snapshot();
    fs::write(at("lax.yaml"), harm("block")).unwrap();
    assert_eq!(store.reload(), ReloadOutcome::Applied);
    assert_eq!(of("small-1").armed, Action::Block);
    assert!(Arc::ptr_eq(&kept, &store.snapshot()), "what has not changed is not made anew");
    fs::remove_file(at("lax.yaml")).unwrap();
    assert_eq!(store.reload(), ReloadOutcome::Refused);
    assert!(
        store.last_reload().problems[0].contains("no policy `lax` (expected lax.yaml)"),
        "{:?}",
        store.last_reload()
    );
}

#[test]
fn the_active_policy_has_to_be_there() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("default.yaml"), harm("block")).unwrap();
    fs::write(dir.path().join("default.yaml~"), "an editor's backup").unwrap();
    fs::write(dir.path().join(".default.yaml"), "an editor's lock").unwrap();
    let config = Config { dir: dir.path().to_owned(), active: "defualt".into(), ..Config::default() };
    let metrics = Arc::new(Metrics::new().unwrap());
    let error = Store::open(&config, known(), metrics, Makers::new(|_| Ok(()))).map(|_| ()).unwrap_err();
    assert!(matches!(error, PolicyError::NoSuchPolicy { .. }));
    let told = "no policy `defualt` (expected defualt.yaml); expected `default`; did you mean `default`?";
    assert!(error.to_string().ends_with(told), "{error}");
}

#[test]
fn a_model_without_the_label_is_an_error_before_anything_is_served() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("default.yaml"), harm("block")).unwrap();
    let config = Config { dir: dir.path().to_owned(), ..Config::default() };
    let metrics = Arc::new(Metrics::new().unwrap());
    let error = Store::open(&config, Known::default(), metrics, Makers::new(|_| Ok(()))).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("unknown classifier head `harm`, there is no classifier head"), "{error}");
}

#[test]
fn readers_see_one_whole_policy_while_it_is_swapped() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("default.yaml");
    fs::write(&file, harm("block")).unwrap();
    let (store, _metrics, heard) = open(dir.path());
    let start = Barrier::new(3);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                start.wait();
                for _ in 0..20_000 {
                    let snapshot = store.snapshot();
                    assert_eq!(snapshot.armed, snapshot.policy.rules[0].action);
                }
            });
        }
        start.wait();
        for turn in 0..100 {
            let action = if turn % 5 == 4 { "blok" } else { ["block", "audit"][turn % 2] };
            fs::write(&file, harm(action)).unwrap();
            assert_eq!(store.reload() == ReloadOutcome::Refused, action == "blok");
        }
    });
    assert!(heard.try_iter().count() > 40);
}

#[test]
fn the_watch_notices_a_renamed_edit_and_outlives_a_bad_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("default.yaml");
    let edit = |text: String| {
        let aside = dir.path().join(".default.yaml.swp");
        fs::write(&aside, text).unwrap();
        fs::rename(aside, &file).unwrap();
    };
    edit(harm("block"));
    let (store, _metrics, heard) = open(dir.path());
    let watch = store.watch().unwrap();

    edit(harm("audit"));
    let revision = heard.recv_timeout(AT_LAST).unwrap();
    assert_eq!(revision, checked(&harm("audit")).unwrap().revision);

    edit(harm("aduit"));
    let told = (0..AT_LAST.as_millis() / 20).find_map(|_| {
        thread::sleep(Duration::from_millis(20));
        store.last_reload().problems.pop()
    });
    assert!(told.unwrap().contains("unknown value `aduit`"));
    edit(harm("block"));
    assert_ne!(heard.recv_timeout(AT_LAST).unwrap(), revision);
    watch.stop();
    assert_eq!(store.snapshot().armed, Action::Block);
    assert_eq!(Arc::strong_count(&store), 1);
}

/// As kubelet does it: files link through `..data`, which is renamed over in one step.
#[test]
fn the_watch_follows_the_link_swap_of_a_config_map() {
    let dir = tempfile::tempdir().unwrap();
    let publish = |version: &str, text: String| {
        let data = dir.path().join(version);
        fs::create_dir(&data).unwrap();
        fs::write(data.join("default.yaml"), text).unwrap();
        symlink(version, dir.path().join("..data_tmp")).unwrap();
        fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
    };
    publish("..2024_01_01", harm("block"));
    symlink("..data/default.yaml", dir.path().join("default.yaml")).unwrap();
    let (store, _metrics, heard) = open(dir.path());
    let watch = store.watch().unwrap();

    publish("..2024_01_02", harm("audit"));
    fs::remove_dir_all(dir.path().join("..2024_01_01")).unwrap();
    assert_eq!(heard.recv_timeout(AT_LAST).unwrap(), checked(&harm("audit")).unwrap().revision);
    watch.stop();
    assert_eq!(store.snapshot().armed, Action::Audit);
}
