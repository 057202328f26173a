//! The commands, one file each, and the exit codes.
//!
//! 0: done. 1: it ran and failed, or a floor was missed. 64: it was told something that cannot be done (arguments,
//! configuration, policy, model, address, data), and nothing was started.

mod assemble;
mod calibrate;
mod check;
mod demo;
mod demo_upstream;
mod diff;
mod eval;
mod exchange;
mod explain;
mod health;
mod judge;
mod model;
mod output;
mod pairs;
mod policies;
mod progress;
mod render;
mod resolve;
mod schema;
mod serve;
mod table;
mod test;

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// An inline guardrail gateway for LLM APIs.
#[derive(Debug, Parser)]
#[command(name = "wardline", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway.
    Serve {
        /// The process configuration.
        #[arg(long, value_name = "FILE", default_value = "wardline.yaml")]
        config: PathBuf,
    },
    /// Run the gateway in front of a built-in stand-in for a provider, and print what to try.
    Demo {
        /// The process configuration; its upstreams are replaced by the stand-in.
        #[arg(long, value_name = "FILE", default_value = "wardline.yaml")]
        config: PathBuf,
    },
    /// Read configuration, policies and models as `serve` would, say what is wrong, and start nothing.
    Check {
        /// The process configuration.
        #[arg(long, value_name = "FILE", default_value = "wardline.yaml")]
        config: PathBuf,
        /// Policies, by path or by name: only these are checked, and no key is needed.
        #[arg(value_name = "POLICY")]
        policies: Vec<PathBuf>,
    },
    /// Run the tests that policies bring along, through the real classifier.
    Test {
        /// The process configuration: which classifier, and where policies lie.
        #[arg(long, value_name = "FILE", default_value = "wardline.yaml")]
        config: PathBuf,
        /// Policies, by path or by name; by default all of the directory.
        #[arg(value_name = "POLICY")]
        policies: Vec<PathBuf>,
        /// Where to write a report in the XML of `JUnit` that CI systems read.
        #[arg(long, value_name = "OUT")]
        junit: Option<PathBuf>,
    },
    /// Show what each upstream will see of a policy's constitution.
    Render {
        /// The process configuration: which classifier, and where policies lie.
        #[arg(long, value_name = "FILE", default_value = "wardline.yaml")]
        config: PathBuf,
        /// The policy, by path or by name.
        #[arg(value_name = "POLICY")]
        policy: PathBuf,
        /// One dialect only.
        #[arg(long, value_enum)]
        dialect: Option<render::Wire>,
    },
    /// Ask about policies.
    Policy {
        #[command(subcommand)]
        question: Question,
    },
    /// Print the JSON Schema of a kind of file, for editors.
    Schema {
        /// Of policy files, or of the process configuration.
        #[arg(value_enum)]
        of: schema::Kind,
    },
    /// Look through preference rows, and write them in the shapes that training tools read.
    Pairs {
        #[command(subcommand)]
        command: pairs::Command,
    },
    /// Have a model compare answers that people have compared, in both orders, and report how far they agree.
    Judge(judge::Arguments),
    /// Propose thresholds for a policy's rules from labelled texts, and write them into its file.
    Calibrate(calibrate::Arguments),
    /// Show what another policy would have decided, on recorded traffic or labelled texts.
    Diff(diff::Arguments),
    /// Measure the guards on labelled texts (JSON Lines, plain or gzip'd), on the gateway's own path.
    Eval(eval::Arguments),
    /// Show which words of a text pushed its scores (LIME).
    Explain(explain::Arguments),
    /// Ask a running gateway whether it lives; for container health checks.
    Health {
        /// Its admin address.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9787")]
        admin: std::net::SocketAddr,
    },
}

#[derive(Debug, Subcommand)]
enum Question {
    /// Which policy a request would get, and why.
    Resolve {
        /// The process configuration.
        #[arg(long, value_name = "FILE", default_value = "wardline.yaml")]
        config: PathBuf,
        #[command(flatten)]
        request: resolve::Request,
    },
}

/// Why a command ended without doing its work.
#[derive(Debug)]
pub(crate) enum Failed {
    /// It was told something that cannot be done; the text names file, place and what was expected.
    Told(String),
    /// It ran, and something broke.
    Ran(String),
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let command = match Arguments::try_parse() {
        Ok(arguments) => arguments.command,
        Err(said) => return usage(&said),
    };
    if let Err(error) = quiet() {
        return complain(&format!("the process could not be started without ONNX Runtime's telemetry: {error}"), 1);
    }
    let outcome = match command {
        Command::Serve { config } => serve::run(&config),
        Command::Demo { config } => demo::run(&config),
        Command::Check { config, policies } => check::run(&config, &policies),
        Command::Test { config, policies, junit } => test::run(&config, &policies, junit.as_deref()),
        Command::Render { config, policy, dialect } => render::run(&config, policy, dialect),
        Command::Policy { question: Question::Resolve { config, request } } => resolve::run(&config, &request),
        Command::Schema { of } => schema::run(of),
        Command::Calibrate(arguments) => calibrate::run(&arguments),
        Command::Diff(arguments) => diff::run(&arguments),
        Command::Eval(arguments) => eval::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Health { admin } => health::run(admin),
        Command::Judge(arguments) => judge::run(&arguments),
        Command::Pairs { command } => pairs::run(command),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed::Told(text)) => complain(&text, 64),
        Err(Failed::Ran(text)) => complain(&text, 1),
    }
}

/// Help and version go to standard output and are no failure; everything else that clap says is.
fn usage(said: &clap::Error) -> ExitCode {
    // As in `complain`: the exit code tells, even where nobody listens.
    let _gone = said.print();
    if said.use_stderr() { ExitCode::from(64) } else { ExitCode::SUCCESS }
}

/// ONNX Runtime's builds since 1.29 report home as soon as they are loaded, unless this variable is set before; what
/// the session options say comes too late. A process cannot safely set its own environment, so it begins again with it.
fn quiet() -> std::io::Result<()> {
    const SILENCE: &str = "ORT_DISABLE_TELEMETRY";
    if std::env::var_os(SILENCE).is_some_and(|value| value == "1") {
        return Ok(());
    }
    Err(std::process::Command::new(std::env::current_exe()?).args(std::env::args_os().skip(1)).env(SILENCE, "1").exec())
}

fn complain(text: &str, code: u8) -> ExitCode {
    let text = text.trim_end();
    let line = if text.starts_with("error") { format!("{text}\n") } else { format!("error: {text}\n") };
    // Nothing is left to be done when even standard error is gone; the exit code still tells.
    let _gone = std::io::stderr().write_all(line.as_bytes());
    ExitCode::from(code)
}
