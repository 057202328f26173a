//! Policies that build on others: what they come to, and what is said of mistakes.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::directory::Sight;
use super::mistakes::known;
use super::{Action, PolicyError, PolicyFile};

const BASE: &str = "\
name: base
description: What all of us hold.
constitution:
  preamble: Be good.
  principles:
    - { id: harmless, text: Do no harm. }
    - { id: polite, text: Be polite., authority: user }
  topics: { allowed: [tea], off_topic: I only know tea. }
  cases:
    - { prompt: Which cup?, answer: Any. }
inject: { role: system }
rules:
  - id: attack
    guard: { classifier: prompt_attack, labels: [attack] }
    stages: [input]
    threshold: fpr_0.5
    action: block
    when: |
      stage == \"input\" &&
      length > 3
  - { id: mail, guard: { entities: [EMAIL_ADDRESS] }, stages: [input], action: redact }
respond: { message: No., disclose: full }
revise:
  rounds: 2
  model: m
tests:
  - { name: mail is replaced, text: a@example.com, expect: { action: redact, rules: [mail] } }
rollout: { of: other, mode: shadow }
";

const CHILD: &str = "\
# For one team.
extends: shared/base.yaml
remove: { tests: [mail is replaced], settings: [constitution.topics, revise.model] }
constitution:
  principles:
    - { id: honest, text: Do not lie. }
    - { id: harmless, text: Do nobody any harm. }
  style: Dry.
rules:
  - { id: mail, guard: { entities: [EMAIL_ADDRESS] }, stages: [input], action: block }
  - { id: card, guard: { entities: [CREDIT_CARD] }, stages: [input], action: audit }
respond: { message: Not here. }
tests:
  - { name: mail is stopped, text: a@example.com, expect: { action: block, rules: [mail] } }
";

struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("shared")).unwrap();
        let files_of = Self(dir);
        for (name, text) in files {
            files_of.write(name, text);
        }
        files_of
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).unwrap();
    }

    fn read(&self, name: &str) -> Result<PolicyFile, String> {
        let told = |error: PolicyError| error.report().replace(&format!("{}/", self.0.path().display()), "");
        PolicyFile::read(&self.at(name), &known()).map_err(told)
    }
}

#[test]
fn what_a_file_says_is_put_over_its_base() {
    let files = Files::new(&[("shared/base.yaml", BASE), ("child.yaml", CHILD)]);
    let file = files.read("child.yaml").unwrap();
    let policy = &file.policy;
    assert_eq!((policy.name.as_str(), policy.description.as_str()), ("child", "What all of us hold."));
    let principles: Vec<(&str, &str)> =
        policy.constitution.principles.iter().map(|of| (of.id.as_str(), of.text.as_str())).collect();
    // A new one comes behind those of its authority.
    let expected = [("harmless", "Do nobody any harm."), ("honest", "Do not lie."), ("polite", "Be polite.")];
    assert_eq!(principles, expected);
    let constitution = &policy.constitution.text;
    assert!(constitution.contains("Be good.") && constitution.contains("Dry.") && constitution.contains("Which cup?"));
    assert!(!constitution.contains("tea"), "{constitution}");
    let rules: Vec<(&str, Action)> = policy.rules.iter().map(|rule| (rule.id.as_str(), rule.action)).collect();
    assert_eq!(rules, [("attack", Action::Block), ("mail", Action::Block), ("card", Action::Audit)]);
    assert_eq!((policy.respond.message.as_str(), policy.respond.disclose), ("Not here.", super::Disclose::Full));
    assert_eq!((policy.revise.rounds, &policy.revise.model, policy.inject), (2, &None, super::Role::System));
    let tests: Vec<&str> = file.tests.iter().map(|test| test.name.as_str()).collect();
    assert_eq!((tests, file.rollout.is_none()), (vec!["mail is stopped"], true));
    assert_eq!(file.bases().collect::<Vec<_>>(), [files.at("shared/base.yaml")]);
}

#[test]
fn written_at_length_it_is_the_same_policy() {
    let files = Files::new(&[("shared/base.yaml", BASE), ("child.yaml", CHILD)]);
    let file = files.read("child.yaml").unwrap();
    let resolved = file.resolved();
    files.write("child.yaml", &resolved);
    let alone = files.read("child.yaml").unwrap();
    assert_eq!((&alone.policy, &alone.tests), (&file.policy, &file.tests), "{resolved}");
    assert_eq!(alone.policy.revision, file.policy.revision);
    let place = |written: &str| {
        let line = resolved.lines().find(|line| line.trim_start().starts_with(written)).unwrap();
        line.rsplit_once("# ").unwrap().1.replace(&format!("{}/", files.0.path().display()), "")
    };

    assert_eq!(place("preamble: Be good."), "shared/base.yaml:4");
    assert_eq!(place("- { id: harmless"), "child.yaml:7");
    assert_eq!(place("- { id: polite"), "shared/base.yaml:7");
    assert_eq!(place("- id: attack"), "shared/base.yaml:13");
    assert_eq!(place("rules:"), "child.yaml:9");
    assert_eq!(place("message: Not here."), "child.yaml:12");
    assert_eq!(place("disclose: full"), "shared/base.yaml:22");
    // And of one that builds on nothing, each line is its own.
    assert!(alone.resolved().lines().any(|line| line.ends_with("child.yaml:1")));
}

