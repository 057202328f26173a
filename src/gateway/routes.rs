//! Every route there is, in one table: what is guarded, what is denied and why, what needs no guard and why.
//!
//! `intake` routes by it and `/status` prints it, so that neither can know of a path that the other does not. What no
//! row mentions is a 404. Where a call goes follows from the row: the provider of its path, as configured.

use http::Method;

use crate::api::{Dialect, Family, Stored};
use crate::upstream::Provider;

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// `GET` or `POST`; `*` for every method.
    pub method: &'static str,
    /// A path as it must be written. `{…}` stands for one segment, `{model}` for one or more: names of models
    /// have slashes. `/*` at the end stands for nothing or anything below.
    pub path: &'static str,
    /// Whose path it is.
    pub provider: Provider,
    /// What becomes of its requests.
    pub kind: Kind,
    /// Names of query members that go up with the call.
    pub(super) query: &'static [&'static str],
    /// Only for clients that speak so: for the paths that both providers have.
    pub(super) speaks: Option<Family>,
}

/// What becomes of a route's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Read in this dialect and judged: the prompt, and the answer if it is a text.
    Enforced(Dialect),
    /// Served although no rule looks at a prompt, for a reason.
    Exempt(Dialect, &'static str),
    /// Served like an exempt one under a policy that declares it, else refused with a 403 that says why.
    Declared(Dialect, Stored, &'static str),
    /// Answered here, by no model: a word about an answer.
    Feedback(&'static str),
    /// Refused with a 403 that says why.
    Denied(&'static str),
}

impl Kind {
    /// The word on the status page.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Enforced(_) => "enforced",
            Kind::Exempt(..) | Kind::Feedback(_) => "exempt",
            Kind::Declared(..) => "denied unless declared",
            Kind::Denied(_) => "denied",
        }
    }

    /// Why it is not enforced.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Kind::Enforced(_) => None,
            Kind::Exempt(_, reason) | Kind::Declared(_, _, reason) | Kind::Feedback(reason) | Kind::Denied(reason) => {
                Some(reason)
            }
        }
    }
}

impl Route {
    /// Whether its path ends in the name of a model, which may hold slashes, written as such or as `%2F`.
    pub(super) fn names_model(&self) -> bool {
        self.path.ends_with(MODEL)
    }

    /// The model that a path of this row ends in.
    pub(super) fn model(&self, path: &str) -> Option<String> {
        let above = self.path.strip_suffix(MODEL)?;
        Some(path.strip_prefix(above)?.strip_prefix('/')?.replace("%2F", "/"))
    }

    /// The deployment that a path of this row names: the model is known by it, whatever the body says.
    pub(super) fn deployment<'p>(&self, path: &'p str) -> Option<&'p str> {
        let mut segments = self.path.split('/').zip(path.split('/'));
        segments.find(|(pattern, _)| *pattern == "{deployment}").map(|(_, segment)| segment)
    }
}

/// Why no row was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Miss {
    /// No row has this path.
    Path,
    /// The rows of this path want another method.
    Method(&'static str),
}

/// The row for a request; the first one that fits.
pub(super) fn find(method: &Method, path: &str, speaks: Family) -> Result<&'static Route, Miss> {
    let mut wanted = None;
    let spoken = |route: &Route| route.speaks.is_none_or(|only| only == speaks);
    for route in ROUTES.iter().filter(|route| fits(route.path, path) && spoken(route)) {
        if route.method == "*" || route.method == method.as_str() {
            return Ok(route);
        }
        wanted = wanted.or(Some(route.method));
    }
    Err(wanted.map_or(Miss::Path, Miss::Method))
}

/// A model's name at the end of a path.
const MODEL: &str = "/{model}";

fn fits(pattern: &str, path: &str) -> bool {
    if let Some(above) = pattern.strip_suffix(MODEL) {
        return path.strip_prefix(above).is_some_and(|name| name.len() > 1 && name.starts_with('/'));
    }
    if let Some(above) = pattern.strip_suffix("/*") {
        return path.strip_prefix(above).is_some_and(|below| below.is_empty() || below.starts_with('/'));
    }
    if !pattern.contains('{') {
        return pattern == path;
    }
    let mut segments = path.split('/');
    pattern.split('/').all(|wanted| segments.next().is_some_and(|segment| wanted == segment || wanted.starts_with('{')))
        && segments.next().is_none()
}

const STORED: &str = "what is stored at the provider was not judged here and could bring in text that nobody has seen";
const UPLOADS: &str = "files go to the provider and come back into prompts without having been judged";
const BATCHES: &str = "a batch is read and answered out of this gateway's sight";
const AGENTS: &str = "runs over state that the provider keeps are not seen by this gateway";
const REALTIME: &str = "a realtime session carries speech and events that no text guard can judge";
const SPEECH: &str = "speech cannot be inspected by text guards";
const PICTURES: &str = "images and video cannot be inspected by text guards";
const TUNING: &str =
    "training, evaluation and administration are not a matter of this gateway; use the provider's own address";
