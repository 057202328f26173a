//! The recorded session in `policies/SESSION.md`, played again: each command against the binary, each output compared.
//!
//! What may differ from run to run is written alike on both sides: ports, revisions, times, scores. `WARDLINE_GOLDEN=write
//! cargo test --test it session` records it anew; read the difference before it is committed.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use regex::Regex;

/// Stands between two commands' outputs.
const MARK: &str = "@@@ next @@@";

/// A command and what it printed.
#[derive(Debug, Default)]
struct Step {
    command: String,
    output: String,
}

/// The steps of all `console` blocks. A command begins with `$ `, its further lines with `> `.
fn steps(document: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in document.lines() {
        match line {
            "```console" => inside = true,
            "```" => inside = false,
            _ if !inside => {}
            _ => match (
                line.strip_prefix("$ "),
                line.strip_prefix("> ").or((line == ">").then_some("")),
                steps.last_mut(),
            ) {
                (Some(command), ..) => steps.push(Step { command: format!("{command}\n"), output: String::new() }),
                (None, Some(more), Some(step)) if step.output.is_empty() => step.command.extend([more, "\n"]),
                (None, _, Some(step)) => step.output.extend([line, "\n"]),
                (None, _, None) => panic!("output before the first command: {line}"),
            },
        }
    }
    steps
}

/// What every run has of its own, written alike.
fn alike(text: &str) -> String {
    let text =
        Regex::new(r"\brev(ision)? [0-9a-f]{12}\b").unwrap().replace_all(text, "rev${1} ............").into_owned();
    let text = Regex::new(r"is now [0-9a-f]{12}").unwrap().replace_all(&text, "is now ............").into_owned();
    let text = Regex::new(r"[0-9]+\.[0-9]{2} s\b").unwrap().replace_all(&text, "0.00 s").into_owned();
    let text = Regex::new(r"\breq_[0-9a-f]+").unwrap().replace_all(&text, "req_...").into_owned();
    Regex::new(r"\b0\.[0-9]{3}\b").unwrap().replace_all(&text, "0.000").into_owned()
}

/// Runs the commands in one shell, in a directory that has the binary, the model and the demo's upstream at hand.
fn played(steps: &[Step]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("bin")).unwrap();
    symlink(env!("CARGO_BIN_EXE_wardline"), dir.path().join("bin/wardline")).unwrap();
    for name in ["models", ".ort"] {
        symlink(root.join(name), dir.path().join(name)).unwrap();
    }
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let ports = [("8787", free()), ("9787", free())];
    let mut script = String::from("trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\nexec 2>&1\n");
    for step in steps {
        let _ = writeln!(script, "{}echo '{MARK}'", step.command);
    }
    for (written, port) in &ports {
        script = script.replace(written, port);
    }
    std::fs::write(dir.path().join(".session"), script).unwrap();
    let mut command = Command::new("bash");
    let path = format!("{}:{}", dir.path().join("bin").display(), std::env::var("PATH").unwrap());
    command.arg(".session").current_dir(dir.path()).env("PATH", path).env_remove("RUST_LOG").env("NO_COLOR", "1");
    command.env("ORT_DISABLE_TELEMETRY", "1").stdin(Stdio::null());
    let output = command.output().unwrap();
    let mut text = String::from_utf8(output.stdout).unwrap();
    for (written, port) in &ports {
        text = text.replace(port, written);
    }
    text.split(&format!("{MARK}\n")).map(str::to_owned).collect()
}

/// The document with other outputs.
fn recorded(document: &str, outputs: &[String]) -> String {
    let (mut out, mut inside, mut outputs) = (String::new(), false, outputs.iter());
    let mut pending: Option<&String> = None;
    for line in document.lines() {
        let command = line.starts_with("$ ");
        let more = line == ">" || line.starts_with("> ");
        if inside && pending.is_some() && !more {
            out.push_str(pending.take().unwrap());
        }
        if line.starts_with("```") {
            inside = line == "```console";
        }
        if inside && command {
            pending = outputs.next();
        }
        if !inside || command || more || line.starts_with("```") {
            out.extend([line, "\n"]);
        }
    }
    out
}

#[test]
fn the_recorded_session_is_what_happens() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/SESSION.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let steps = steps(&document);
    assert!(steps.len() > 20, "{} steps", steps.len());
    let outputs = played(&steps);
    if std::env::var_os("WARDLINE_GOLDEN").is_some_and(|word| word == "write") {
        let outputs: Vec<String> = outputs.iter().map(|text| text.trim_end_matches('\n').to_owned()).collect();
        let outputs: Vec<String> =
            outputs.into_iter().map(|text| if text.is_empty() { text } else { format!("{text}\n") }).collect();
        std::fs::write(&path, recorded(&document, &outputs)).unwrap();
        return;
    }
    for (step, output) in steps.iter().zip(&outputs) {
        assert_eq!(alike(output.trim_end()), alike(step.output.trim_end()), "$ {}", step.command);
    }
    assert_eq!(outputs.len(), steps.len() + 1, "a command ended the shell: {:?}", outputs.last());
}
