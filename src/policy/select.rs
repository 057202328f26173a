//! Which policy a request gets: the first line of the configuration that takes it, else the active one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use http::{HeaderMap, HeaderName};
use schemars::JsonSchema;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::yaml::expected;

/// The fewest hex digits of a key's hash that tell it from others.
const LEAST_DIGITS: usize = 16;

/// One line of `policies.select`. All conditions that it has must hold, and of each list one item.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping with `policy`, and `routes`, `models`, `keys`, `tenants` or `headers`"
)]
pub struct Selector {
    /// The policy that is taken.
    pub policy: String,
    /// Routes, by their names in metrics, e.g. `chat`, `messages`.
    #[serde(default)]
    pub routes: Vec<String>,
    /// Models, as the client names them; `*` stands for any run of characters. Whoever may name a model chooses its
    /// policy thereby.
    #[serde(default)]
    pub models: Vec<String>,
    /// Keys that clients send (`authorization: Bearer …` or `x-api-key`), as the first 16 or more hex digits of their
    /// SHA-256: `printf %s "$KEY" | sha256sum`.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Tenants, by their names under `tenants.known`.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// Headers by name, and the values of which one must be sent, letter by letter; all of these headers must be there.
    /// Whoever may send such a header chooses the policy thereby. They are not sent up.
    #[serde(default)]
    pub headers: BTreeMap<String, Vec<String>>,
}

/// What is known of a request when its policy is chosen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asking<'a> {
    /// The route's name.
    pub route: &'a str,
    /// The model that the client names.
    pub model: &'a str,
    /// The client's key, if it sent one.
    pub key: Option<Key<'a>>,
    /// Whose request it is.
    pub tenant: Option<&'a str>,
    /// What headers it has.
    pub headers: Option<&'a HeaderMap>,
}

/// A client's key, or what is known of it.
#[derive(Clone, Copy, Debug)]
pub enum Key<'a> {
    /// As sent.
    Sent(&'a [u8]),
    /// The first hex digits of its SHA-256, in lower case.
    Hashed(&'a str),
}

/// The place of the first line that takes a request.
pub(super) fn first(selectors: &[Selector], asking: &Asking<'_>) -> Option<usize> {
    let hash = match asking.key {
        Some(Key::Hashed(digits)) => Some(digits.to_owned()),
        Some(Key::Sent(key)) if selectors.iter().any(|selector| !selector.keys.is_empty()) => Some(hex(key)),
        _ => None,
    };
    selectors.iter().position(|selector| selector.takes(asking, hash.as_deref()))
}

/// The one value of a header; none where it is missing, sent twice, or no text.
pub(super) fn value_of<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())?.to_str().ok()
}

impl Selector {
    fn takes(&self, asking: &Asking<'_>, hash: Option<&str>) -> bool {
        let any =
            |list: &[String], holds: &dyn Fn(&str) -> bool| list.is_empty() || list.iter().any(|item| holds(item));
        let sent = |name: &str| asking.headers.and_then(|headers| value_of(headers, name));
        any(&self.routes, &|known| known == asking.route)
            && any(&self.models, &|pattern| matches(pattern, asking.model))
            && any(&self.keys, &|digits| hash.is_some_and(|hash| hash.starts_with(digits)))
            && any(&self.tenants, &|name| asking.tenant == Some(name))
            && self
                .headers
                .iter()
                .all(|(name, values)| sent(name).is_some_and(|sent| values.iter().any(|value| value == sent)))
    }

    /// What is wrong with the line, as the key under it and the reason.
    pub(super) fn mistake(&self, routes: &[&str], tenants: &[&str]) -> Option<(&'static str, String)> {
        let lists = [&self.routes, &self.models, &self.keys, &self.tenants];
        if lists.into_iter().all(Vec::is_empty) && self.headers.is_empty() {
            let reason = "a line without `routes`, `models`, `keys`, `tenants` or `headers` takes every request: that is \
                          what `active` is for";
            return Some(("policy", reason.to_owned()));
        }
        if let Some(route) = self.routes.iter().find(|route| !routes.contains(&route.as_str())) {
            let known = expected("route", route, routes.iter().copied());
            return Some(("routes", format!("unknown route `{route}`, {known}")));
        }
        if let Some(name) = self.tenants.iter().find(|name| !tenants.contains(&name.as_str())) {
            let known = expected("tenant", name, tenants.iter().copied());
            return Some(("tenants", format!("unknown tenant `{name}`, {known}")));
        }
        if let Some(reason) = key_mistake(&self.keys) {
            return Some(("keys", reason.to_owned()));
        }
        for (name, values) in &self.headers {
            if HeaderName::try_from(name.as_str()).is_err() {
                return Some(("headers", format!("`{name}` is not the name of a header")));
            }
            if values.is_empty() {
                return Some(("headers", format!("expected the values of `{name}` that choose this policy")));
            }
        }
        None
    }
}

impl Key<'_> {
    /// What tells keys apart: the hex digits of the key's SHA-256, as far as they are known.
    pub fn identity(&self) -> String {
        match self {
            Self::Sent(key) => hex(key),
            Self::Hashed(digits) => (*digits).to_owned(),
        }
    }
}

/// What is wrong with a list of keys' hashes. A key that somebody wrote there in full must not be repeated in a log.
pub(super) fn key_mistake(keys: &[String]) -> Option<&'static str> {
    let hash = |digits: &String| {
        let hex = digits.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c));
        hex && (LEAST_DIGITS..=64).contains(&digits.len())
    };
    let reason = "expected 16 to 64 lower-case hex digits of a key's SHA-256, never the key itself: \
                  `printf %s \"$KEY\" | sha256sum`";
    (!keys.iter().all(hash)).then_some(reason)
}