const OLDER: &str = "this older way of asking is not read here; use the present one";

const LOCAL: &str = "answered by this gateway's own classifier; nothing goes up and no model answers";
const WORDS: &str = "nothing goes up; what people say of an answer is read strictly, redacted, and kept with it";
const LISTS: &str = "nothing of a prompt goes up; the list that comes down is judged like an answer";

const OTHER_AZURE: &str = "of Azure's paths this gateway reads chat, responses, completions, embeddings and models";

/// How Azure's paths name their version.
const VERSION: &[&str] = &["api-version"];
/// How Anthropic's lists are paged.
const PAGES: &[&str] = &["limit", "after_id", "before_id"];
const ANTHROPIC: Option<Family> = Some(Family::Anthropic);

/// Why a connection may not become a WebSocket, on any path.
pub(super) const WEBSOCKET: &str = "a WebSocket's messages would pass unjudged";

/// All rows. The first that fits counts, so that what is denied below a served path stands before a wider pattern.
pub static ROUTES: &[Route] = &[
    enforced("/v1/chat/completions", Provider::OpenAi, Dialect::OpenAiChat),
    enforced("/v1/messages", Provider::Anthropic, Dialect::AnthropicMessages),
    enforced("/v1/responses", Provider::OpenAi, Dialect::OpenAiResponses),
    enforced("/v1/responses/input_tokens", Provider::OpenAi, Dialect::OpenAiTokens),
    enforced("/v1/completions", Provider::OpenAi, Dialect::OpenAiCompletions),
    enforced("/v1/embeddings", Provider::OpenAi, Dialect::OpenAiEmbeddings),
    enforced("/v1/messages/count_tokens", Provider::Anthropic, Dialect::AnthropicTokens),
    Route { method: "POST", ..exempt("/v1/moderations", Provider::OpenAi, Dialect::OpenAiModerations, LOCAL) },
    Route { kind: Kind::Feedback(WORDS), ..enforced("/v1/feedback", Provider::OpenAi, Dialect::OpenAiChat) },
    Route {
        query: PAGES,
        speaks: ANTHROPIC,
        ..exempt("/v1/models", Provider::Anthropic, Dialect::AnthropicModels, LISTS)
    },
    Route { speaks: ANTHROPIC, ..exempt("/v1/models/{model}", Provider::Anthropic, Dialect::AnthropicModels, LISTS) },
    exempt("/v1/models", Provider::OpenAi, Dialect::OpenAiModels, LISTS),
    exempt("/v1/models/{model}", Provider::OpenAi, Dialect::OpenAiModels, LISTS),
    Route { method: "DELETE", ..denied("/v1/models/{model}", Provider::OpenAi, TUNING) },
    retrieved("/v1/responses/{id}", Provider::OpenAi),
    azure("/openai/deployments/{deployment}/chat/completions", Dialect::OpenAiChat),
    azure("/openai/deployments/{deployment}/completions", Dialect::OpenAiCompletions),
    azure("/openai/deployments/{deployment}/embeddings", Dialect::OpenAiEmbeddings),
    azure("/openai/responses", Dialect::OpenAiResponses),
    azure("/openai/v1/chat/completions", Dialect::OpenAiChat),
    azure("/openai/v1/responses", Dialect::OpenAiResponses),
    azure("/openai/v1/responses/input_tokens", Dialect::OpenAiTokens),
    azure("/openai/v1/completions", Dialect::OpenAiCompletions),
    azure("/openai/v1/embeddings", Dialect::OpenAiEmbeddings),
    Route { query: VERSION, ..retrieved("/openai/responses/{id}", Provider::Azure) },
    Route { query: VERSION, ..retrieved("/openai/v1/responses/{id}", Provider::Azure) },
    Route { query: VERSION, ..exempt("/openai/v1/models", Provider::Azure, Dialect::OpenAiModels, LISTS) },
    Route { query: VERSION, ..exempt("/openai/v1/models/{model}", Provider::Azure, Dialect::OpenAiModels, LISTS) },
    denied("/openai/*", Provider::Azure, OTHER_AZURE),
    Route { method: "GET", ..denied("/v1/chat/completions", Provider::OpenAi, STORED) },
    denied("/v1/chat/completions/*", Provider::OpenAi, STORED),
    denied("/v1/responses/*", Provider::OpenAi, STORED),
    denied("/v1/conversations/*", Provider::OpenAi, STORED),
    denied("/v1/vector_stores/*", Provider::OpenAi, STORED),
    denied("/v1/batches/*", Provider::OpenAi, BATCHES),
    denied("/v1/messages/batches/*", Provider::Anthropic, BATCHES),
    denied("/v1/files/*", Provider::OpenAi, UPLOADS),
    denied("/v1/uploads/*", Provider::OpenAi, UPLOADS),
    denied("/v1/containers/*", Provider::OpenAi, UPLOADS),
    denied("/v1/skills/*", Provider::OpenAi, UPLOADS),
    denied("/v1/assistants/*", Provider::OpenAi, AGENTS),
    denied("/v1/threads/*", Provider::OpenAi, AGENTS),
    denied("/v1/chatkit/*", Provider::OpenAi, AGENTS),
    denied("/v1/agents/*", Provider::Anthropic, AGENTS),
    denied("/v1/sessions/*", Provider::Anthropic, AGENTS),
    denied("/v1/environments/*", Provider::Anthropic, AGENTS),
    denied("/v1/memory_stores/*", Provider::Anthropic, AGENTS),
    denied("/v1/realtime/*", Provider::OpenAi, REALTIME),
    denied("/v1/audio/*", Provider::OpenAi, SPEECH),
    denied("/v1/images/*", Provider::OpenAi, PICTURES),
    denied("/v1/videos/*", Provider::OpenAi, PICTURES),
    denied("/v1/fine_tuning/*", Provider::OpenAi, TUNING),
    denied("/v1/evals/*", Provider::OpenAi, TUNING),
    denied("/v1/organization/*", Provider::OpenAi, TUNING),
    denied("/v1/organizations/*", Provider::Anthropic, TUNING),
    denied("/v1/edits", Provider::OpenAi, OLDER),
    denied("/v1/engines/*", Provider::OpenAi, OLDER),
    denied("/v1/complete", Provider::Anthropic, OLDER),
];