#[test]
fn a_change_of_the_base_is_another_revision() {
    let files =
        Files::new(&[("shared/base.yaml", BASE), ("child.yaml", CHILD), ("next.yaml", "extends: child.yaml\n")]);
    let before = files.read("next.yaml").unwrap().policy.revision;
    assert_eq!(files.read("next.yaml").unwrap().bases().count(), 2);
    files.write("shared/base.yaml", &format!("# A comment.\n{BASE}"));
    assert_eq!(files.read("next.yaml").unwrap().policy.revision, before);
    files.write("shared/base.yaml", &BASE.replace("Be good.", "Be kind."));
    assert_ne!(files.read("next.yaml").unwrap().policy.revision, before);
}

#[test]
fn prose_lies_beside_the_file_that_names_it() {
    let base = "constitution: { file: prose.md }\nrules: []\n";
    let files = Files::new(&[
        ("shared/base.yaml", base),
        ("shared/prose.md", "Ours."),
        ("a.yaml", "extends: shared/base.yaml\n"),
    ]);
    assert_eq!(files.read("a.yaml").unwrap().policy.constitution.text, "Ours.");
    let seen = Sight::of(files.0.path(), &[]);
    assert_eq!(seen.dirs, [files.0.path().to_owned(), files.at("shared")]);
    files.write("shared/prose.md", "Yours now.");
    assert!(!seen.holds(&[]), "a watch sees it");
    // What is broken further down still leads to its base.
    files.write("a.yaml", "extends: shared/base.yaml\nrules: [\n");
    assert_eq!(Sight::of(files.0.path(), &[]).dirs.len(), 2);
}

/// Each: the file, what is replaced in it, by what, and what the report then has.
type Case<'a> = (&'a str, &'a str, &'a str, &'a str);

fn each_is_told(cases: &[Case<'_>]) {
    for (file, from, to, told) in cases {
        let files = Files::new(&[("shared/base.yaml", BASE), ("child.yaml", CHILD)]);
        let text = if *file == "child.yaml" { CHILD } else { BASE };
        assert!(text.contains(from), "{from}");
        files.write(file, &text.replacen(from, to, 1));
        let report = files.read("child.yaml").map(|_| ()).unwrap_err();
        assert!(report.contains(told), "{from} -> {to}\n  expected {told}\n  told     {report}");
        let inherited = report.lines().next().unwrap().ends_with("(inherited by child.yaml)");
        assert_eq!(inherited, told.contains("shared/base.yaml:"), "{report}");
    }
}

#[test]
fn mistakes_of_a_file_that_builds_on_another() {
    each_is_told(&[
        (
            "child.yaml",
            "extends: shared/base.yaml",
            "extends: shared/bse.yaml",
            "error: child.yaml:2:10: extends: shared/bse.yaml: No such file or directory (os error 2), expected \
             `base.yaml`; did you mean `base.yaml`?\n  |\n2 | extends: shared/bse.yaml\n  |          ^^^^^^^^^^^^^^^\n",
        ),
        (
            "child.yaml",
            "shared/base.yaml",
            "/etc/base.yaml",
            "child.yaml:2:10: extends: expected the path of a `*.yaml` file, relative to this one, found `/etc/base.yaml`",
        ),
        ("child.yaml", "shared/base.yaml", "shared/base.md", "2:10: extends: expected the path of a `*.yaml` file"),
        ("child.yaml", "shared/base.yaml", "child.yaml", "2:10: extends: a circle: child.yaml extends child.yaml"),
        (
            "child.yaml",
            "[mail is replaced]",
            "[mail is replced]",
            "child.yaml:3:19: remove.tests[0]: the base has no test `mail is replced`, expected `mail is replaced`; did \
             you mean `mail is replaced`?",
        ),
        (
            "child.yaml",
            "tests: [mail is replaced]",
            "rules: [atack]",
            "child.yaml:3:19: remove.rules[0]: the base has no rule `atack`, expected one of `attack`, `mail`; did you \
             mean `attack`?",
        ),
        (
            "child.yaml",
            "tests: [mail is replaced]",
            "rules: [mail]",
            "child.yaml:3:19: remove.rules[0]: rule `mail` is removed and written in one file",
        ),
        (
            "child.yaml",
            "constitution.topics",
            "constitution.topic",
            "remove.settings[0]: the base does not set `constitution.topic`, expected one of `description`",
        ),
        ("child.yaml", "settings:", "setings:", "remove: unknown field `setings`"),
        (
            "child.yaml",
            "extends: shared/base.yaml\n",
            "",
            "child.yaml:2:9: remove: there is nothing to remove from: `remove` goes with `extends`",
        ),
        ("child.yaml", "id: card,", "id: mail,", "child.yaml:11:11: rules[1].id: rule `mail` is already on line 10"),
        (
            "child.yaml",
            "remove: { tests: [mail is replaced],",
            "remove: {",
            "shared/base.yaml:27:70: tests[0].expect.action: a hit of rule `mail` leads to `block`, so that no less can be \
             expected (inherited by child.yaml)",
        ),
        (
            "child.yaml",
            "rules: [mail] }",
            "rules: [mial] }",
            "child.yaml:14:84: tests[0].expect.rules[0]: unknown rule `mial`",
        ),
    ]);
}

#[test]
fn mistakes_of_a_base_are_told_where_they_stand() {
    each_is_told(&[
        (
            "shared/base.yaml",
            "name: base",
            "extends: ../child.yaml",
            "shared/base.yaml:1:10: extends: a circle: child.yaml extends shared/base.yaml extends shared/../child.yaml \
             (inherited by child.yaml)",
        ),
        (
            "shared/base.yaml",
            "    action: block\n",
            "    actoin: block\n",
            "error: shared/base.yaml:17:5: rules[0]: unknown field `actoin`",
        ),
        (
            "shared/base.yaml",
            "fpr_0.5",
            "fpr_9",
            "error: shared/base.yaml:16:16: rules[0].threshold: no threshold `fpr_9` is calibrated",
        ),
        ("shared/base.yaml", "length > 3", "lenght > 3", "shared/base.yaml:20:7: rules[0].when: unknown name `lenght`"),
        (
            "shared/base.yaml",
            "  rounds: 2",
            "  rounds: 0",
            "shared/base.yaml:24:11: revise.rounds: expected a number from",
        ),
        ("shared/base.yaml", "rules:\n", "rules: [\n", "shared/base.yaml:13:"),
    ]);
    let files = Files::new(&[("child.yaml", "extends: shared/base.yaml\n"), ("shared/base.yaml", "description: x\n")]);
    let report = files.read("child.yaml").map(|_| ()).unwrap_err();
    assert!(report.starts_with("error: child.yaml:1:1: missing field `rules`"), "{report}");
}

#[test]
fn a_mistake_of_a_base_that_is_a_policy_is_told_once() {
    let base = BASE
        .replace("fpr_0.5", "fpr_9")
        .replace("name: base\n", "")
        .replace("rollout: { of: other, mode: shadow }\n", "");
    let files =
        Files::new(&[("base.yaml", &base), ("a.yaml", "extends: base.yaml\n"), ("b.yaml", "extends: base.yaml\n")]);
    let Err(PolicyError::Files(problems)) = PolicyFile::read_all(files.0.path(), &known()) else { panic!() };
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].inherited_by, None);
}

