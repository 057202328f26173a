//! `when`: a condition in CEL on what is known of a request beside its texts. Names and types are checked when the policy
//! is loaded, so that what is left to go wrong at a request is arithmetic.
//!
//! The cost is bounded by the language that is allowed: no loops, no regular expressions, no text that grows, and
//! an expression of at most [`MAX_CHARS`] characters.

use std::ops::Range;
use std::sync::Arc;

use cel::common::ast::{CallExpr, Expr, LiteralValue, operators};
use cel::common::types::{CelBool, CelInt, CelList, CelString};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::parser::Parser;
use cel::{Context, Env, IdedExpr, Value};
use serde::{Serialize, Serializer};

use super::schema::Stage;
use crate::api::{Dialect, Origin};
use crate::yaml::{expected, ticked};

/// The longest condition.
const MAX_CHARS: usize = 1024;
/// How deep a condition may be nested.
const MAX_DEPTH: u16 = 24;

/// What a condition may speak of.
const NAMES: [&str; 8] = ["route", "model", "tenant", "stream", "tools", "stage", "origin", "length"];

/// What is known of a request and of one of its texts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// The route, by its name in metrics.
    pub route: &'a str,
    /// The model that the client names.
    pub model: &'a str,
    /// Whose request it is; empty where nobody knows.
    pub tenant: &'a str,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// The names of the tools that the request offers.
    pub tools: &'a [String],
    /// `input` or `output`.
    pub stage: &'a str,
    /// Who is behind the text.
    pub origin: &'a str,
    /// Bytes of the text; in a stream, of all that has come of it.
    pub length: usize,
}

/// A condition that was understood.
#[derive(Clone)]
pub struct When {
    source: String,
    compiled: Arc<Compiled>,
}

struct Compiled {
    expression: IdedExpr,
    env: Arc<Env>,
    by_length: bool,
    by_tools: bool,
}

/// What is wrong with a condition, and where in it, in bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) at: Range<usize>,
    pub(super) message: String,
}

/// A condition could not be decided: a number grew too large, or was divided by zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the condition cannot be decided")]
pub struct Undecided;

impl When {
    /// Reads a condition and checks what it speaks of; `tenants` are those that there are.
    pub(super) fn compile(source: &str, tenants: &[String]) -> Result<Self, Wrong> {
        if source.chars().count() > MAX_CHARS {
            let message = format!("a condition is short: expected at most {MAX_CHARS} characters");
            return Err(Wrong { at: 0..0, message });
        }
        let parser = Parser::new().max_recursion_depth(MAX_DEPTH).error_recovery_limit(1);
        let (expression, places) =
            parser.parse_with_source_info(source).map_err(|errors| unreadable(source, &errors))?;
        let place = |id: u64| match places.offset_for(id) {
            Some((start, end)) => start as usize..end as usize + 1,
            None => 0..source.len(),
        };
        let mut check = Check { tenants, by_length: false, by_tools: false };
        let refused = |refused: Refused| Wrong { at: place(refused.node), message: refused.message };
        match check.kind(&expression).map_err(refused)? {
            Kind::Bool => {}
            other => {
                let message = format!("a condition is true or false, and this is {}", other.told());
                return Err(Wrong { at: place(expression.id), message });
            }
        }
        let Check { by_length, by_tools, .. } = check;
        let compiled = Compiled { expression, env: Arc::new(Env::stdlib()), by_length, by_tools };
        Ok(Self { source: source.to_owned(), compiled: Arc::new(compiled) })
    }

    /// Whether it holds.
    pub fn holds(&self, facts: &Facts<'_>) -> Result<bool, Undecided> {
        let mut context = Context::with_env(Arc::clone(&self.compiled.env));
        context.set_variable_resolver(facts);
        match context.resolve(&self.compiled.expression) {
            Ok(Value::Bool(holds)) => Ok(holds),
            _ => Err(Undecided),
        }
    }

    /// As written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it depends on the text's length, so that it has to be asked text by text.
    pub fn by_length(&self) -> bool {
        self.compiled.by_length
    }

    /// Whether it depends on the tools that a request offers.
    pub fn by_tools(&self) -> bool {
        self.compiled.by_tools
    }
}

