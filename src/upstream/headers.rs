//! Which headers cross the gateway, and which stay.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Headers of one connection (RFC 9110 section 7.6.1) and those that the gateway writes itself.
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Client headers that never go up: credentials are replaced, bodies are re-framed, `accept-encoding` is ours because
/// the answer has to be read.
const NOT_UP: &[&str] = &[
    "accept-encoding",
    "api-key",
    "authorization",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "x-api-key",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];

/// Upstream headers that never come down: bodies are re-framed, cookies and other origins' promises are not ours.
const NOT_DOWN: &[&str] =
    &["alt-svc", "content-encoding", "content-length", "server", "set-cookie", "strict-transport-security"];

/// Our own control headers: never forwarded in either direction.
const OURS: &str = "x-guardrail-";

/// The client's headers as they go up, without credentials. `credentials` names the headers to keep all the same
/// (a client's own key, where the configuration forwards it).
pub(super) fn upstream(client: &HeaderMap, credentials: &[HeaderName]) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(client.len() + 4);
    for (name, value) in client {
        let kept = credentials.contains(name);
        if kept || !(dropped(name, NOT_UP) || named_by_connection(client, name)) {
            out.append(name.clone(), value.clone());
        }
    }
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    out.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    out
}

/// The upstream's headers as they go down. Its own request id becomes `x-upstream-request-id`.
pub fn downstream(upstream: &HeaderMap) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(upstream.len() + 6);
    for (name, value) in upstream {
        if dropped(name, NOT_DOWN) || named_by_connection(upstream, name) {
            continue;
        }
        match name.as_str() {
            "x-request-id" | "request-id" => {
                out.insert(HeaderName::from_static("x-upstream-request-id"), value.clone());
            }
            _ => {
                out.append(name.clone(), value.clone());
            }
        }
    }
    out
}

fn dropped(name: &HeaderName, list: &[&str]) -> bool {
    let name = name.as_str();
    HOP_BY_HOP.contains(&name) || list.contains(&name) || name.starts_with(OURS)
}

/// Headers that `connection:` names belong to that connection only.
fn named_by_connection(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case(name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[test]
    fn credentials_hop_headers_and_our_own_stay_behind() {
        let sent = map(&[
            ("authorization", "Bearer client"),
            ("x-api-key", "client"),
            ("cookie", "a=b"),
            ("connection", "close, x-private"),
            ("x-private", "1"),
            ("te", "trailers"),
            ("x-guardrail-mode", "off"),
            ("accept-encoding", "gzip"),
            ("anthropic-version", "2023-06-01"),
            ("x-stainless-lang", "python"),
        ]);
        let up = upstream(&sent, &[]);
        let mut names: Vec<&str> = up.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept-encoding", "anthropic-version", "content-type", "x-stainless-lang"]);
        assert_eq!(up["accept-encoding"], "identity");
    }

    #[test]
    fn a_forwarded_key_survives_even_when_connection_names_it() {
        let sent = map(&[("authorization", "Bearer client"), ("connection", "authorization")]);
        assert_eq!(upstream(&sent, &[header::AUTHORIZATION])["authorization"], "Bearer client");
    }

    #[test]
    fn the_upstreams_request_id_is_renamed_and_its_framing_dropped() {
        let got = map(&[
            ("x-request-id", "up_1"),
            ("content-length", "3"),
            ("transfer-encoding", "chunked"),
            ("set-cookie", "a=b"),
            ("x-ratelimit-remaining-requests", "9"),
        ]);
        let down = downstream(&got);
        assert_eq!(down["x-upstream-request-id"], "up_1");
        assert_eq!(down["x-ratelimit-remaining-requests"], "9");
        assert_eq!(down.len(), 2);
    }
}
