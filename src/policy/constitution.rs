//! The constitution as it is written -> the parts that are rendered, and the principles that revision asks about.

use std::path::{Component, Path};

use schemars::JsonSchema;
use serde::Deserialize;

use super::checked::{Constitution, Principle};
use super::render::{Case, Document, Example, Sources, Topics, View, Weighed, paragraphs, render, tokens};
use super::schema::{WORD, written};
use crate::yaml::{self, Problem, Source, Spanned, expected};

/// The budget of a constitution that does not set its own, in tokens.
const MAX_TOKENS: u32 = 4_000;

/// What every request is told before anything else.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{ preamble: …, principles: […] }`")]
#[schemars(rename = "Constitution")]
pub(super) struct Written {
    /// A text file beside this one (`*.md` or `*.txt`), for long prose. It comes first.
    #[serde(default, deserialize_with = "written")]
    #[schemars(regex(pattern = r"^[^/\\]+\.(md|txt)$"))]
    file: Option<Spanned<String>>,
    /// Prose before the principles.
    #[serde(default)]
    preamble: String,
    /// Numbered in this order; an earlier one outweighs a later one.
    #[serde(default)]
    principles: Vec<Spanned<WrittenPrinciple>>,
    /// What the assistant talks about, and what it says to everything else.
    #[serde(default, deserialize_with = "written")]
    topics: Option<WrittenTopics>,
    /// What the assistant relies on, and how it cites that.
    #[serde(default, deserialize_with = "written")]
    sources: Option<WrittenSources>,
    /// Value systems by whose light a question may be seen. They are set side by side, unless `perspective` picks one.
    #[serde(default)]
    perspectives: Vec<WrittenPerspective>,
    /// The id of the one perspective that the assistant takes.
    #[serde(default, deserialize_with = "written")]
    perspective: Option<Spanned<String>>,
    /// Tone and form of the answers.
    #[serde(default, deserialize_with = "written")]
    style: Option<Spanned<String>>,
    /// Worked examples of the difficult kind.
    #[serde(default)]
    cases: Vec<WrittenCase>,
    /// The constitution is paid for with every request: one that has more tokens is a mistake, and never cut. By default
    /// 4000. Counted alike everywhere: four ASCII characters are a token, and so is every other character.
    #[serde(default, deserialize_with = "written")]
    #[schemars(range(min = 1, max = 1_000_000))]
    max_tokens: Option<Spanned<u32>>,
}

/// One principle, with what to ask when an answer goes against it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a principle: a mapping with `id` and `text`")]
#[schemars(rename = "Principle")]
struct WrittenPrinciple {
    /// Unique within the policy, and kept when the text changes.
    #[schemars(regex(pattern = WORD))]
    id: Spanned<String>,
    /// The principle itself, as the model reads it.
    text: Spanned<String>,
    /// Whose wish may set it aside. Weightier principles come first in the file.
    #[serde(default, deserialize_with = "written")]
    authority: Option<Spanned<Authority>>,
    /// Good and bad answers, and why they are.
    #[serde(default)]
    examples: Vec<Spanned<WrittenExample>>,
    /// What a critic is asked about an answer. By default: where it goes against the text.
    #[serde(default, deserialize_with = "written")]
    critique: Option<Spanned<String>>,
    /// What a reviser is asked. By default: to follow the text.
    #[serde(default, deserialize_with = "written")]
    revision: Option<Spanned<String>>,
}

/// Whose wish may set a principle aside, weightiest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Authority {
    /// Nobody's. This is the default.
    Fixed,
    /// The application's, by its own system prompt.
    Application,
    /// The user's.
    User,
}

/// A good or a bad answer, or one of each.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an example: a mapping with `good` or `bad`, and `why`")]
#[schemars(rename = "Example", extend("anyOf" = [{"required": ["good"]}, {"required": ["bad"]}]))]
struct WrittenExample {
    /// What was asked.
    #[serde(default, deserialize_with = "written")]
    prompt: Option<Spanned<String>>,
    /// An answer that follows the principle.
    #[serde(default, deserialize_with = "written")]
    good: Option<Spanned<String>>,
    /// An answer that goes against it.
    #[serde(default, deserialize_with = "written")]
    bad: Option<Spanned<String>>,
    /// What makes the difference.
    #[serde(default, deserialize_with = "written")]
    why: Option<Spanned<String>>,
}

/// What the assistant talks about, and what it says to everything else.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with `allowed` and `off_topic`")]
#[schemars(rename = "Topics")]
struct WrittenTopics {
    /// The topics.
    #[schemars(length(min = 1))]
    allowed: Spanned<Vec<Spanned<String>>>,
    /// What the assistant says, word for word, to a question on anything else.
    off_topic: Spanned<String>,
}

