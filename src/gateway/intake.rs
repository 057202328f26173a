//! The door: the one reading of a request's path, its route, and its body, bounded and decoded.

use std::io::{self, Read};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::timeout;

use super::Config;
use super::refuse::Refusal;
use super::routes::{self, Kind, Miss, Route};
use crate::api::Dialect;
use crate::upstream::Provider;

/// Encodings that may be stacked on one body; more is a trick.
const MAX_ENCODINGS: usize = 3;

/// The dialect to complain in, when the route does not say: that of the SDK that seems to speak.
pub(super) fn dialect_of<B>(request: &Request<B>) -> Dialect {
    let anthropic =
        request.uri().path().starts_with("/v1/messages") || request.headers().contains_key("anthropic-version");
    if anthropic { Dialect::AnthropicMessages } else { Dialect::OpenAiChat }
}

/// The method as a word of a fixed set.
pub(super) fn method_of<B>(request: &Request<B>) -> &'static str {
    match *request.method() {
        Method::POST => "POST",
        Method::GET => "GET",
        _ => "other",
    }
}

/// The SDK that says that this request is its own retry, as a word of a fixed set.
pub(super) fn retried_by(headers: &HeaderMap) -> Option<&'static str> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    text("x-stainless-retry-count").and_then(|count| count.parse::<u32>().ok()).filter(|count| *count > 0)?;
    Some(match text("x-stainless-lang") {
        Some("python") => "python",
        Some("js") => "js",
        _ => "other",
    })
}

/// The key that the client sends, whatever it is worth: Wardline has its own for the upstream. Two of them name nobody.
pub(super) fn client_key(headers: &HeaderMap) -> Option<&[u8]> {
    let sent = |name: &str| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none()).map(HeaderValue::as_bytes)
    };
    let authorization = sent("authorization").and_then(|value| {
        let (scheme, key) = value.split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then_some(key.trim_ascii())
    });
    match (authorization, sent("x-api-key").map(<[u8]>::trim_ascii)) {
        (Some(one), Some(other)) if one != other => None,
        (one, other) => one.or(other).filter(|key| !key.is_empty()),
    }
}

impl Arrival {
    /// The route's name in metrics.
    pub(super) fn name(&self) -> &'static str {
        if matches!(self.route.kind, Kind::Feedback(_)) { "feedback" } else { self.dialect.route() }
    }
}

/// A request at the door: the row that it is for, and where its call goes.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) route: &'static Route,
    pub(super) dialect: Dialect,
    /// The deployment that the path names, if it does.
    pub(super) deployment: Option<String>,
    /// The model that is asked about.
    pub(super) model: Option<String>,
    /// Path and query for the upstream, of checked parts only.
    pub(super) target: PathAndQuery,
}

/// Finds the row of a request. The path is checked once, here: the same bytes route it and go up.
pub(super) fn arrive<B>(request: &Request<B>) -> Result<Arrival, Refusal> {
    one_host(request)?;
    if is_upgrade(request) {
        return Err(Refusal::denied(routes::WEBSOCKET));
    }
    let path = canonical(request.uri().path())?;
    let found = routes::find(request.method(), path, dialect_of(request).family());
    if path.contains('%') && !found.is_ok_and(Route::names_model) {
        return Err(Refusal::path());
    }
    let route = found.map_err(|miss| match miss {
        Miss::Path => Refusal::unknown_route(),
        Miss::Method(wanted) => Refusal::method(wanted),
    })?;
    let dialect = match route.kind {
        Kind::Enforced(dialect) | Kind::Exempt(dialect, _) | Kind::Declared(dialect, ..) => dialect,
        Kind::Feedback(_) => dialect_of(request),
        Kind::Denied(reason) => return Err(Refusal::denied(reason)),
    };
    let target = match query(request.uri().query().unwrap_or_default(), route)? {
        None if route.path == path => PathAndQuery::from_static(route.path),
        None => path.parse().map_err(|_error| Refusal::path())?,
        Some(query) => format!("{path}?{query}").parse().map_err(|_error| Refusal::path())?,
    };
    let (deployment, model) = (route.deployment(path).map(str::to_owned), route.model(path));
    Ok(Arrival { route, dialect, deployment, model, target })
}