/// The hex digits of a key's SHA-256.
pub(super) fn hex(key: &[u8]) -> String {
    let mut digits = String::with_capacity(64);
    for byte in Sha256::digest(key) {
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

/// `*` stands for any run of characters, an empty one too.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(head) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        // The earliest place leaves the most for what follows.
        let Some(at) = left.find(piece) else { return false };
        left = &left[at + piece.len()..];
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn selectors() -> Vec<Selector> {
        let line = |policy: &str| Selector { policy: policy.to_owned(), ..Selector::default() };
        vec![
            Selector { keys: vec![hex(b"secret")[..16].to_owned()], ..line("by-key") },
            Selector { routes: words(&["messages"]), models: words(&["claude-*", "haiku"]), ..line("both") },
            Selector { models: words(&["gpt-*-mini"]), ..line("by-model") },
            Selector { tenants: words(&["acme", "globex"]), ..line("by-tenant") },
            Selector { headers: BTreeMap::from([("X-Values".to_owned(), words(&["dao"]))]), ..line("by-header") },
        ]
    }

    fn place(route: &str, model: &str, key: Option<&str>) -> Option<usize> {
        let key = key.map(|key| Key::Sent(key.as_bytes()));
        first(&selectors(), &Asking { route, model, key, ..Asking::default() })
    }

    #[test]
    fn the_first_line_that_takes_a_request_is_taken() {
        assert_eq!(place("chat", "gpt-5-mini", Some("secret")), Some(0));
        assert_eq!(place("chat", "gpt-5-mini", Some("other")), Some(2));
        assert_eq!(place("chat", "gpt-5", None), None);
        assert_eq!(place("messages", "claude-9", None), Some(1));
        assert_eq!(place("chat", "claude-9", None), None, "all conditions of a line must hold");
        let hash = hex(b"secret");
        let hashed = Asking { key: Some(Key::Hashed(&hash[..20])), ..Asking::default() };
        assert_eq!(first(&selectors(), &hashed), Some(0));
        let short = Asking { key: Some(Key::Hashed(&hash[..8])), ..Asking::default() };
        assert_eq!(first(&selectors(), &short), None, "a few digits are no proof of a key");
    }

    #[test]
    fn tenants_and_headers_choose_where_a_line_says_so() {
        let asked = |tenant, headers: &[(&'static str, &'static str)]| {
            let pair = |(name, value): &(&'static str, &'static str)| {
                (HeaderName::from_static(name), http::HeaderValue::from_static(value))
            };
            let headers: HeaderMap = headers.iter().map(pair).collect();
            first(&selectors(), &Asking { tenant, headers: Some(&headers), ..Asking::default() })
        };
        assert_eq!(asked(Some("globex"), &[]), Some(3));
        assert_eq!(asked(Some("initech"), &[]), None);
        assert_eq!(asked(None, &[("x-values", "dao")]), Some(4));
        assert_eq!(asked(None, &[("x-values", "Dao")]), None);
        assert_eq!(asked(None, &[("x-values", "dao"), ("x-values", "dao")]), None, "sent twice is sent by nobody");
        assert_eq!(asked(None, &[("x-tenant", "acme")]), None, "a header that no line names chooses nothing");
        assert_eq!(first(&selectors(), &Asking::default()), None);
    }

    #[test]
    fn lines_that_make_no_sense_are_told() {
        let routes = ["chat", "messages"];
        assert!(selectors().iter().all(|selector| selector.mistake(&routes, &["acme", "globex"]).is_none()));
        let mistake = |change: &dyn Fn(&mut Selector)| {
            let mut selector = selectors().swap_remove(1);
            change(&mut selector);
            selector.mistake(&routes, &["acme", "globex"]).unwrap()
        };
        let (key, reason) = mistake(&|line| line.routes = words(&["chats"]));
        assert_eq!(key, "routes");
        assert!(
            reason.ends_with("unknown route `chats`, expected one of `chat`, `messages`; did you mean `chat`?"),
            "{reason}"
        );
        let (key, reason) = mistake(&|line| line.keys = words(&["sk-live-0123456789abcdef"]));
        assert!(key == "keys" && reason.contains("never the key itself") && !reason.contains("sk-live"), "{reason}");
        for keys in ["0123456789abcde", "0123456789ABCDEF"] {
            assert_eq!(mistake(&|line| line.keys = words(&[keys])).0, "keys");
        }
        let (key, reason) = mistake(&|line| line.tenants = words(&["acma"]));
        assert!(key == "tenants" && reason.ends_with("did you mean `acme`?"), "{reason}");
        for (name, values) in [("x values", &["a"][..]), ("x-values", &[])] {
            let headers = BTreeMap::from([(name.to_owned(), words(values))]);
            assert_eq!(mistake(&|line| line.headers.clone_from(&headers)).0, "headers");
        }
        assert!(Selector::default().mistake(&routes, &[]).unwrap().1.contains("`active`"));
    }

    proptest! {
        #[test]
        fn a_pattern_matches_as_a_regular_expression_would(pattern in "[ab*]{0,6}", text in "[ab]{0,8}") {
            let regex = regex::Regex::new(&format!("^{}$", pattern.replace('*', ".*"))).unwrap();
            prop_assert_eq!(matches(&pattern, &text), regex.is_match(&text));
        }
    }
}