/// What the assistant relies on, and how it cites that.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with `allowed` and `cite`")]
#[schemars(rename = "Sources")]
struct WrittenSources {
    /// The sources.
    #[schemars(length(min = 1))]
    allowed: Spanned<Vec<WrittenSource>>,
    /// How a statement names its source.
    cite: Spanned<String>,
    /// What the assistant says when none of the sources tells.
    #[serde(default, deserialize_with = "written")]
    otherwise: Option<Spanned<String>>,
}

/// One source.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a source: a mapping with `name`")]
#[schemars(rename = "SourceOfFacts")]
struct WrittenSource {
    /// As answers cite it.
    name: Spanned<String>,
    /// What it is, or where it is found.
    #[serde(default, deserialize_with = "written")]
    about: Option<Spanned<String>>,
}

/// One value system.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a perspective: a mapping with `id`, `name` and `text`")]
#[schemars(rename = "Perspective")]
struct WrittenPerspective {
    /// Unique within the policy.
    #[schemars(regex(pattern = WORD))]
    id: Spanned<String>,
    /// As answers call it.
    name: Spanned<String>,
    /// What it looks at and how it weighs.
    text: Spanned<String>,
}

/// A difficult prompt, the answer to give, and why.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a case: a mapping with `prompt`, `answer` and `why`")]
#[schemars(rename = "Case")]
struct WrittenCase {
    /// What is asked.
    prompt: Spanned<String>,
    /// A good answer, or the gist of one.
    answer: Spanned<String>,
    /// What makes it good.
    #[serde(default, deserialize_with = "written")]
    why: Option<Spanned<String>>,
}

/// Checks and renders a constitution; what is wrong goes to `found`.
pub(super) fn check(source: Source<'_>, written: Option<&Spanned<Written>>, found: &mut Vec<Problem>) -> Constitution {
    let Some(written) = written else { return Constitution { text: String::new(), principles: Vec::new() } };
    let place = written.referenced;
    let written = &written.value;
    let before = found.len();
    let mut keep = |problem: Problem| found.push(problem);
    let prose = written.file.as_ref().map(|file| prose(source, file)).transpose().map_err(&mut keep).ok().flatten();
    let (weighed, principles) = principles(source, &written.principles, &mut keep);
    let topics = written.topics.as_ref().map(|topics| topics_of(source, topics)).transpose();
    let sources = written.sources.as_ref().map(|sources| sources_of(source, sources)).transpose();
    let views = views(source, written);
    let style = written.style.as_ref().map(|style| source.said(style).map(|_| paragraphs(&style.value))).transpose();
    let cases = written.cases.iter().map(|case| case_of(source, case)).collect::<Result<Vec<_>, _>>();
    let document = Document {
        prose: prose.unwrap_or_default(),
        preamble: paragraphs(&written.preamble),
        principles: weighed,
        topics: topics.map_err(&mut keep).ok().flatten(),
        sources: sources.map_err(&mut keep).ok().flatten(),
        views: views.map_err(&mut keep).unwrap_or_default(),
        style: style.map_err(&mut keep).ok().flatten().unwrap_or_default(),
        cases: cases.map_err(&mut keep).unwrap_or_default(),
    };
    let text = render(&document);
    let limit = source.within(written.max_tokens.as_ref(), MAX_TOKENS, (1, 1_000_000));
    match limit {
        Ok(limit) if found.len() == before && tokens(&text) > limit as usize => {
            let message = format!(
                "the constitution has about {} tokens, over its limit of {limit}: shorten it, or set \
                 `constitution.max_tokens` to what every request may cost",
                tokens(&text)
            );
            let at = written.max_tokens.as_ref().map_or(place, |limit| limit.referenced);
            found.push(source.problem(at, message));
        }
        Ok(_) => {}
        Err(problem) => found.push(problem),
    }
    Constitution { text, principles }
}

/// The file lies beside the policy, so that the watch sees its edits and one mount holds both.
fn prose(source: Source<'_>, named: &Spanned<String>) -> Result<String, Problem> {
    let path = Path::new(&named.value);
    let beside = matches!(path.components().collect::<Vec<_>>().as_slice(), [Component::Normal(_)]);
    let kind = path.extension().is_some_and(|kind| kind == "md" || kind == "txt");
    if !beside || !kind {
        let message = format!("expected the name of a `*.md` or `*.txt` file beside this one, found `{}`", named.value);
        return Err(source.problem(named.referenced, message));
    }
    let (own, _) = source.written_at(named.referenced);
    let path = own.parent().unwrap_or(Path::new("")).join(path);
    let text = yaml::text_of(&path)
        .map_err(|error| source.problem(named.referenced, format!("{}: {error}", path.display())))?;
    let text = paragraphs(&text);
    if text.is_empty() {
        return Err(source.problem(named.referenced, format!("{}: expected prose, found blanks", path.display())));
    }
    Ok(text)
}