/// A path that can be read in one way only: nothing is decoded, merged or resolved, so that no two parts of the system
/// can disagree about which it is. Whatever could be written differently is refused. Of escapes there is one: SDKs write a
/// slash in a model's name as `%2F`, and what it parts must be plain on both sides.
fn canonical(path: &str) -> Result<&str, Refusal> {
    let segments = path.strip_prefix('/').ok_or_else(Refusal::path)?;
    let plain = |segment: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:@".contains(&byte);
        !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(known)
    };
    let pieces = || segments.split('/').flat_map(|segment| segment.split("%2F"));
    if segments.is_empty() || pieces().all(plain) { Ok(path) } else { Err(Refusal::path()) }
}

/// The part of a query that goes up: only members that the row names, each once, with plain values.
fn query(query: &str, route: &Route) -> Result<Option<String>, Refusal> {
    let plain = |value: &str| value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    let mut kept: Vec<(&str, &str)> = Vec::new();
    for member in query.split('&').filter(|member| !member.is_empty()) {
        // The Anthropic SDK marks beta calls by this; what is asked for stands in a header, so it need not go up.
        if member == "beta=true" && route.provider == Provider::Anthropic {
            continue;
        }
        let (name, value) = member.split_once('=').unwrap_or((member, ""));
        if !route.query.contains(&name) || !plain(value) || kept.iter().any(|(other, _)| *other == name) {
            return Err(Refusal::malformed("This route does not take such a query."));
        }
        kept.push((name, value));
    }
    let members: Vec<String> = kept.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Ok((!members.is_empty()).then(|| members.join("&")))
}

/// One host, plainly written; it routes nothing here, but what reads it differently elsewhere may be confused by it.
fn one_host<B>(request: &Request<B>) -> Result<(), Refusal> {
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    let http2 = request.version() >= http::Version::HTTP_2;
    if authority.is_some() && !http2 {
        return Err(Refusal::malformed("The request target must be a path."));
    }
    let mut hosts = request.headers().get_all(header::HOST).iter().map(|host| host.to_str().unwrap_or("?"));
    let (host, none) = (hosts.next(), hosts.next().is_none());
    let plain = |host: &str| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte))
    };
    let agree = match (host, authority) {
        (Some(host), Some(authority)) => host.eq_ignore_ascii_case(authority),
        (None, None) => request.version() == http::Version::HTTP_10,
        _ => true,
    };
    if none && agree && host.into_iter().chain(authority).all(plain) {
        Ok(())
    } else {
        Err(Refusal::malformed("Send one plain Host."))
    }
}

/// Whether the client wants to leave HTTP for something that is not read here.
fn is_upgrade<B>(request: &Request<B>) -> bool {
    let upgrades = request.headers().get_all(header::UPGRADE).iter();
    let mut named = upgrades.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    request.headers().contains_key(header::SEC_WEBSOCKET_KEY)
        || named.any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket"))
}

/// Head and whole body of a request. The body is JSON in UTF-8, plain when it comes out here.
pub(super) async fn collect(request: Request<Incoming>, config: &Config) -> Result<(HeaderMap, Bytes), Refusal> {
    let (head, body) = request.into_parts();
    json_only(&head.headers)?;
    let encodings = encodings(&head.headers)?;
    let limit = config.max_request_bytes;
    let wait = Duration::from_millis(config.body_timeout_ms);
    let body = timeout(wait, bounded(body, limit)).await.map_err(|_elapsed| Refusal::slow())??;
    let body = encodings.iter().rev().try_fold(body, |body, encoding| decode(&body, *encoding, limit))?;
    Ok((head.headers, body))
}