impl PartialEq for When {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl std::fmt::Debug for When {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "When({:?})", self.source)
    }
}

impl Serialize for When {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

impl VariableResolver for Facts<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        let text = |text: &'b str| CowVal::owned(CelString::from(text));
        Some(match name {
            "route" => text(self.route),
            "model" => text(self.model),
            "tenant" => text(self.tenant),
            "stage" => text(self.stage),
            "origin" => text(self.origin),
            "stream" => CowVal::owned(CelBool::from(self.stream)),
            "length" => CowVal::owned(CelInt::from(i64::try_from(self.length).unwrap_or(i64::MAX))),
            "tools" => {
                let tool = |name: &'b String| Box::new(CelString::from(name.as_str())) as Box<dyn Val + 'b>;
                CowVal::owned(CelList::from(self.tools.iter().map(tool).collect::<Vec<_>>()))
            }
            _ => return None,
        })
    }
}

/// The parser's first complaint, without its list of all tokens.
fn unreadable(source: &str, errors: &cel::ParseErrors) -> Wrong {
    let Some(first) = errors.errors.first() else { return Wrong { at: 0..0, message: "no condition".to_owned() } };
    let (line, column) = first.pos;
    let told = first.msg.trim_start_matches("Syntax error: ");
    let told = told.split(" expecting ").next().unwrap_or(told).replace("<EOF>", "end");
    let before: usize = source.split_inclusive('\n').take(usize::try_from(line - 1).unwrap_or(0)).map(str::len).sum();
    let rest = source.get(before..).unwrap_or_default();
    let chars = usize::try_from(column - 1).unwrap_or(0);
    let start = before + rest.char_indices().nth(chars).map_or(rest.len(), |(at, _)| at);
    Wrong { at: start..start + 1, message: format!("not a condition in CEL: {told}") }
}

/// What an expression gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bool,
    Int,
    Text,
    /// A text of which all values are known.
    Word(Words),
    Texts,
    Ints,
}

/// A set of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Words {
    Route,
    Stage,
    Origin,
    Tenant,
}

/// Something that the check does not allow, at a node.
struct Refused {
    node: u64,
    message: String,
}

struct Check<'a> {
    tenants: &'a [String],
    by_length: bool,
    by_tools: bool,
}

