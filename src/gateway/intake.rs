//! The door: which route a request is for, and its body, bounded and decoded.

use std::io::{self, Read};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::timeout;

use super::Config;
use super::refuse::Refusal;
use crate::api::Dialect;

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

/// The declared routes. A path is compared as it stands: nothing is decoded, merged or resolved, so that there is one
/// way to write each and no two parts of the system can disagree about which it is.
pub(super) fn route<B>(request: &Request<B>) -> Result<Dialect, Refusal> {
    let uri = request.uri();
    if request.version() < http::Version::HTTP_2 && uri.authority().is_some() {
        return Err(Refusal::malformed("The request target must be a path."));
    }
    let dialect = Dialect::from_path(uri.path()).ok_or_else(Refusal::unknown_route)?;
    if request.method() != Method::POST {
        return Err(Refusal::method());
    }
    // The Anthropic SDK marks beta calls by this query; what is asked for stands in a header, so it need not go up.
    match (dialect, uri.query()) {
        (_, None | Some("")) | (Dialect::AnthropicMessages, Some("beta=true")) => Ok(dialect),
        _ => Err(Refusal::malformed("This route takes no query.")),
    }
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

    fn post(uri: &str) -> Request<()> {
        Request::post(uri).body(()).unwrap()
    }

    #[test]
    fn only_the_declared_paths_exist_as_they_are_written() {
        assert_eq!(route(&post("/v1/chat/completions")).unwrap(), Dialect::OpenAiChat);
        assert_eq!(route(&post("/v1/messages?beta=true")).unwrap(), Dialect::AnthropicMessages);
        for bad in [
            "/v1/chat/completions/",
            "//v1/chat/completions",
            "/v1/./chat/completions",
            "/v1/x/../chat/completions",
            "/v1%2fchat/completions",
            "/v1/%63hat/completions",
            "/v1/chat/completions;a=1",
            "/V1/chat/completions",
            "/v1/responses",
            "/v1/messages/batches",
            "/",
        ] {
            assert_eq!(route(&post(bad)).unwrap_err().status(), 404, "{bad}");
        }
        assert_eq!(route(&post("/v1/chat/completions?x=1")).unwrap_err().status(), 400);
        assert_eq!(route(&post("http://elsewhere.example/v1/messages")).unwrap_err().status(), 400);
        let get = Request::get("/v1/messages").body(()).unwrap();
        assert_eq!(route(&get).unwrap_err().status(), 405);
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