fn json_only(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut kinds = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(kind), None) = (kinds.next(), kinds.next()) else {
        return Err(Refusal::media("Send one content-type: application/json."));
    };
    let kind = kind.to_str().unwrap_or_default();
    let mut parts = kind.split(';').map(str::trim);
    let json = parts.next().is_some_and(|media| media.eq_ignore_ascii_case("application/json"));
    let utf8 = parts.filter(|p| !p.is_empty()).all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.eq_ignore_ascii_case("charset") => {
            value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => false,
    });
    if json && utf8 { Ok(()) } else { Err(Refusal::media("Send content-type: application/json in UTF-8.")) }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// The content codings in the order in which they were applied (RFC 9110 section 8.4).
fn encodings(headers: &HeaderMap) -> Result<Vec<Encoding>, Refusal> {
    let mut found = Vec::new();
    for value in headers.get_all(header::CONTENT_ENCODING) {
        for name in value.to_str().unwrap_or("?").split(',').map(str::trim) {
            found.push(match name.to_ascii_lowercase().as_str() {
                "identity" | "" => continue,
                "gzip" | "x-gzip" => Encoding::Gzip,
                "deflate" => Encoding::Deflate,
                "br" => Encoding::Brotli,
                "zstd" => Encoding::Zstd,
                _ => return Err(Refusal::media("This content-encoding is not read; gzip, deflate, br and zstd are.")),
            });
        }
    }
    if found.len() > MAX_ENCODINGS {
        return Err(Refusal::media("Too many content-encodings are stacked on the body."));
    }
    Ok(found)
}

/// Reads a body that must not pass `limit` bytes; a declared length over it is refused before anything is read.
pub(super) async fn bounded<B>(mut body: B, limit: usize) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(Refusal::too_large(limit));
    }
    let mut first = Bytes::new();
    let mut rest: Option<BytesMut> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            tracing::debug!(%error, "a body broke off");
            Refusal::malformed("The request body broke off.")
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + rest.as_ref().map_or(0, BytesMut::len) + data.len() > limit {
            return Err(Refusal::too_large(limit));
        }
        match &mut rest {
            Some(rest) => rest.extend_from_slice(&data),
            None if first.is_empty() => first = data,
            None => {
                let mut joined = BytesMut::with_capacity(first.len() + data.len());
                joined.extend_from_slice(&first);
                joined.extend_from_slice(&data);
                first = Bytes::new();
                rest = Some(joined);
            }
        }
    }
    Ok(rest.map_or(first, BytesMut::freeze))
}

