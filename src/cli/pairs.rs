//! `wardline pairs`: what the spool holds, and what training tools get of it.

mod work;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::Failed;
use crate::pairs::{Format, Selection, Split, Tag};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Count rows by source, policy, principle, rule, model, split and tag, with a histogram of margins.
    Stats {
        #[command(flatten)]
        rows: Rows,
        #[command(flatten)]
        choice: Choice,
    },
    /// Check every row, and tell each mistake with file and line.
    Validate {
        #[command(flatten)]
        rows: Rows,
    },
    /// Write each row once: of rows that hold the same words, the first.
    Dedupe {
        #[command(flatten)]
        rows: Rows,
        #[command(flatten)]
        out: Out,
    },
    /// Write clean rows in the shape that a training tool reads.
    Export {
        /// The shape.
        #[arg(long, value_enum)]
        format: Shape,
        #[command(flatten)]
        rows: Rows,
        #[command(flatten)]
        out: Out,
        #[command(flatten)]
        choice: Choice,
    },
}

/// Where rows come from.
#[derive(Debug, Args)]
pub(super) struct Rows {
    /// Files of rows (.jsonl, plain or packed by gzip or zstd, or .parquet), or directories of such files.
    #[arg(value_name = "PATH", default_value = "pairs")]
    paths: Vec<PathBuf>,
}

/// Where lines go.
#[derive(Debug, Args)]
pub(super) struct Out {
    /// The file to write, packed if its name ends in .gz or .zst; standard output if none is given. It is put in place
    /// when it is complete.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Which rows are clean.
#[derive(Debug, Args)]
pub(super) struct Choice {
    /// By how much the rejected answer's score must exceed the chosen one's, where the rule has scores.
    #[arg(long, value_name = "NUMBER", default_value_t = Selection::default().margin, value_parser = margin)]
    margin: f32,
    /// Take rows with these tags all the same.
    #[arg(long, value_name = "TAG", value_enum, value_delimiter = ',')]
    include: Vec<TagWord>,
    /// Take what is read from people's doings too (copied, asked for another answer), not only what they said.
    #[arg(long)]
    implicit: bool,
    /// Only rows of this split.
    #[arg(long, value_enum)]
    split: Option<SplitWord>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Shape {
    /// TRL: prompt, chosen, rejected (DPO, CPO, ORPO, reward models).
    Trl,
    /// `OpenAI`, Azure and others: input, `preferred_output`, `non_preferred_output`.
    #[value(name = "openai-dpo")]
    OpenAiDpo,
    /// LLaMA-Factory: sharegpt with ranking; writes its `dataset_info.json` too.
    LlamaFactory,
    /// Axolotl: rl: dpo, type: `chat_template.default`.
    Axolotl,
    /// TRL: prompt, completion, label; takes blocked answers too.
    Kto,
    /// Messages with the better answer only.
    Sft,
    /// Dialogues as text.
    Hh,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TagWord {
    Aborted,
    Truncated,
    #[value(name = "failed_open")]
    FailedOpen,
    #[value(name = "mixed_revision")]
    MixedRevision,
    #[value(name = "position_bias")]
    PositionBias,
    #[value(name = "tool_calls")]
    ToolCalls,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SplitWord {
    Train,
    Val,
    Test,
}

pub(super) fn run(command: Command) -> Result<(), Failed> {
    match command {
        Command::Stats { rows, choice } => work::stats(&rows.paths, &choice.selection()),
        Command::Validate { rows } => work::validate(&rows.paths),
        Command::Dedupe { rows, out } => work::dedupe(&rows.paths, out.out.as_deref()),
        Command::Export { format, rows, out, choice } => {
            work::export(format.format(), &rows.paths, out.out.as_deref(), &choice.selection())
        }
    }
}

impl Choice {
    fn selection(&self) -> Selection {
        let include = self.include.iter().map(|word| match word {
            TagWord::Aborted => Tag::Aborted,
            TagWord::Truncated => Tag::Truncated,
            TagWord::FailedOpen => Tag::FailedOpen,
            TagWord::MixedRevision => Tag::MixedRevision,
            TagWord::PositionBias => Tag::PositionBias,
            TagWord::ToolCalls => Tag::ToolCalls,
        });
        let split = self.split.map(|word| match word {
            SplitWord::Train => Split::Train,
            SplitWord::Val => Split::Val,
            SplitWord::Test => Split::Test,
        });
        Selection { margin: self.margin, include: include.collect(), implicit: self.implicit, split }
    }
}

impl Shape {
    fn format(self) -> Format {
        match self {
            Self::Trl => Format::Trl,
            Self::OpenAiDpo => Format::OpenAiDpo,
            Self::LlamaFactory => Format::LlamaFactory,
            Self::Axolotl => Format::Axolotl,
            Self::Kto => Format::Kto,
            Self::Sft => Format::Sft,
            Self::Hh => Format::Hh,
        }
    }
}

fn margin(written: &str) -> Result<f32, String> {
    match written.parse() {
        Ok(number) if (0.0..=1.0).contains(&number) => Ok(number),
        _ => Err("expected a number from 0 to 1".to_owned()),
    }
}
