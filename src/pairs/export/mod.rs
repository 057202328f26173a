//! Rows in the shapes that training tools read. Pure: a row in, lines out.
//!
//! Sources: TRL's `docs/source/dataset_formats.md`; `OpenAI`'s guide to direct preference optimisation; LLaMA-Factory's
//! `data/README.md`; Axolotl's `docs/rlhf.qmd`; the data set Anthropic/hh-rlhf.

mod shapes;
#[cfg(test)]
mod tests;
mod turns;

use serde_json::{Value, json};

use crate::pairs::row::{Pair, Row};
use turns::{Turn, turns};

/// A training tool's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// TRL's explicit-prompt conversational preference: DPO, CPO, ORPO, reward models.
    Trl,
    /// `OpenAI`'s direct preference optimisation, which Azure and others read too.
    OpenAiDpo,
    /// LLaMA-Factory's sharegpt shape with ranking; needs an entry in its `dataset_info.json`.
    LlamaFactory,
    /// Axolotl's `rl: dpo` with `type: chat_template.default`.
    Axolotl,
    /// TRL's unpaired preference. A pair gives two lines, a blocked answer one.
    Kto,
    /// The better answers only: a values-targeted set for supervised fine-tuning.
    Sft,
    /// Whole dialogues as text, as in Anthropic's HH-RLHF.
    Hh,
}

/// Why a row does not fit a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unfit {
    /// The shape is for two answers, or for good ones.
    Unpaired,
    /// The shape has no place for tool calls and their results, or not for words beside them.
    Tools,
    /// The shape wants turns that alternate, and these do not.
    Turns,
    /// The answer goes on from words that the client put in the model's mouth.
    Prefill,
    /// A text holds the mark that separates turns.
    Marker,
    /// A message holds something else than text.
    NoText,
}

impl Unfit {
    /// A few words for a report.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unpaired => "no pair",
            Self::Tools => "tool calls have no place in this format",
            Self::Turns => "turns do not alternate",
            Self::Prefill => "the prompt ends with the beginning of the answer",
            Self::Marker => "a text holds the mark between turns",
            Self::NoText => "a message is not text",
        }
    }
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 7] =
        [Self::Trl, Self::OpenAiDpo, Self::LlamaFactory, Self::Axolotl, Self::Kto, Self::Sft, Self::Hh];

    /// The word in options.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trl => "trl",
            Self::OpenAiDpo => "openai-dpo",
            Self::LlamaFactory => "llama-factory",
            Self::Axolotl => "axolotl",
            Self::Kto => "kto",
            Self::Sft => "sft",
            Self::Hh => "hh",
        }
    }

    /// The lines that a row gives.
    pub fn lines(self, row: &Row) -> Result<Vec<Value>, Unfit> {
        let prompt = turns(row.prompt())?;
        if matches!(prompt.last(), Some(Turn::Assistant { .. })) {
            return Err(Unfit::Prefill);
        }
        let pair = match row {
            Row::Pair(pair) => pair,
            Row::Unpaired(unpaired) if self == Self::Kto => {
                let tools = unpaired.tools.as_deref();
                return Ok(vec![shapes::kto(&prompt, &said(&unpaired.completion)?, unpaired.label, tools)]);
            }
            Row::Unpaired(_) => return Err(Unfit::Unpaired),
        };
        self.of_pair(pair, &prompt)
    }

    fn of_pair(self, pair: &Pair, prompt: &[Turn]) -> Result<Vec<Value>, Unfit> {
        let (chosen, rejected) = (said(&pair.chosen)?, said(&pair.rejected)?);
        let tools = pair.tools.as_deref();
        Ok(match self {
            Self::Trl => vec![shapes::trl(prompt, &chosen, &rejected, tools)],
            Self::OpenAiDpo => vec![shapes::openai_dpo(prompt, &chosen, &rejected, tools)],
            Self::LlamaFactory => vec![shapes::llama_factory(prompt, &chosen, &rejected, tools)?],
            Self::Axolotl => vec![shapes::axolotl(prompt, &chosen, &rejected)?],
            Self::Kto => {
                vec![shapes::kto(prompt, &chosen, true, tools), shapes::kto(prompt, &rejected, false, tools)]
            }
            Self::Sft => vec![shapes::sft(prompt, &chosen, tools)],
            Self::Hh => vec![shapes::hh(prompt, &chosen, &rejected)?],
        })
    }

    /// The entry of LLaMA-Factory's `dataset_info.json` for a file of this format; nothing for other formats.
    pub fn dataset_info(self, file_name: &str) -> Option<Value> {
        (self == Self::LlamaFactory).then(|| {
            let columns = json!({"messages": "conversations", "chosen": "chosen", "rejected": "rejected",
                "system": "system", "tools": "tools"});
            json!({"file_name": file_name, "formatting": "sharegpt", "ranking": true, "columns": columns})
        })
    }
}

/// One assistant message.
fn said(answer: &[Value]) -> Result<Turn, Unfit> {
    let mut said = turns(answer)?;
    match (said.pop(), said.is_empty()) {
        (Some(turn @ Turn::Assistant { .. }), true) => Ok(turn),
        _ => Err(Unfit::Turns),
    }
}
