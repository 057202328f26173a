//! Tests that a policy file brings along: as written, checked against its rules, and how they went.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::checked::{Action, Mode, Rule};
use super::schema::written;
use crate::api::{Dialect, Origin};
use crate::yaml::{Problem, Source, Spanned, expected};

/// One example of what a policy does with a prompt or an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// Unique within its file; for people.
    pub name: String,
    /// What is judged.
    pub probe: Probe,
    /// What is known of the request, for rules with a condition.
    pub given: Given,
    /// What should come of it.
    pub expect: Expected,
}

/// What is known of a test's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Its route, by its name in metrics.
    pub route: &'static str,
    /// The model that it names.
    pub model: String,
    /// Whose it is; empty for nobody's.
    pub tenant: String,
    /// Whether its answer is to be streamed.
    pub stream: bool,
    /// The tools that it offers.
    pub tools: Vec<String>,
}

/// What a test has judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A request with these texts, in this order; never empty.
    Prompt(Vec<(Origin, String)>),
    /// A whole answer.
    Answer(String),
    /// The arguments of a tool call in an answer.
    ToolCall(String),
}

/// What should come of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The heaviest action of the enforced rules that are hit; `None` is `allow`.
    pub action: Option<Action>,
    /// Rules that are hit, among others perhaps, those in shadow mode too.
    pub rules: Vec<String>,
}

/// How one test went.
#[derive(Clone, Debug)]
pub struct Proof {
    /// What came instead of what was expected; without any text of the test.
    pub failure: Option<String>,
    /// From its start to its verdict, other tests under way at the same time.
    pub took: Duration,
}

/// A prompt or an answer, and what the policy does with it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a test: a mapping with `name`, `expect`, and one of `text`, `messages`, `answer` and `tool_call`"
)]
#[schemars(rename = "Test", extend("oneOf" = [
    {"required": ["text"]},
    {"required": ["messages"]},
    {"required": ["answer"]},
    {"required": ["tool_call"]},
]))]
pub(super) struct Written {
    /// Unique within the file; says what the policy does.
    pub(super) name: Spanned<String>,
    /// A user's message.
    #[serde(default, deserialize_with = "written")]
    text: Option<Spanned<String>>,
    /// A conversation.
    #[serde(default, deserialize_with = "written")]
    #[schemars(length(min = 1))]
    messages: Option<Spanned<Vec<Message>>>,
    /// A whole answer of the model.
    #[serde(default, deserialize_with = "written")]
    answer: Option<Spanned<String>>,
    /// The arguments of a tool call in an answer of the model.
    #[serde(default, deserialize_with = "written")]
    tool_call: Option<Spanned<String>>,
    /// What is known of the request, for rules with `when`.
    #[serde(default)]
    given: WrittenGiven,
    /// What should come of it.
    expect: Expect,
}

/// What is known of a test's request; what is left out is as in a plain chat of nobody's.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with `route`, `model`, `tenant`, `stream` or `tools`")]
#[schemars(rename = "Given")]
struct WrittenGiven {
    /// The route, by its name in metrics; by default `chat`.
    #[serde(default, deserialize_with = "written")]
    route: Option<Spanned<String>>,
    /// The model that the client names.
    #[serde(default)]
    model: String,
    /// The tenant's name, as the process configuration has it.
    #[serde(default, deserialize_with = "written")]
    tenant: Option<Spanned<String>>,
    /// Whether the answer is to be streamed.
    #[serde(default)]
    stream: bool,
    /// The names of the tools that the request offers.
    #[serde(default)]
    tools: Vec<String>,
}

/// One message of a conversation.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a message: a mapping with `role` and `content`")]
struct Message {
    /// Whose text it is.
    role: Speaker,
    /// The text.
    content: Spanned<String>,
}

/// Whose text it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Speaker {
    /// A system prompt.
    System,
    /// A developer message.
    Developer,
    /// A user's message.
    User,
    /// An earlier answer.
    Assistant,
    /// What a tool brought.
    Tool,
    /// An attached document.
    Document,
    /// The arguments of an earlier tool call.
    ToolCall,
}

/// What should come of a test.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with `action`, and `rules` if those matter")]
struct Expect {
    /// The heaviest action of the enforced rules that are hit; `allow` if none is.
    action: Spanned<Outcome>,
    /// Rules that are hit, among others perhaps.
    #[serde(default)]
    rules: Vec<Spanned<String>>,
}

/// What is done with a text, mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Allow,
    Audit,
    Redact,
    Revise,
    Block,
}

/// The first mistake of the test, or the test.
pub(super) fn check(
    source: Source<'_>,
    test: &Spanned<Written>,
    rules: &[Rule],
    tenants: &[String],
) -> Result<Test, Problem> {
    let name = source.said(&test.value.name)?;
    if name.chars().any(char::is_control) {
        return Err(
            source.problem(test.value.name.referenced, "a test's name is read by people: no control characters")
        );
    }
    let probe = probe(source, test)?;
    let expect = expect(source, &test.value.expect, &probe, rules)?;
    let given = given(source, &test.value.given, tenants)?;
    Ok(Test { name, probe, given, expect })
}

