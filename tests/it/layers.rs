//! Who may import whom. The table is the architecture; this test makes it true.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const EVERYTHING: &[&str] = &[
    "api",
    "classify",
    "config",
    "eval",
    "gateway",
    "guard",
    "pairs",
    "policy",
    "revision",
    "server",
    "telemetry",
    "upstream",
    "yaml",
];

/// Room, and the rooms that it may import.
const TABLE: &[(&str, &[&str])] = &[
    ("telemetry", &[]),
    ("yaml", &[]),
    ("api", &[]),
    ("policy", &["api", "telemetry", "yaml"]),
    ("classify", &["telemetry", "upstream"]),
    ("upstream", &["telemetry"]),
    ("guard", &["api", "policy", "classify", "telemetry"]),
    ("revision", &["api", "policy", "upstream", "telemetry"]),
    ("pairs", &["telemetry"]),
    ("gateway", &["api", "policy", "guard", "upstream", "revision", "pairs", "telemetry"]),
    ("server", &["gateway"]),
    ("eval", &["api", "classify", "guard"]),
    ("config", &["classify", "gateway", "pairs", "policy", "server", "telemetry", "upstream", "yaml"]),
    ("cli", EVERYTHING),
];

#[test]
fn every_import_is_in_the_table() {
    let allowed: BTreeMap<&str, &[&str]> = TABLE.iter().copied().collect();
    let mut found = BTreeMap::<String, BTreeSet<String>>::new();
    let mut wrong = Vec::new();
    for file in sources(&root()) {
        let Some(room) = room_of(&file) else { continue };
        let Some(may) = allowed.get(room.as_str()) else {
            wrong.push(format!("{}: room `{room}` is not in the table", file.display()));
            continue;
        };
        for import in imports(&fs::read_to_string(&file).unwrap()) {
            if import != room && !may.contains(&import.as_str()) {
                wrong.push(format!("{}: `{room}` imports `{import}`", file.display()));
            }
            found.entry(room.clone()).or_default().insert(import);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(found["gateway"].contains("guard"), "the scan sees imports at all");
    for (room, may) in TABLE {
        let unused: Vec<_> = may
            .iter()
            .filter(|import| *room != "cli" && !found.get(*room).is_some_and(|all| all.contains(**import)))
            .collect();
        assert!(unused.is_empty(), "the table lets `{room}` import {unused:?}, which it does not need");
    }
}

#[test]
fn no_file_outgrows_its_reader() {
    let long: Vec<String> = sources(&root())
        .into_iter()
        .filter_map(|file| {
            let text = fs::read_to_string(&file).unwrap();
            let before_tests = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
            let lines = before_tests.lines().count();
            (lines > 600 && !file.ends_with("telemetry/metrics.rs")).then(|| format!("{}: {lines}", file.display()))
        })
        .collect();
    assert!(long.is_empty(), "over 600 lines before their tests: {long:?}");
}

#[test]
fn nothing_reaches_over_its_parent() {
    for file in sources(&root()) {
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains("super::super::super"), "{}", file.display());
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The first folder or file name under `src`; none for the crate's roots.
fn room_of(file: &Path) -> Option<String> {
    let first = file.strip_prefix(root()).unwrap().components().next()?;
    let name = first.as_os_str().to_str()?.trim_end_matches(".rs").to_owned();
    (name != "main" && name != "lib").then_some(name)
}

/// Rooms named after `crate::`, comments apart.
fn imports(text: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for rest in line.split("crate::").skip(1) {
            let named: Vec<&str> = match rest.strip_prefix('{') {
                Some(group) => group.split(['}', ';']).next().unwrap_or_default().split(',').collect(),
                None => vec![rest],
            };
            for name in named {
                let room: String = name.trim().chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                if EVERYTHING.contains(&room.as_str()) {
                    rooms.insert(room);
                }
            }
        }
    }
    rooms
}