impl Check<'_> {
    fn kind(&mut self, node: &IdedExpr) -> Result<Kind, Refused> {
        let refuse = |message: String| Err(Refused { node: node.id, message });
        match &node.expr {
            Expr::Literal(LiteralValue::Boolean(_)) => Ok(Kind::Bool),
            Expr::Literal(LiteralValue::Int(_)) => Ok(Kind::Int),
            Expr::Literal(LiteralValue::String(_)) => Ok(Kind::Text),
            Expr::Literal(_) => refuse("expected a text, a whole number, `true` or `false`".to_owned()),
            Expr::Ident(name) => self
                .name(name)
                .map_or_else(|| refuse(format!("unknown name `{name}`, {}", expected("name", name, NAMES))), Ok),
            Expr::List(list) => self.list(node.id, &list.elements),
            Expr::Call(call) => self.call(node.id, call),
            Expr::Comprehension(_) => {
                refuse("loops are not allowed in a condition: use `\"name\" in tools`".to_owned())
            }
            _ => refuse(format!("expected one of {} in an expression without fields", ticked(&NAMES))),
        }
    }

    fn name(&mut self, name: &str) -> Option<Kind> {
        self.by_length |= name == "length";
        self.by_tools |= name == "tools";
        Some(match name {
            "route" => Kind::Word(Words::Route),
            "stage" => Kind::Word(Words::Stage),
            "origin" => Kind::Word(Words::Origin),
            "tenant" => Kind::Word(Words::Tenant),
            "model" => Kind::Text,
            "stream" => Kind::Bool,
            "tools" => Kind::Texts,
            "length" => Kind::Int,
            _ => return None,
        })
    }

    fn list(&mut self, node: u64, elements: &[IdedExpr]) -> Result<Kind, Refused> {
        let mut all = None;
        for element in elements {
            let kind = self.kind(element)?.as_text();
            if !matches!(kind, Kind::Text | Kind::Int) || all.is_some_and(|all| all != kind) {
                let message = "expected a list of texts, or of whole numbers".to_owned();
                return Err(Refused { node: element.id, message });
            }
            all = Some(kind);
        }
        match all {
            Some(Kind::Int) => Ok(Kind::Ints),
            Some(_) => Ok(Kind::Texts),
            None => Err(Refused { node, message: "an empty list holds nothing".to_owned() }),
        }
    }

    fn call(&mut self, node: u64, call: &CallExpr) -> Result<Kind, Refused> {
        let operands: Vec<&IdedExpr> = call.target.as_deref().into_iter().chain(&call.args).collect();
        let kinds = operands.iter().map(|operand| self.kind(operand)).collect::<Result<Vec<_>, _>>()?;
        let plain: Vec<Kind> = kinds.iter().copied().map(Kind::as_text).collect();
        let refuse = |message: String| Err(Refused { node, message });
        let name = call.func_name.as_str();
        match (name, plain.as_slice()) {
            (operators::LOGICAL_AND | operators::LOGICAL_OR, all) if all.iter().all(|kind| *kind == Kind::Bool) => {
                Ok(Kind::Bool)
            }
            (operators::CONDITIONAL, [Kind::Bool, one, other]) if one == other => Ok(*one),
            (operators::EQUALS | operators::NOT_EQUALS, [Kind::Text, Kind::Text]) => {
                self.known(&kinds, &operands)?;
                Ok(Kind::Bool)
            }
            (operators::LOGICAL_NOT, [Kind::Bool])
            | (operators::EQUALS | operators::NOT_EQUALS, [Kind::Int, Kind::Int] | [Kind::Bool, Kind::Bool])
            | (
                operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS,
                [Kind::Int, Kind::Int],
            )
            | ("startsWith" | "endsWith" | "contains", [Kind::Text, Kind::Text])
            | (operators::IN, [Kind::Int, Kind::Ints]) => Ok(Kind::Bool),
            (operators::IN, [Kind::Text, Kind::Texts]) => {
                if let (Kind::Word(_), Expr::List(list)) = (kinds[0], &operands[1].expr) {
                    for element in &list.elements {
                        self.known(&[kinds[0], Kind::Text], &[operands[0], element])?;
                    }
                }
                Ok(Kind::Bool)
            }
            (
                operators::ADD | operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE | operators::MODULO,
                [Kind::Int, Kind::Int],
            )
            | (operators::NEGATE, [Kind::Int])
            | ("size", [Kind::Text | Kind::Texts]) => Ok(Kind::Int),
            _ if is_known(name) => {
                let told: Vec<&str> = kinds.iter().copied().map(Kind::told).collect();
                refuse(format!("`{}` does not go with {}", shown(name), told.join(" and ")))
            }
            _ => refuse(format!("unknown function `{name}`, {}", expected("function", name, FUNCTIONS))),
        }
    }

    /// A word that is compared with what it can never be is a mistake.
    fn known(&self, kinds: &[Kind], operands: &[&IdedExpr]) -> Result<(), Refused> {
        let words = kinds.iter().find_map(|kind| if let Kind::Word(words) = kind { Some(*words) } else { None });
        let Some(words) = words else { return Ok(()) };
        let (what, known): (&str, Vec<&str>) = match words {
            Words::Route => ("route", Dialect::ALL.iter().map(|dialect| dialect.route()).collect()),
            Words::Stage => ("stage", vec![Stage::Input.as_str(), Stage::Output.as_str()]),
            Words::Origin => ("origin", Origin::ALL.iter().map(|origin| origin.as_str()).collect()),
            Words::Tenant => ("tenant", self.tenants.iter().map(String::as_str).collect()),
        };
        for operand in operands {
            let Expr::Literal(LiteralValue::String(word)) = &operand.expr else { continue };
            let nobody = words == Words::Tenant && word.inner().is_empty();
            if !nobody && !known.contains(&word.inner()) {
                let told = expected(what, word.inner(), known.iter().copied());
                return Err(Refused {
                    node: operand.id,
                    message: format!("unknown {what} `{}`, {told}", word.inner()),
                });
            }
        }
        Ok(())
    }
}

