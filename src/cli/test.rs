//! `wardline test`: policies' own tests, through the real classifier.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Failed;
use super::assemble::{armed, configured, environment, known, metrics, models, proving};
use super::output;
use super::policies::files;
use super::serve::runtime;
use crate::policy::{Proof, Test};

/// How the tests of one file went.
struct Run {
    path: String,
    policy: String,
    revision: String,
    took: Duration,
    cases: Vec<Case>,
}

struct Case {
    name: String,
    /// Where it is written: in the policy's file, or in one that it builds on.
    path: String,
    line: u64,
    proof: Proof,
}

/// Runs the tests of the policies named, or of the whole directory; writes a `JUnit` report where one is asked for.
pub(super) fn run(config: &Path, policies: &[PathBuf], junit: Option<&Path>) -> Result<(), Failed> {
    let config = configured(config)?;
    let runtime = runtime()?;
    let models = models(&config, environment, runtime.handle(), &metrics()?)?;
    let prove = proving(&config)?;
    let mut runs = Vec::new();
    for file in files(&config, policies, &known(models.labels(), &config))? {
        let places: Vec<(String, u64)> = (0..file.tests.len())
            .map(|test| file.place_of(test))
            .map(|(path, line)| (path.display().to_string(), line))
            .collect();
        let path = file.path.display().to_string();
        let view = armed(file, &models)?;
        let started = Instant::now();
        let proofs = prove(&view, &view.tests).map_err(|reason| Failed::Ran(format!("{path}: {reason}")))?;
        let case = |((test, (path, line)), proof): ((&Test, (String, u64)), Proof)| Case {
            name: test.name.clone(),
            path,
            line,
            proof,
        };
        runs.push(Run {
            path,
            policy: view.policy.name.clone(),
            revision: view.policy.revision.clone(),
            took: started.elapsed(),
            cases: view.tests.iter().zip(places).zip(proofs).map(case).collect(),
        });
    }
    if let Some(path) = junit {
        output::report(path, &junit_report(&runs))?;
    }
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let text = told(&runs, colour);
    output::print(&text)?;
    match runs.iter().map(Run::failed).sum() {
        0 => Ok(()),
        1 => Err(Failed::Ran("1 test failed".to_owned())),
        failed => Err(Failed::Ran(format!("{failed} tests failed"))),
    }
}

impl Run {
    fn failed(&self) -> usize {
        self.cases.iter().filter(|case| case.proof.failure.is_some()).count()
    }
}

/// For a terminal.
fn told(runs: &[Run], colour: bool) -> String {
    let painted = |code: &str, word: &str| if colour { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() };
    let mut out = String::new();
    for run in runs {
        let _ = writeln!(out, "{}  {} rev {}", run.path, run.policy, run.revision);
        if run.cases.is_empty() {
            let _ = writeln!(out, "  no tests");
        }
        for case in &run.cases {
            let _ = match &case.proof.failure {
                None => writeln!(out, "  {}    {}", painted("32", "ok"), case.name),
                Some(failure) => writeln!(
                    out,
                    "  {}  {}\n        {}:{}: {failure}",
                    painted("1;31", "FAIL"),
                    case.name,
                    case.path,
                    case.line
                ),
            };
        }
    }
    let all: usize = runs.iter().map(|run| run.cases.len()).sum();
    let failed: usize = runs.iter().map(Run::failed).sum();
    let took: Duration = runs.iter().map(|run| run.took).sum();
    let _ = writeln!(out, "{} passed, {failed} failed, {:.2} s", all - failed, took.as_secs_f64());
    out
}

/// `JUnit` XML as CI systems read it: a suite a policy, a case a test.
fn junit_report(runs: &[Run]) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"wardline\">\n");
    for run in runs {
        let _ = writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"0\" time=\"{:.3}\" file=\"{}\">",
            escaped(&run.policy),
            run.cases.len(),
            run.failed(),
            run.took.as_secs_f64(),
            escaped(&run.path)
        );
        for case in &run.cases {
            let _ = write!(
                out,
                "    <testcase classname=\"{}\" name=\"{}\" file=\"{}\" line=\"{}\" time=\"{:.3}\"",
                escaped(&run.policy),
                escaped(&case.name),
                escaped(&case.path),
                case.line,
                case.proof.took.as_secs_f64()
            );
            let _ = match &case.proof.failure {
                None => writeln!(out, "/>"),
                Some(failure) => {
                    writeln!(out, ">\n      <failure message=\"{}\"/>\n    </testcase>", escaped(failure))
                }
            };
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

/// For an XML attribute; control characters, which XML has no way to write, become blanks.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs() -> Vec<Run> {
        let case = |name: &str, line, failure: Option<&str>| Case {
            name: name.to_owned(),
            path: "p/x.yaml".to_owned(),
            line,
            proof: Proof { failure: failure.map(str::to_owned), took: Duration::from_millis(12) },
        };
        let cases = vec![case("good", 7, None), case("a <b> & \"c\"", 12, Some("expected block; got allow"))];
        let (path, policy, revision) = ("p/x.yaml".to_owned(), "x".to_owned(), "0123456789ab".to_owned());
        vec![Run { path, policy, revision, took: Duration::from_millis(30), cases }]
    }

    #[test]
    fn the_terminal_is_told_each_test_and_the_sum() {
        assert_eq!(
            told(&runs(), false),
            "p/x.yaml  x rev 0123456789ab\n  ok    good\n  FAIL  a <b> & \"c\"\n        p/x.yaml:12: expected block; \
             got allow\n1 passed, 1 failed, 0.03 s\n"
        );
        assert!(told(&runs(), true).contains("\x1b[1;31mFAIL\x1b[0m"));
    }

    #[test]
    fn the_report_is_well_formed_whatever_a_test_is_called() {
        let report = junit_report(&runs());
        assert!(report.contains("<testsuite name=\"x\" tests=\"2\" failures=\"1\""), "{report}");
        assert!(report.contains("name=\"a &lt;b&gt; &amp; &quot;c&quot;\" file=\"p/x.yaml\" line=\"12\""), "{report}");
        assert_eq!(escaped("\u{1b}[0m\n"), " [0m ");
        assert!(report.contains("<failure message=\"expected block; got allow\"/>"), "{report}");
        let opened = report.matches("<testcase").count();
        assert_eq!(opened, report.matches("</testcase>").count() + report.matches("time=\"0.012\"/>").count());
    }
}