fn principles(
    source: Source<'_>,
    written: &[Spanned<WrittenPrinciple>],
    keep: &mut impl FnMut(Problem),
) -> (Vec<Weighed>, Vec<Principle>) {
    if let Err(problem) = source.unique("principle", written.iter().map(|principle| &principle.value.id)) {
        keep(problem);
    }
    let mut weighed: Vec<Weighed> = Vec::new();
    let mut principles = Vec::new();
    for written in written {
        let authority = written.value.authority.as_ref().map_or(Authority::Fixed, |authority| authority.value);
        if let Some(last) = weighed.last().filter(|last| last.authority > authority) {
            let message = format!(
                "`{}` outweighs `{}`, the authority of the principle before: move this principle up",
                authority.as_str(),
                last.authority.as_str()
            );
            let at = written.value.authority.as_ref().map_or(written.value.id.referenced, |written| written.referenced);
            keep(source.problem(at, message));
            continue;
        }
        match principle(source, &written.value) {
            Ok((principle, examples)) => {
                weighed.push(Weighed { authority, text: principle.text.clone(), examples });
                principles.push(principle);
            }
            Err(problem) => keep(problem),
        }
    }
    (weighed, principles)
}

fn principle(source: Source<'_>, written: &WrittenPrinciple) -> Result<(Principle, Vec<Example>), Problem> {
    let text = source.said(&written.text)?;
    let critique = match &written.critique {
        Some(written) => source.said(written)?,
        None => format!("Identify specific ways in which the last response goes against this principle: {text}"),
    };
    let revision = match &written.revision {
        Some(written) => source.said(written)?,
        None => format!("Rewrite the last response so that it follows this principle: {text}"),
    };
    let examples = written.examples.iter().map(|written| example(source, written)).collect::<Result<_, _>>()?;
    Ok((Principle { id: source.word(&written.id)?, text, critique, revision }, examples))
}

fn example(source: Source<'_>, written: &Spanned<WrittenExample>) -> Result<Example, Problem> {
    let WrittenExample { prompt, good, bad, why } = &written.value;
    if good.is_none() && bad.is_none() {
        return Err(source.problem(written.referenced, "an example shows a `good` or a `bad` answer, or one of each"));
    }
    let said = |written: &Option<Spanned<String>>| written.as_ref().map(|written| source.said(written)).transpose();
    Ok(Example { prompt: said(prompt)?, good: said(good)?, bad: said(bad)?, why: said(why)? })
}

fn topics_of(source: Source<'_>, written: &WrittenTopics) -> Result<Topics, Problem> {
    if written.allowed.value.is_empty() {
        let message = "an assistant without topics could say nothing (leave `topics` out for all)";
        return Err(source.problem(written.allowed.referenced, message));
    }
    source.unique("topic", &written.allowed.value)?;
    let allowed = written.allowed.value.iter().map(|topic| source.said(topic)).collect::<Result<_, _>>()?;
    Ok(Topics { allowed, off_topic: source.said(&written.off_topic)? })
}

fn sources_of(source: Source<'_>, written: &WrittenSources) -> Result<Sources, Problem> {
    if written.allowed.value.is_empty() {
        let message = "an assistant without sources could say nothing (leave `sources` out for all)";
        return Err(source.problem(written.allowed.referenced, message));
    }
    source.unique("source", written.allowed.value.iter().map(|source| &source.name))?;
    let one = |written: &WrittenSource| {
        let about = written.about.as_ref().map(|about| source.said(about)).transpose()?;
        Ok((source.said(&written.name)?, about))
    };
    Ok(Sources {
        allowed: written.allowed.value.iter().map(one).collect::<Result<_, _>>()?,
        cite: source.said(&written.cite)?,
        otherwise: written.otherwise.as_ref().map(|otherwise| source.said(otherwise)).transpose()?,
    })
}

/// All perspectives, or the one that is picked.
fn views(source: Source<'_>, written: &Written) -> Result<Vec<View>, Problem> {
    source.unique("perspective", written.perspectives.iter().map(|perspective| &perspective.id))?;
    let view = |written: &WrittenPerspective| {
        source.word(&written.id)?;
        Ok(View { name: source.said(&written.name)?, text: source.said(&written.text)? })
    };
    let mut views = written.perspectives.iter().map(view).collect::<Result<Vec<_>, _>>()?;
    let Some(picked) = &written.perspective else { return Ok(views) };
    let Some(index) = written.perspectives.iter().position(|perspective| perspective.id.value == picked.value) else {
        let ids = written.perspectives.iter().map(|perspective| perspective.id.value.as_str());
        let message =
            format!("unknown perspective `{}`, {}", picked.value, expected("perspective", &picked.value, ids));
        return Err(source.problem(picked.referenced, message));
    };
    Ok(vec![views.swap_remove(index)])
}

fn case_of(source: Source<'_>, written: &WrittenCase) -> Result<Case, Problem> {
    Ok(Case {
        prompt: source.said(&written.prompt)?,
        answer: source.said(&written.answer)?,
        why: written.why.as_ref().map(|why| source.said(why)).transpose()?,
    })
}

impl Authority {
    fn as_str(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Application => "application",
            Self::User => "user",
        }
    }
}