fn decode(body: &[u8], encoding: Encoding, limit: usize) -> Result<Bytes, Refusal> {
    let broken = |_error: io::Error| Refusal::malformed("The body is not what its content-encoding says.");
    let cap = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let mut out = Vec::new();
    match encoding {
        Encoding::Gzip => flate2::read::MultiGzDecoder::new(body).take(cap).read_to_end(&mut out).map_err(broken)?,
        Encoding::Deflate => flate2::read::ZlibDecoder::new(body).take(cap).read_to_end(&mut out).map_err(broken)?,
        Encoding::Brotli => brotli::Decompressor::new(body, 4096).take(cap).read_to_end(&mut out).map_err(broken)?,
        Encoding::Zstd => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(body)
                .map_err(|_error| Refusal::malformed("The body is not what its content-encoding says."))?;
            decoder.take(cap).read_to_end(&mut out).map_err(broken)?
        }
    };
    if out.len() > limit { Err(Refusal::too_large(limit)) } else { Ok(Bytes::from(out)) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use http_body_util::Full;

    use super::*;
    use crate::api::Family;

    fn post(uri: &str) -> Request<()> {
        Request::post(uri).header("host", "gateway.example:8787").body(()).unwrap()
    }

    #[test]
    fn a_path_is_read_in_one_way_or_not_at_all() {
        assert_eq!(arrive(&post("/v1/chat/completions")).unwrap().dialect, Dialect::OpenAiChat);
        let beta = arrive(&post("/v1/messages?beta=true")).unwrap();
        assert_eq!((beta.dialect, beta.target.as_str()), (Dialect::AnthropicMessages, "/v1/messages"));
        for bad in [
            "/v1/chat/completions/",
            "//v1/chat/completions",
            "/v1//chat/completions",
            "/v1/./chat/completions",
            "/v1/x/../chat/completions",
            "/v1/..",
            "/v1%2fchat/completions",
            "/v1/%63hat/completions",
            "/v1/chat%00/completions",
            "/v1/chat/completions;a=1",
            "/v1/chat\"/completions",
            "/v1/chat/compl\u{e9}tions",
        ] {
            assert_eq!(arrive(&post(bad)).unwrap_err().status(), 400, "{bad}");
        }
        for unknown in ["/V1/chat/completions", "/", "/v1", "/api/generate"] {
            assert_eq!(arrive(&post(unknown)).unwrap_err().status(), 404, "{unknown}");
        }
        for (path, model) in [
            ("/v1/models/gpt-4o", "gpt-4o"),
            ("/v1/models/openai/gpt-oss-20b", "openai/gpt-oss-20b"),
            ("/v1/models/openai%2Fgpt-oss-20b", "openai/gpt-oss-20b"),
        ] {
            let get = Request::get(path).header("host", "a").body(()).unwrap();
            let arrival = arrive(&get).unwrap();
            assert_eq!((arrival.model.as_deref(), arrival.target.as_str()), (Some(model), path));
        }
        for bad in
            ["a%2fb", "a%2F", "a%2F..%2F..%2Ffiles", "a/../b", "a%252Fb", "a%2F%2Fb", "a//b", "a%2F.", "%2Fa", ""]
        {
            let get = Request::get(format!("/v1/models/{bad}")).header("host", "a").body(()).unwrap();
            assert_eq!(arrive(&get).unwrap_err().status(), 400, "{bad}");
        }
        for elsewhere in
            ["/v1/chat%2Fcompletions", "/v1%2Fmodels", "/v1/files%2Fx", "/openai/deployments/a%2Fb/embeddings"]
        {
            assert_eq!(arrive(&post(elsewhere)).unwrap_err().status(), 400, "{elsewhere}");
        }
        assert!(canonical("/a\\b").is_err() && canonical("/a\0b").is_err() && canonical("*").is_err());
        let azure = arrive(&post("/openai/deployments/my-gpt.4/chat/completions?api-version=2024-10-21")).unwrap();
        assert_eq!((azure.dialect, azure.deployment.as_deref()), (Dialect::OpenAiChat, Some("my-gpt.4")));
        assert_eq!(azure.target.as_str(), "/openai/deployments/my-gpt.4/chat/completions?api-version=2024-10-21");
        assert_eq!(arrive(&post("/openai/deployments/a/b/chat/completions")).unwrap_err().status(), 403);
        assert_eq!(arrive(&post("/openai/deployments/a/chat/completions?x=1")).unwrap_err().status(), 400);
        assert_eq!(arrive(&post("/v1/files")).unwrap_err().status(), 403);
        assert_eq!(arrive(&post("/v1/chat/completions?x=1")).unwrap_err().status(), 400);
        assert_eq!(arrive(&post("/v1/chat/completions?beta=true")).unwrap_err().status(), 400);
        assert_eq!(arrive(&post("http://elsewhere.example/v1/messages")).unwrap_err().status(), 400);
        let put = Request::put("/v1/messages").header("host", "a").body(()).unwrap();
        assert_eq!(arrive(&put).unwrap_err().status(), 405);
    }

    #[test]
    fn a_query_goes_up_only_as_its_row_says() {
        let route = Route {
            query: &["limit", "after_id"],
            ..*routes::find(&Method::POST, "/v1/messages", Family::Anthropic).unwrap()
        };
        assert_eq!(query("", &route).unwrap(), None);
        assert_eq!(query("limit=5&beta=true&after_id=a-1", &route).unwrap().as_deref(), Some("limit=5&after_id=a-1"));
        for bad in ["limit=5&limit=6", "other=1", "limit=%35", "limit=a/b", "beta=false"] {
            assert!(query(bad, &route).is_err(), "{bad}");
        }
    }

    #[test]
    fn one_plain_host_is_wanted() {
        let with = |hosts: &[&str]| {
            let mut request = Request::post("/v1/messages").body(()).unwrap();
            for host in hosts {
                request.headers_mut().append("host", host.parse().unwrap());
            }
            arrive(&request).map(|_| ())
        };
        assert!(with(&["a.example"]).is_ok() && with(&["[::1]:80"]).is_ok() && with(&["127.0.0.1:8787"]).is_ok());
        for bad in [&["x/#@y"][..], &["a", "a"], &["a?b"], &["user@a"], &[""], &[], &["a b"], &["a\\b"]] {
            assert_eq!(with(bad).unwrap_err().status(), 400, "{bad:?}");
        }
    }

    #[test]
    fn a_websocket_is_refused_on_every_path() {
        for path in ["/v1/chat/completions", "/v1/realtime", "/anything"] {
            let mut request = post(path);
            request.headers_mut().insert("upgrade", "h2c, WebSocket".parse().unwrap());
            assert_eq!(arrive(&request).unwrap_err().status(), 403, "{path}");
        }
    }

    #[test]
    fn only_json_in_utf8_is_read() {
        let with = |value: &str| HeaderMap::from_iter([(header::CONTENT_TYPE, value.parse().unwrap())]);
        for good in ["application/json", "Application/JSON; charset=UTF-8", "application/json;charset=\"utf-8\""] {
            assert!(json_only(&with(good)).is_ok(), "{good}");
        }
        for bad in ["application/json; charset=utf-16", "text/plain", "multipart/form-data; boundary=x", ""] {
            assert_eq!(json_only(&with(bad)).unwrap_err().status(), 415, "{bad}");
        }
        assert!(json_only(&HeaderMap::new()).is_err());
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_encoding_decodes_and_lies_are_refused() {
        let plain = b"{\"a\": 1}";
        assert_eq!(decode(&gzip(plain), Encoding::Gzip, 100).unwrap(), &plain[..]);
        let zstd = zstd::encode_all(&plain[..], 1).unwrap();
        assert_eq!(decode(&zstd, Encoding::Zstd, 100).unwrap(), &plain[..]);
        let mut br = Vec::new();
        brotli::BrotliCompress(&mut &plain[..], &mut br, &brotli::enc::BrotliEncoderParams::default()).unwrap();
        assert_eq!(decode(&br, Encoding::Brotli, 100).unwrap(), &plain[..]);
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(plain).unwrap();
        assert_eq!(decode(&zlib.finish().unwrap(), Encoding::Deflate, 100).unwrap(), &plain[..]);
        for encoding in [Encoding::Gzip, Encoding::Deflate, Encoding::Brotli, Encoding::Zstd] {
            assert_eq!(decode(b"{\"not\": \"encoded\"}", encoding, 100).unwrap_err().status(), 400, "{encoding:?}");
        }
        let cut = &gzip(plain)[..12];
        assert_eq!(decode(cut, Encoding::Gzip, 100).unwrap_err().status(), 400);
    }

    #[test]
    fn a_bomb_is_too_large_and_not_unpacked() {
        let bomb = gzip(&vec![b' '; 1_000_000]);
        assert_eq!(decode(&bomb, Encoding::Gzip, 10_000).unwrap_err().status(), 413);
    }

    #[test]
    fn stacks_are_read_in_order_and_bounded() {
        let with = |value: &str| HeaderMap::from_iter([(header::CONTENT_ENCODING, value.parse().unwrap())]);
        assert_eq!(encodings(&with("gzip, br")).unwrap(), [Encoding::Gzip, Encoding::Brotli]);
        assert!(encodings(&with("identity")).unwrap().is_empty());
        assert_eq!(encodings(&with("gzip, gzip, gzip, gzip")).unwrap_err().status(), 415);
        assert_eq!(encodings(&with("compress")).unwrap_err().status(), 415);
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused() {
        let body = |n: usize| Full::new(Bytes::from(vec![b'x'; n]));
        assert_eq!(bounded(body(10), 10).await.unwrap().len(), 10);
        assert_eq!(bounded(body(11), 10).await.unwrap_err().status(), 413);
    }
}