const fn enforced(path: &'static str, provider: Provider, dialect: Dialect) -> Route {
    Route { method: "POST", path, provider, kind: Kind::Enforced(dialect), query: &[], speaks: None }
}

/// The name of the API's version stands in the query of an older path, and may in that of a newer one.
const fn azure(path: &'static str, dialect: Dialect) -> Route {
    Route { query: VERSION, ..enforced(path, Provider::Azure, dialect) }
}

const fn exempt(path: &'static str, provider: Provider, dialect: Dialect, reason: &'static str) -> Route {
    Route { method: "GET", path, provider, kind: Kind::Exempt(dialect, reason), query: &[], speaks: None }
}

const fn retrieved(path: &'static str, provider: Provider) -> Route {
    let kind = Kind::Declared(Dialect::OpenAiResponses, Stored::Retrieve, STORED);
    Route { method: "GET", path, provider, kind, query: &[], speaks: None }
}

const fn denied(path: &'static str, provider: Provider, reason: &'static str) -> Route {
    Route { method: "*", path, provider, kind: Kind::Denied(reason), query: &[], speaks: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(method: &Method, path: &str) -> &'static str {
        match find(method, path, Family::OpenAi) {
            Ok(route) => route.kind.as_str(),
            Err(Miss::Method(_)) => "method",
            Err(Miss::Path) => "path",
        }
    }

    #[test]
    fn the_first_row_that_fits_counts() {
        assert_eq!(kind(&Method::POST, "/v1/chat/completions"), "enforced");
        assert_eq!(kind(&Method::GET, "/v1/chat/completions"), "denied");
        assert_eq!(kind(&Method::DELETE, "/v1/messages"), "method");
        assert_eq!(kind(&Method::DELETE, "/v1/files"), "denied");
        assert_eq!(kind(&Method::GET, "/v1/files/file-1/content"), "denied");
        assert_eq!(kind(&Method::POST, "/v1/messages/batches"), "denied");
        for unknown in ["/v1/filesystem", "/v1/messages/other", "/", "", "/api/generate", "/mcp"] {
            assert_eq!(kind(&Method::POST, unknown), "path", "{unknown}");
        }
    }

    #[test]
    fn patterns_take_whole_segments() {
        assert!(fits("/a/{id}/b", "/a/x/b") && !fits("/a/{id}/b", "/a/x/c") && !fits("/a/{id}", "/a/x/y"));
        assert!(fits("/a/{model}", "/a/x/y") && !fits("/a/{model}", "/a/") && !fits("/a/{model}", "/ab/x"));
        assert!(!fits("/a/{id}", "/a") && fits("/a/*", "/a") && fits("/a/*", "/a/x/y") && !fits("/a/*", "/ab"));
    }

    #[test]
    fn no_row_is_hidden_by_an_earlier_one() {
        for (at, route) in ROUTES.iter().enumerate() {
            let method = Method::from_bytes(route.method.replace('*', "DELETE").as_bytes()).unwrap();
            assert!(route.deployment(route.path).is_none_or(|segment| segment == "{deployment}"));
            let path = route.path.trim_end_matches("/*").replace(['{', '}'], "");
            let found = find(&method, &path, route.speaks.unwrap_or(Family::OpenAi)).unwrap();
            assert!(std::ptr::eq(found, &raw const ROUTES[at]), "{} {}", route.method, route.path);
        }
    }
}