#[test]
fn a_chain_has_an_end() {
    let files = Files::new(&[("p0.yaml", "rules: []\n")]);
    for n in 1..10 {
        files.write(&format!("p{n}.yaml"), &format!("extends: p{}.yaml\n", n - 1));
    }
    assert!(files.read("p7.yaml").is_ok());
    assert!(files.read("p8.yaml").map(|_| ()).unwrap_err().contains("p1.yaml:1:10: extends: a chain of more than 8"));
    assert!(Sight::of(Path::new("/no/such"), &[]).dirs.len() == 1);
}

proptest! {
    /// Neither layout nor comments, and not the file in which it stands, change a byte of what models read.
    #[test]
    fn rendering_depends_on_what_is_said_alone(
        preamble in "[a-z ,.\n]{1,40}",
        texts in proptest::collection::vec("[a-zé:#' ]{0,20}[a-z]", 1..4),
        style in "[a-z ]{0,10}[a-z]",
    ) {
        let principles: Vec<_> =
            texts.iter().enumerate().map(|(n, text)| serde_json::json!({"id": format!("p{n}"), "text": text})).collect();
        let whole = serde_json::json!({
            "constitution": {"preamble": preamble, "principles": principles, "style": style, "max_tokens": 1000},
            "rules": [],
        });
        let files = Files::new(&[("a.yaml", &whole.to_string())]);
        let one = files.read("a.yaml").unwrap();
        files.write("a.yaml", &format!("# Another layout.\n{}", one.resolved()));
        let mut base = whole.clone();
        base["constitution"]["style"] = "Another.".into();
        files.write("shared/a.yaml", &base.to_string());
        let (again, once) = (files.read("a.yaml").unwrap(), files.read("a.yaml").unwrap());
        prop_assert_eq!(&again.policy, &one.policy);
        prop_assert_eq!(&once.policy, &one.policy);
        let style = serde_json::json!({"extends": "shared/a.yaml", "constitution": {"style": style}});
        files.write("a.yaml", &style.to_string());
        let inherited = files.read("a.yaml").unwrap();
        prop_assert_eq!(&inherited.policy.constitution.text, &one.policy.constitution.text);
        prop_assert_eq!(&inherited.policy.revision, &one.policy.revision);
    }
}
