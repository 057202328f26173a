//! What the fuzz targets hold true of any bytes. Included by the targets, and by `tests/it/fuzz.rs`, which replays their
//! corpora through the same functions.

use std::path::Path;

use bytes::Bytes;
use http::{Method, Request};
use serde_json::Value;
use wardline::api::sse::{Frame, Framer};
use wardline::api::{Call, Dialect, Event, InjectRole, Limits, Reply, Segment};
use wardline::gateway::{Kind, resolve};
use wardline::policy::{Known, KnownLabel, PolicyError, PolicyFile};

const CONSTITUTION: &str = "Be \"kind\".\nAlways.";
/// Reads as prose, so that no identifier or ciphertext could look like it.
const MARKER: &str = "zq marked words";

/// A stream: the same frames however it is cut, no byte lost, and every event either refused or read the same again.
/// The first byte says where it is cut, the second in which dialect its events are read.
pub(crate) fn framer(data: &[u8]) {
    let [cut, dialect, stream @ ..] = data else { return };
    let whole = frames(std::iter::once(stream));
    let pieces = stream.chunks(usize::from(*cut) % 23 + 1);
    let Ok(whole) = whole else {
        assert!(frames(pieces).is_err());
        return;
    };
    assert_eq!(frames(pieces).as_ref(), Ok(&whole));
    let joined: Vec<u8> = whole.iter().flat_map(|frame| frame.raw.to_vec()).collect();
    assert_eq!(joined, stream, "every byte belongs to a frame");
    for frame in whole {
        event(Dialect::ANSWERED[usize::from(*dialect) % 4], frame);
    }
}

fn frames<'a>(reads: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Frame>, String> {
    let mut framer = Framer::new(1 << 16);
    let mut all = Vec::new();
    let wrong = |error: wardline::api::sse::SseError| error.to_string();
    for read in reads {
        framer.push(&Bytes::copy_from_slice(read));
        while let Some(frame) = framer.next_frame().map_err(wrong)? {
            all.push(frame);
        }
    }
    while let Some(frame) = framer.finish().map_err(wrong)? {
        all.push(frame);
    }
    Ok(all)
}

/// An event that nobody edits keeps its bytes; one whose texts are all replaced says nothing else.
fn event(dialect: Dialect, frame: Frame) {
    let Ok(event) = Event::read(dialect, frame, &Limits::default()) else { return };
    assert_eq!(event.rewrite(&[]), event.raw);
    let changes: Vec<(usize, String)> = (0..event.deltas.len()).map(|at| (at, MARKER.to_owned())).collect();
    let rewritten = frames(std::iter::once(&event.rewrite(&changes)[..])).expect("what is written can be read");
    for frame in rewritten {
        let again = Event::read(dialect, frame, &Limits::default()).expect("what is written can be read");
        let texts = again.deltas.iter().flat_map(|delta| delta.text.lines());
        texts.for_each(|text| assert!(text.contains(MARKER), "{text:?} was not replaced"));
    }
}

/// A request or an answer: what is read is JSON to others too, keeps its bytes, can be redacted and led by a constitution
/// without breaking, and no string of a request goes unseen. The first byte says what it is read as, the second which
/// string is marked.
pub(crate) fn walker(data: &[u8]) {
    let [kind, at, body @ ..] = data else { return };
    let body = Bytes::copy_from_slice(body);
    let kind = usize::from(*kind);
    if kind >= 128 {
        answer(Dialect::ALL[kind % Dialect::ALL.len()], &body);
    } else {
        request(Dialect::ALL[kind % Dialect::ALL.len()], &body, usize::from(*at));
    }
}

fn request(dialect: Dialect, body: &Bytes, at: usize) {
    let limits = Limits::default();
    let Ok(call) = Call::read(dialect, body.clone(), &limits) else { return };
    let tree: Value = serde_json::from_slice(body).expect("what is accepted is JSON");
    assert_eq!(&call.clone().into_body(), body);
    let mut led = call.clone();
    led.inject(CONSTITUTION, InjectRole::Auto);
    let led = led.into_body();
    let _json: Value = serde_json::from_slice(&led).expect("an injection leaves JSON");
    let again = Call::read(dialect, led, &limits).expect("what leads can be read");
    let unread = matches!(dialect, Dialect::OpenAiEmbeddings | Dialect::OpenAiModerations)
        || matches!(dialect, Dialect::OpenAiModels | Dialect::AnthropicModels);
    assert!(unread || again.segments().iter().any(|segment| segment.text.contains(CONSTITUTION)));
    for place in 0..call.segments().len() {
        let mut redacted = call.clone();
        redacted.redact(place, &[(0..call.segments()[place].text.len(), MARKER)]);
        let _json: Value = serde_json::from_slice(&redacted.into_body()).expect("a redaction leaves JSON");
        strands(&call.segments()[place]);
    }
    let mut marked = tree;
    if !mark(&mut marked, &mut at.clone()) {
        return;
    }
    let body = serde_json::to_vec(&marked).expect("a tree can be written");
    if let Ok(call) = Call::read(dialect, Bytes::from(body), &limits) {
        let seen = call.segments().iter().any(|segment| segment.text.contains(MARKER));
        assert!(seen || call.model() == MARKER, "a string went unseen: {marked}");
    }
}

