//! `wardline render`

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::Failed;
use super::assemble::{configured, known_unloaded};
use super::output::print;
use super::policies::files;
use crate::api::{Dialect, sample};
use crate::policy::{Policy, tokens};

/// The dialects in which a constitution goes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Wire {
    /// `POST /v1/chat/completions`
    Openai,
    /// `POST /v1/responses`
    Responses,
    /// `POST /v1/completions`
    Completions,
    /// `POST /v1/messages`
    Anthropic,
}

pub(super) fn run(config: &Path, policy: PathBuf, wire: Option<Wire>) -> Result<(), Failed> {
    let config = configured(config)?;
    let mut text = String::new();
    for file in files(&config, &[policy], &known_unloaded(&config)?)? {
        text.push_str(&shown(&file.policy, wire).map_err(|error| Failed::Ran(error.to_string()))?);
    }
    print(&text)
}

/// The constitution for people, then the bodies byte for byte.
fn shown(policy: &Policy, wire: Option<Wire>) -> Result<String, crate::api::ReadError> {
    let constitution = &policy.constitution.text;
    let mut out = format!(
        "# {}: {} bytes, about {} tokens\n{constitution}\n",
        policy.name,
        constitution.len(),
        tokens(constitution)
    );
    for dialect in sample::INSTRUCTED.into_iter().filter(|dialect| wire.is_none_or(|wire| wire.dialect() == *dialect)) {
        let body = sample::injected(dialect, constitution, policy.inject.inject())?;
        let _ = writeln!(out, "\n# POST {}\n{}", dialect.path(), String::from_utf8_lossy(&body));
    }
    Ok(out)
}

impl Wire {
    fn dialect(self) -> Dialect {
        match self {
            Self::Openai => Dialect::OpenAiChat,
            Self::Responses => Dialect::OpenAiResponses,
            Self::Completions => Dialect::OpenAiCompletions,
            Self::Anthropic => Dialect::AnthropicMessages,
        }
    }
}
