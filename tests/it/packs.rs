//! The shipped policies: their own tests on the shipped model, and what upstreams see of them, word for word.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use wardline::classify::{Classifier, Config, Models};
use wardline::guard::{self, Guards};
use wardline::policy::{Known, KnownLabel, PolicyFile, Snapshot};
use wardline::telemetry::Metrics;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn packs() -> Vec<String> {
    let files = std::fs::read_dir(root().join("policies")).unwrap().map(|entry| entry.unwrap().path());
    let yaml = files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    let mut names: Vec<String> = yaml.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    assert!(names.len() >= 10, "{names:?}");
    names
}

#[test]
fn every_pack_passes_its_own_tests_on_the_shipped_model() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let classifier =
        Classifier::load(&Config { dir: root().join("models/guard"), ..Config::default() }, &metrics).unwrap();
    let label = |label: &wardline::classify::Label| KnownLabel {
        head: label.head.clone(),
        name: label.name.clone(),
        thresholds: label.thresholds.clone(),
    };
    let known = Known {
        tenants: Vec::new(),
        labels: classifier.labels().iter().map(label).collect(),
        entities: guard::ENTITIES.iter().map(|name| (*name).to_owned()).collect(),
        upstreams: Vec::new(),
    };
    let guards = Guards::new(metrics);
    let models = Models::new(vec![classifier]).unwrap();
    let files =
        PolicyFile::read_all(&root().join("policies"), &known).unwrap_or_else(|error| panic!("{}", error.report()));
    let mut failures = Vec::new();
    for file in files {
        assert!(file.tests.len() >= 4, "{}: {} tests", file.path.display(), file.tests.len());
        let armed = guard::arm(&file.policy, &models).unwrap();
        let view = Arc::new(Snapshot { policy: file.policy.clone(), tests: file.tests.clone(), armed });
        let proofs = guard::rehearse(&guards, &view, &file.tests, Duration::from_mins(2)).unwrap();
        failures.extend(file.failures(&proofs).iter().map(ToString::to_string));
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// `WARDLINE_GOLDEN=write cargo test --test it packs` writes the files anew; read the difference before it is committed.
#[test]
fn what_upstreams_see_of_each_pack_is_as_written_down() {
    let golden = root().join("tests/it/golden");
    let mut different = Vec::new();
    for name in packs() {
        for dialect in ["openai", "responses", "completions", "anthropic"] {
            let file: PathBuf = golden.join(format!("{name}.{dialect}.txt"));
            let mut command = Command::new(env!("CARGO_BIN_EXE_wardline"));
            command.args(["render", &name, "--dialect", dialect]).current_dir(root()).env("ORT_DISABLE_TELEMETRY", "1");
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            if std::env::var_os("WARDLINE_GOLDEN").is_some_and(|word| word == "write") {
                std::fs::create_dir_all(&golden).unwrap();
                std::fs::write(&file, &output.stdout).unwrap();
            }
            if std::fs::read(&file).ok() != Some(output.stdout) {
                different.push(file);
            }
        }
    }
    assert!(different.is_empty(), "{different:#?}");
}
