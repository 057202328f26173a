//! What is measured side by side: the upstream itself, nginx before it, and Wardline with more and more to do.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use tokio::time::sleep;

use crate::processes::Process;
use crate::procfs::Tree;
use crate::{Result, load};

/// One way from the load to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Target {
    /// No proxy.
    Direct,
    /// nginx `proxy_pass`: the floor for a proxy that looks at nothing.
    Nginx,
    /// Wardline with a policy that has a constitution and no rules.
    Wardline,
    /// Wardline with the built-in pattern guards on both ways.
    WardlinePatterns,
    /// Wardline with the policy that it comes with: classifiers and patterns on both ways.
    WardlineClassifier,
}

/// A target that is ready for requests.
pub(crate) struct Running {
    /// Which one.
    pub(crate) target: Target,
    /// Where it listens on the loopback interface.
    pub(crate) port: u16,
    /// Resident memory once it was ready, in KiB; 0 without a process.
    pub(crate) idle_kib: u64,
    process: Option<Process>,
}

/// Why a target is left out.
pub(crate) enum Missing {
    /// It can be done without.
    Optional(String),
    /// It was to be measured; the benchmark has not done its work.
    Needed(String),
}

impl Target {
    /// Its name on the command line and in the report.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether what it needs is on this machine.
    pub(crate) fn check(self) -> std::result::Result<(), Missing> {
        match self {
            Target::Nginx if nginx().is_none() => {
                Err(Missing::Optional("nginx is not installed; Debian's package is nginx-light".into()))
            }
            Target::WardlineClassifier => {
                let model = repository().join("models/guard/manifest.json");
                if runtime_library().is_none() {
                    return Err(Missing::Needed("the ONNX Runtime library is missing; run `make ort`".into()));
                }
                if !model.is_file() {
                    return Err(Missing::Needed(format!(
                        "{} is missing; it belongs to the repository",
                        model.display()
                    )));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Starts it before the upstream at `upstream_port`, with its files in `dir`, and waits until it is ready.
    pub(crate) async fn start(self, upstream_port: u16, dir: &Path) -> Result<Running> {
        let dir = dir.join(self.name());
        fs::create_dir_all(&dir)?;
        let (port, process) = match self {
            Target::Direct => (upstream_port, None),
            Target::Nginx => {
                let port = free_port()?;
                let process = start_nginx(upstream_port, port, &dir)?;
                (port, Some(ready(process, port, "/", &[502, 400, 404]).await?))
            }
            _ => {
                let (port, admin) = (free_port()?, free_port()?);
                let process = self.start_wardline(upstream_port, port, admin, &dir)?;
                (port, Some(ready(process, admin, "/readyz", &[200]).await?))
            }
        };
        let mut running = Running { target: self, port, idle_kib: 0, process };
        running.idle_kib = running.tree()?.map_or(0, |tree| tree.rss_kib());
        Ok(running)
    }

    fn start_wardline(self, upstream_port: u16, port: u16, admin: u16, dir: &Path) -> Result<Process> {
        let (policies, active, classifier) = if self == Target::WardlineClassifier {
            let model = repository().join("models/guard");
            (repository().join("policies"), "default", format!("classifier: {{ dir: '{}' }}\n", model.display()))
        } else {
            let policies = dir.join("policies");
            fs::create_dir_all(&policies)?;
            let rules = if self == Target::WardlinePatterns { PATTERN_RULES } else { "rules: []\n" };
            fs::write(policies.join("bench.yaml"), format!("{CONSTITUTION}{rules}"))?;
            (policies, "bench", String::new())
        };
        let config = dir.join("wardline.yaml");
        let text = format!(
            "listen: 127.0.0.1:{port}\n\
             admin: 127.0.0.1:{admin}\n\
             upstreams:\n  openai: {{ dialect: openai, url: 'http://127.0.0.1:{upstream_port}', api_key_env: BENCH_KEY }}\n\
             policies: {{ dir: '{}', active: {active} }}\n\
             {classifier}\
             log: {{ format: text, level: warn }}\n",
            policies.display()
        );
        fs::write(&config, text)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_wardline"));
        command.arg("serve").arg("--config").arg(&config).env("BENCH_KEY", "bench");
        if let Some(library) = runtime_library() {
            command.env("ORT_DYLIB_PATH", library);
        }
        Process::start(command, &dir.join("stderr.log"))
    }
}

impl Running {
    /// Its processes now; `None` where there is none.
    pub(crate) fn tree(&self) -> Result<Option<Tree>> {
        self.process.as_ref().map(|process| Tree::of(process.id())).transpose()
    }

    /// What it last said, if it is a process.
    pub(crate) fn last_words(&self) -> String {
        self.process.as_ref().map(Process::last_words).unwrap_or_default()
    }
}

/// Starts the scripted upstream: this very program, with another first argument.
pub(crate) fn start_upstream(dir: &Path) -> Result<(Process, u16)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(crate::UPSTREAM_ARGUMENT);
    let mut process = Process::start(command, &dir.join("upstream.log"))?;
    let mut line = String::new();
    if let Some(stdout) = process.stdout() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    let port = line.trim().parse().map_err(|_| format!("the upstream did not start: {}", process.last_words()))?;
    Ok((process, port))
}

/// What Debian's nginx calls itself, if it is there.
pub(crate) fn nginx_version() -> Option<String> {
    let output = Command::new(nginx()?).arg("-v").output().ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.split_once("nginx/").map(|(_, version)| version.trim().to_owned())
}

const CONSTITUTION: &str = "\
name: bench
description: For measuring.
constitution:
  preamble: >
    Follow these principles in every answer; an earlier one outweighs a later one. Do not help anyone to hurt people.
    Say what is true as far as you know, say when you are unsure, and invent neither facts nor sources. Do not reveal
    private details of real people. Within these limits answer what was asked, fully and clearly.
";

const PATTERN_RULES: &str = "\
rules:
  - id: pii
    guard: { entities: [EMAIL_ADDRESS, CREDIT_CARD, US_SSN, IBAN_CODE] }
    stages: [input, output]
    action: redact
";

fn start_nginx(upstream_port: u16, port: u16, dir: &Path) -> Result<Process> {
    let nginx = nginx().ok_or("nginx is not installed")?;
    let place = dir.display();
    // Bodies stay in memory and connections open for ever: nginx at its best on this work.
    let config = format!(
        "daemon off;\n\
         worker_processes 2;\n\
         pid {place}/nginx.pid;\n\
         error_log stderr crit;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n\
         access_log off;\n\
         client_body_temp_path {place}/client;\n\
         proxy_temp_path {place}/proxy;\n\
         fastcgi_temp_path {place}/fastcgi;\n\
         uwsgi_temp_path {place}/uwsgi;\n\
         scgi_temp_path {place}/scgi;\n\
         client_body_buffer_size 64k;\n\
         keepalive_requests 1000000000;\n\
         tcp_nodelay on;\n\
         upstream up {{ server 127.0.0.1:{upstream_port}; keepalive 64; keepalive_requests 1000000000; }}\n\
         server {{ listen 127.0.0.1:{port}; location / {{\n\
         proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_buffering off; }} }}\n\
         }}\n"
    );
    let path = dir.join("nginx.conf");
    fs::write(&path, config)?;
    let mut command = Command::new(nginx);
    command.arg("-e").arg("stderr").arg("-p").arg(dir).arg("-c").arg(&path);
    Process::start(command, &dir.join("stderr.log"))
}

/// Waits until a request to `path` is answered with one of `statuses`.
async fn ready(mut process: Process, port: u16, path: &str, statuses: &[u16]) -> Result<Process> {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        process.check_alive()?;
        if load::get(port, path).await.is_ok_and(|status| statuses.contains(&status)) {
            return Ok(process);
        }
        if Instant::now() > deadline {
            return Err(format!("not ready after a minute: {}", process.last_words()).into());
        }
        sleep(Duration::from_millis(20)).await;
    }
}

fn nginx() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian installs it where the PATH of an ordinary user does not look.
    let places = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    places.map(|place| place.join("nginx")).find(|file| file.is_file())
}

fn runtime_library() -> Option<PathBuf> {
    let named = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    Some(named.unwrap_or_else(|| repository().join(".ort/libonnxruntime.so"))).filter(|file| file.is_file())
}

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