/// What was written in one piece lies one after the other in the segment's text.
fn strands(segment: &Segment) {
    let mut behind = 0;
    for strand in segment.strands() {
        let source = strand.source(&(0..strand.text.len()));
        assert!(source.start >= behind && segment.text.get(source.clone()).is_some_and(|text| !text.is_empty()));
        behind = source.end;
    }
}

/// Writes the marker over the string that is `left` strings ahead.
fn mark(tree: &mut Value, left: &mut usize) -> bool {
    match tree {
        Value::String(text) if *left == 0 => {
            MARKER.clone_into(text);
            true
        }
        Value::String(_) => {
            *left -= 1;
            false
        }
        Value::Array(items) => items.iter_mut().any(|item| mark(item, left)),
        Value::Object(members) => members.values_mut().any(|member| mark(member, left)),
        _ => false,
    }
}

fn answer(dialect: Dialect, body: &Bytes) {
    let limits = Limits::default();
    let Ok(reply) = Reply::read(dialect, body.clone(), &limits) else { return };
    assert_eq!(&reply.clone().into_body(), body);
    for place in 0..reply.segments().len() {
        let mut redacted = reply.clone();
        redacted.redact(place, &[(0..reply.segments()[place].text.len(), MARKER)]);
        let body = redacted.into_body();
        Reply::read(dialect, body, &limits).expect("a redaction leaves an answer");
    }
    if let Some(rewritten) = reply.with_answer(0, MARKER) {
        let said = rewritten.answer(0);
        assert!(said.is_none() || said.as_deref() == Some(MARKER), "{said:?}");
    }
}

/// A request target: one reading, the bytes that were routed are those that go up, and nothing in them can be read in
/// another way.
pub(crate) fn path(data: &[u8]) {
    let [method, target @ ..] = data else { return };
    let method = [Method::GET, Method::POST, Method::DELETE][usize::from(*method) % 3].clone();
    let Ok(target) = std::str::from_utf8(target) else { return };
    let anthropic = target.len() % 2 == 1;
    let request = |target: &str| {
        let request = Request::builder().method(method.clone()).uri(target).header("host", "a");
        let request = if anthropic { request.header("anthropic-version", "2023-06-01") } else { request };
        request.body(())
    };
    let Ok(first) = request(target) else { return };
    let Ok((route, up)) = resolve(&first) else { return };
    assert!(!matches!(route.kind, Kind::Denied(_)) && (route.method == "*" || route.method == method.as_str()));
    assert_eq!(up.path(), first.uri().path());
    let segments = up.path()[1..].split('/').flat_map(|segment| segment.split("%2F"));
    for segment in segments {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:@".contains(&byte);
        assert!(!segment.is_empty() && segment.bytes().all(plain) && segment != "." && segment != "..");
    }
    let fixed = route.path.split('/').zip(up.path().split('/')).filter(|(wanted, _)| !wanted.starts_with('{'));
    fixed.for_each(|(wanted, segment)| assert_eq!(wanted, segment));
    let again = request(up.as_str()).expect("what goes up is a target");
    let (same, up_again) = resolve(&again).expect("what goes up is read the same");
    assert!(std::ptr::eq(route, same));
    assert_eq!(up, up_again);
}

/// A policy file: taken, or refused with a reason that names the file and a line of it.
pub(crate) fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let label = |head: &str, name: &str| KnownLabel {
        head: head.to_owned(),
        name: name.to_owned(),
        thresholds: [("fpr_0.5".to_owned(), 0.5)].into(),
    };
    let known = Known {
        labels: vec![label("prompt_attack", "attack"), label("harm", "hate"), label("harm", "violence")],
        entities: vec!["EMAIL_ADDRESS".to_owned(), "CREDIT_CARD".to_owned()],
        upstreams: vec!["aside".to_owned()],
        tenants: vec!["acme".to_owned()],
    };
    match PolicyFile::of_text(Path::new("fuzz.yaml"), text, &known) {
        Ok(file) => {
            assert!(!file.policy.name.is_empty() && !file.policy.revision.is_empty());
            let again = PolicyFile::of_text(Path::new("fuzz.yaml"), text, &known).expect("the same text");
            assert_eq!(file.policy.revision, again.policy.revision);
        }
        Err(PolicyError::Files(problems)) => {
            assert!(!problems.is_empty());
            for problem in problems {
                assert!(problem.to_string().contains("fuzz.yaml"), "{problem}");
            }
        }
        Err(other) => panic!("a text that lies nowhere cannot be unreadable: {other}"),
    }
}
