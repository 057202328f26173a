//! The gateway under a policy, in a process of its own, before the scripted upstream.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::ask::Client;
use crate::processes::Process;
use crate::procfs::Tree;
use crate::upstream::Script;
use crate::{Result, UPSTREAM_ARGUMENT, repository, runtime_library};

/// Nothing is judged.
pub(crate) const UNGUARDED: &str = "rules: []\n";
/// Prompts are judged by both heads of the classifier; they go up after their verdict.
pub(crate) const GATE: &str = "\
rules:
  - { id: attack, guard: { classifier: prompt_attack, labels: [attack] }, stages: [input], threshold: fpr_0.5, action: block }
  - { id: harm, guard: { classifier: harm }, stages: [input], threshold: fpr_0.5, action: block }
";
/// Answers are judged.
pub(crate) const ANSWERS: &str = "\
rules:
  - { id: harm, guard: { classifier: harm }, stages: [output], threshold: fpr_0.5, action: block }
";

/// The scripted upstream.
pub(crate) struct Upstream {
    pub(crate) port: u16,
    _process: Process,
}

impl Upstream {
    pub(crate) fn start(dir: &Path) -> Result<Upstream> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(UPSTREAM_ARGUMENT);
        let mut process = Process::start(command, &dir.join("upstream.log"))?;
        let mut line = String::new();
        if let Some(stdout) = process.stdout() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let port = line.trim().parse().map_err(|_| format!("the upstream did not start: {}", process.last_words()))?;
        Ok(Upstream { port, _process: process })
    }

    /// How streams run that begin from now on.
    pub(crate) fn set(&self, script: Script) -> Result<()> {
        Client::connect(self.port)?.get(&script.path()).map(|_| ())
    }
}

/// A gateway that is ready.
pub(crate) struct Gateway {
    pub(crate) port: u16,
    pub(crate) admin: u16,
    process: Process,
}

impl Gateway {
    /// Starts one with this policy, and these lines more in its configuration (`classifier` excepted, whose settings
    /// beside `dir` are `classifier`). Requests for the model `unguarded` are judged by no rule.
    pub(crate) fn start(
        upstream: &Upstream,
        dir: &Path,
        name: &str,
        policy: &str,
        classifier: &str,
        more: &str,
    ) -> Result<Gateway> {
        let dir = dir.join(name);
        let policies = dir.join("policies");
        fs::create_dir_all(&policies)?;
        fs::write(policies.join("bench.yaml"), format!("name: bench\n{policy}"))?;
        fs::write(policies.join("plain.yaml"), format!("name: plain\n{UNGUARDED}"))?;
        let (port, admin) = (free_port()?, free_port()?);
        let text = format!(
            "listen: 127.0.0.1:{port}\nadmin: 127.0.0.1:{admin}\n\
             upstreams:\n  openai: {{ dialect: openai, url: 'http://127.0.0.1:{}', api_key_env: BENCH_KEY }}\n\
             policies: {{ dir: '{}', active: bench, select: [{{ models: [unguarded], policy: plain }}] }}\n\
             classifier: {{ dir: '{}', {classifier} }}\n\
             log: {{ format: text, level: warn }}\n{more}",
            upstream.port,
            policies.display(),
            repository().join("models/guard").display(),
        );
        let config = dir.join("wardline.yaml");
        fs::write(&config, text)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_wardline"));
        command.arg("serve").arg("--config").arg(&config).env("BENCH_KEY", "bench");
        if let Some(library) = runtime_library() {
            command.env("ORT_DYLIB_PATH", library);
        }
        let mut process = Process::start(command, &dir.join("stderr.log"))?;
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            process.check_alive()?;
            let ready = Client::connect(admin).and_then(|mut client| client.get("/readyz"));
            if ready.is_ok_and(|answer| answer.status == 200) {
                return Ok(Gateway { port, admin, process });
            }
            if Instant::now() > deadline {
                return Err(format!("{name} is not ready after a minute: {}", process.last_words()).into());
            }
            sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn client(&self) -> Result<Client> {
        Client::connect(self.port)
    }

    /// Nanoseconds of CPU time so far, threads that have ended included.
    pub(crate) fn cpu(&self) -> Result<crate::procfs::Cpu> {
        Ok(Tree::of(self.process.id())?.cpu())
    }

    /// The sum of a metric's series whose line has all of these `words`.
    pub(crate) fn metric(&self, name: &str, words: &[&str]) -> Result<f64> {
        let page = Client::connect(self.admin)?.get("/metrics")?.body;
        let page = String::from_utf8(page)?;
        let lines = page.lines().filter(|line| {
            let of_name = line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
            of_name && words.iter().all(|word| line.contains(word))
        });
        Ok(lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
    }

    /// Windows that the classifier has scored so far, and tokens in them.
    pub(crate) fn scored(&self) -> Result<(f64, f64)> {
        let windows = self.metric("wardline_classifier_batch_size_sum", &[])?;
        Ok((windows, self.metric("wardline_classifier_batch_tokens_sum", &[])?))
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