const FUNCTIONS: [&str; 4] = ["size", "startsWith", "endsWith", "contains"];

fn is_known(name: &str) -> bool {
    !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') || name.contains("_[") || FUNCTIONS.contains(&name)
}

/// An operator as it is written.
fn shown(name: &str) -> &str {
    if name == operators::IN { "in" } else { name.trim_matches('_') }
}

impl Kind {
    fn as_text(self) -> Self {
        if let Self::Word(_) = self { Self::Text } else { self }
    }

    fn told(self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Int => "a whole number",
            Self::Text | Self::Word(_) => "a text",
            Self::Texts => "a list of texts",
            Self::Ints => "a list of whole numbers",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn when(source: &str) -> Result<When, Wrong> {
        When::compile(source, &["acme".to_owned()])
    }

    #[test]
    fn conditions_hold_or_not() {
        let tools = ["shell".to_owned(), "mail".to_owned()];
        let facts = Facts {
            route: "chat",
            model: "gpt-5-mini",
            tenant: "acme",
            stream: true,
            tools: &tools,
            stage: "input",
            origin: "tool_result",
            length: 1200,
        };
        for (source, holds) in [
            ("stream", true),
            ("!stream || length > 1000", true),
            ("tenant == 'acme' && model.startsWith('gpt-')", true),
            ("origin in ['user', 'tool_result']", true),
            ("'shell' in tools && size(tools) == 2", true),
            ("tenant == ''", false),
            ("stage == \"output\"", false),
            ("length / 100 in [11, 13]", false),
            ("(stream ? length : 0) >= 1200", true),
            ("model.contains('5') && model.endsWith('mini') && model.size() < 20", true),
        ] {
            assert_eq!(when(source).unwrap().holds(&facts), Ok(holds), "{source}");
        }
        assert_eq!(when("length / 0 > 1").unwrap().holds(&facts), Err(Undecided));
        assert_eq!(when("length * 9223372036854775807 > 1").unwrap().holds(&facts), Err(Undecided));
        assert!(when("length > 1").unwrap().by_length() && !when("stream").unwrap().by_length());
        assert!(when("'a' in tools").unwrap().by_tools());
    }

    #[test]
    fn mistakes_are_told_where_they_are() {
        for (source, part, told) in [
            ("stage == 'input' && orign == 'user'", "orign", "did you mean `origin`?"),
            ("stage == 'inputs'", "'inputs'", "did you mean `input`?"),
            ("origin in ['user', 'tools']", "'tools'", "unknown origin `tools`"),
            ("tenant != 'acma'", "'acma'", "did you mean `acme`?"),
            ("stream && length", "&&", "`&&` does not go with true or false and a whole number"),
            ("model.matches('gpt.*')", "(", "unknown function `matches`"),
            ("tools.exists(t, t == 'a')", "(", "loops are not allowed"),
            ("request.model == 'a'", ".", "without fields"),
            ("length", "length", "a condition is true or false, and this is a whole number"),
            ("length > 1.5", "1.5", "a whole number"),
            ("stage == ", "", "not a condition in CEL: mismatched input 'end'"),
            ("stream )", ")", "not a condition in CEL: extraneous input ')'"),
        ] {
            let wrong = when(source).unwrap_err();
            assert!(wrong.message.contains(told), "{source}: {}", wrong.message);
            let at = if part.is_empty() { source.len() } else { source.find(part).unwrap() };
            assert_eq!(wrong.at.start, at, "{source}: {wrong:?}");
        }
        assert!(when(&"stream && ".repeat(200)).unwrap_err().message.contains("at most 1024"));
        assert!(when(&"(".repeat(1000)).is_err());
    }

    proptest! {
        /// Whatever is written, reading it ends, and what is understood is decided.
        #[test]
        fn no_text_breaks_the_reader(source in "[a-z'=&|!<>+*/()\\[\\], .0-9]{0,60}", length: usize) {
            match when(&source) {
                Ok(when) => { let _decided = when.holds(&Facts { length, ..Facts::default() }); }
                Err(wrong) => prop_assert!(wrong.at.start <= source.len()),
            }
        }
    }
}