fn given(source: Source<'_>, written: &WrittenGiven, tenants: &[String]) -> Result<Given, Problem> {
    let WrittenGiven { route, model, tenant, stream, tools } = written;
    if let Some(tenant) = tenant.as_ref().filter(|tenant| !tenants.contains(&tenant.value)) {
        let known = expected("tenant", &tenant.value, tenants.iter().map(String::as_str));
        return Err(source.problem(tenant.referenced, format!("unknown tenant `{}`, {known}", tenant.value)));
    }
    let tenant = tenant.as_ref().map(|tenant| tenant.value.clone()).unwrap_or_default();
    let (model, stream, tools) = (model.clone(), *stream, tools.clone());
    let named = route.as_ref().map_or("chat", |route| route.value.as_str());
    let mut routes = Dialect::ALL.map(Dialect::route).into_iter();
    match (routes.find(|known| *known == named), route) {
        (None, Some(route)) => {
            let known = expected("route", named, Dialect::ALL.map(Dialect::route));
            Err(source.problem(route.referenced, format!("unknown route `{named}`, {known}")))
        }
        (found, _) => Ok(Given { route: found.unwrap_or("chat"), model, tenant, stream, tools }),
    }
}

fn probe(source: Source<'_>, test: &Spanned<Written>) -> Result<Probe, Problem> {
    let said = |written: &Spanned<String>| {
        source.said(written)?;
        Ok(written.value.clone())
    };
    let Written { text, messages, answer, tool_call, .. } = &test.value;
    match (text, messages, answer, tool_call) {
        (Some(user), None, None, None) => Ok(Probe::Prompt(vec![(Origin::User, said(user)?)])),
        (None, Some(messages), None, None) => {
            if messages.value.is_empty() {
                return Err(source.problem(messages.referenced, "a conversation needs a message"));
            }
            let texts = messages.value.iter().map(|message| Ok((message.role.origin(), said(&message.content)?)));
            texts.collect::<Result<_, _>>().map(Probe::Prompt)
        }
        (None, None, Some(answer), None) => Ok(Probe::Answer(said(answer)?)),
        (None, None, None, Some(arguments)) => Ok(Probe::ToolCall(said(arguments)?)),
        (None, None, None, None) => {
            let message =
                "a test needs something to judge: `text` (a user's message), `messages`, `answer` or `tool_call`";
            Err(source.problem(test.referenced, message))
        }
        _ => {
            let message = "one test, one thing to judge: `text`, `messages`, `answer` or `tool_call`";
            Err(source.problem(test.referenced, message))
        }
    }
}

/// A test that cannot pass, whatever the guards say, is a mistake of its author.
fn expect(source: Source<'_>, written: &Expect, probe: &Probe, rules: &[Rule]) -> Result<Expected, Problem> {
    let action = written.action.value.action();
    let prompt = matches!(probe, Probe::Prompt(_));
    if prompt && action == Some(Action::Revise) {
        return Err(source.problem(written.action.referenced, "a prompt is never revised: only an `answer` is"));
    }
    source.unique("rule", &written.rules)?;
    for named in &written.rules {
        let Some(rule) = rules.iter().find(|rule| rule.id == named.value) else {
            let ids = rules.iter().map(|rule| rule.id.as_str());
            let message = format!("unknown rule `{}`, {}", named.value, expected("rule", &named.value, ids));
            return Err(source.problem(named.referenced, message));
        };
        let looks = if prompt { rule.stages.input } else { rule.stages.output };
        if !looks {
            let what = if prompt { "a prompt" } else { "an answer" };
            let stage = if prompt { "input" } else { "output" };
            let message = format!("rule `{}` never looks at {what}: `{stage}` is not among its stages", rule.id);
            return Err(source.problem(named.referenced, message));
        }
        if rule.mode == Mode::Enforce && action < Some(rule.action) {
            let message = format!(
                "a hit of rule `{}` leads to `{}`, so that no less can be expected",
                rule.id,
                rule.action.as_str()
            );
            return Err(source.problem(written.action.referenced, message));
        }
    }
    Ok(Expected { action, rules: written.rules.iter().map(|rule| rule.value.clone()).collect() })
}

impl Speaker {
    fn origin(self) -> Origin {
        match self {
            Self::System => Origin::System,
            Self::Developer => Origin::Developer,
            Self::User => Origin::User,
            Self::Assistant => Origin::Assistant,
            Self::Tool => Origin::ToolResult,
            Self::Document => Origin::Document,
            Self::ToolCall => Origin::ToolArgs,
        }
    }
}

impl Outcome {
    fn action(self) -> Option<Action> {
        match self {
            Self::Allow => None,
            Self::Audit => Some(Action::Audit),
            Self::Redact => Some(Action::Redact),
            Self::Revise => Some(Action::Revise),
            Self::Block => Some(Action::Block),
        }
    }
}
