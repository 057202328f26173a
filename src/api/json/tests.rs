//! Properties of the parser and the edits, and the classes of documents that readers disagree on.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value as Tree;

use crate::api::dialect::Limits;
use crate::api::json::{Edits, Json, JsonErrorKind, Kind, Mode, Value, quoted, widen_over_escapes};

fn parse(text: &str, mode: Mode) -> Result<Json, JsonErrorKind> {
    Json::parse(Bytes::copy_from_slice(text.as_bytes()), mode, &Limits::default()).map_err(|error| error.kind)
}

fn request(text: &str) -> Result<Json, JsonErrorKind> {
    parse(text, Mode::Request)
}

/// The document as `serde_json` would have it.
fn tree(value: Value<'_>) -> Tree {
    match value.kind() {
        Kind::Null => Tree::Null,
        Kind::Bool => Tree::Bool(value.as_bool().unwrap()),
        Kind::Number => serde_json::from_slice(value.raw()).unwrap(),
        Kind::String | Kind::Key => Tree::String(value.as_str().unwrap().into_owned()),
        Kind::Array => Tree::Array(value.items().map(tree).collect()),
        Kind::Object => Tree::Object(
            value.entries().map(|(key, value)| (key.as_str().unwrap().into_owned(), tree(value))).collect(),
        ),
    }
}

fn documents() -> impl Strategy<Value = Tree> {
    let text = "[ -~\\n\\t\u{e9}\u{1f600}\"\\\\]{0,12}";
    let leaf = prop_oneof![
        Just(Tree::Null),
        any::<bool>().prop_map(Tree::from),
        any::<i64>().prop_map(Tree::from),
        any::<f64>().prop_map(Tree::from),
        text.prop_map(Tree::from),
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Tree::from),
            prop::collection::vec((text, inner), 0..20).prop_map(|members| Tree::Object(members.into_iter().collect())),
        ]
    })
}

/// Ways of writing the same document.
fn written(tree: &Tree, pretty: bool, escape: bool) -> String {
    let text = if pretty { serde_json::to_string_pretty(tree) } else { serde_json::to_string(tree) }.unwrap();
    if !escape {
        return text;
    }
    text.chars()
        .map(|char| {
            let mut units = [0; 2];
            let is_ascii = char.is_ascii();
            let units = char.encode_utf16(&mut units);
            if is_ascii { char.to_string() } else { units.iter().map(|unit| format!("\\u{unit:04X}")).collect() }
        })
        .collect()
}

proptest! {
    #[test]
    fn values_are_those_that_serde_json_reads(doc in documents(), pretty: bool, escape: bool) {
        let text = written(&doc, pretty, escape);
        let json = request(&text).unwrap();
        prop_assert_eq!(tree(json.root()), serde_json::from_str::<Tree>(&text).unwrap());
    }

    #[test]
    fn validity_is_that_of_serde_json(doc in documents(), at in any::<prop::sample::Index>(), junk in "[\\[\\]{}\",:0-9eE.+\\-a-z\\\\ ]{0,2}", cut in 0usize..3) {
        let mut text = written(&doc, false, true);
        let from = at.index(text.len());
        text.replace_range(from..(from + cut).min(text.len()), &junk);
        let ours = parse(&text, Mode::Response);
        let theirs = serde_json::from_str::<Tree>(&text);
        // Deliberate differences: lone surrogates and overflowing numbers pass in responses.
        let lenient = theirs.as_ref().is_err_and(|error| {
            let why = error.to_string();
            why.contains("surrogate") || why.contains("out of range") || why.contains("hex escape")
        });
        prop_assert!(lenient || ours.is_ok() == theirs.is_ok(), "{} {:?} {:?}", text, ours.err(), theirs.err());
    }

    #[test]
    fn no_edit_is_identity(doc in documents(), pretty: bool) {
        let bytes = Bytes::from(written(&doc, pretty, false));
        let json = Json::parse(bytes.clone(), Mode::Request, &Limits::default()).unwrap();
        let same = json.apply(&Edits::default());
        prop_assert_eq!(same.as_ptr(), bytes.as_ptr());
        prop_assert_eq!(same, bytes);
    }

    #[test]
    fn an_edit_changes_its_range_only(doc in documents(), pretty: bool, at in any::<prop::sample::Index>()) {
        let text = written(&doc, pretty, true);
        let json = request(&text).unwrap();
        let strings: Vec<Value<'_>> = json.nodes().filter(|node| node.kind() == Kind::String).collect();
        prop_assume!(!strings.is_empty());
        let chosen = strings[at.index(strings.len())];
        let mut edits = Edits::default();
        edits.replace_text(chosen, "a \"new\"\n text");
        let out = json.apply(&edits);
        let span = chosen.span();
        prop_assert_eq!(&out[..span.start], &text.as_bytes()[..span.start]);
        prop_assert!(out.ends_with(&text.as_bytes()[span.end..]));
        let again = Json::parse(out, Mode::Request, &Limits::default()).unwrap();
        prop_assert_eq!(again.value(chosen.id()).as_str().unwrap(), "a \"new\"\n text");
    }

    #[test]
    fn removal_leaves_a_document_without_those_members(keep in prop::collection::vec(any::<bool>(), 0..8), pretty: bool) {
        let doc: Tree = Tree::Object(keep.iter().enumerate().map(|(at, _)| (format!("k{at}"), Tree::from(at))).collect());
        let items = Tree::Array((0..keep.len()).map(Tree::from).collect());
        for (tree, is_array) in [(doc, false), (items, true)] {
            let json = request(&written(&tree, pretty, false)).unwrap();
            let mut edits = Edits::default();
            if is_array {
                edits.remove_items(json.root(), |item| !keep[usize::try_from(item.as_u64().unwrap()).unwrap()]);
            } else {
                edits.remove_members(json.root(), |key| !keep[key[1..].parse::<usize>().unwrap()]);
            }
            let left: Tree = serde_json::from_slice(&json.apply(&edits)).unwrap();
            let kept: Vec<usize> = (0..keep.len()).filter(|&at| keep[at]).collect();
            let found: Vec<usize> = match &left {
                Tree::Array(items) => items.iter().map(|item| usize::try_from(item.as_u64().unwrap()).unwrap()).collect(),
                other => other.as_object().unwrap().keys().map(|key| key[1..].parse().unwrap()).collect(),
            };
            prop_assert_eq!(found, kept);
        }
    }

    #[test]
    fn quoting_round_trips(text in any::<String>()) {
        let token = String::from_utf8(quoted(&text)).unwrap();
        prop_assert_eq!(&token, &serde_json::to_string(&text).unwrap());
        let json = request(&token).unwrap();
        prop_assert_eq!(json.root().as_str().unwrap(), text);
    }
}

#[test]
fn what_readers_disagree_on_is_refused_in_requests() {
    let cases: [(&[u8], JsonErrorKind); 19] = [
        (b"\xef\xbb\xbf{}", JsonErrorKind::Bom),
        (b"\xff\xfe{\0}\0", JsonErrorKind::Encoding),
        (b"\xfe\xff\0{\0}", JsonErrorKind::Encoding),
        (b"{\0}\0", JsonErrorKind::Encoding),
        (b"\0\0\0{", JsonErrorKind::Encoding),
        (b"{\"a\":\"\xc3\"}", JsonErrorKind::NotUtf8),
        (b"{\"a\":NaN}", JsonErrorKind::Syntax),
        (b"[Infinity]", JsonErrorKind::Syntax),
        (b"[1e400]", JsonErrorKind::Number),
        (b"[-1E+400]", JsonErrorKind::Number),
        (b"[\"\\ud83d\"]", JsonErrorKind::Surrogate),
        (b"[\"\\ude00\\ud83d\"]", JsonErrorKind::Surrogate),
        (b"{\"a\":1,\"a\":2}", JsonErrorKind::DuplicateKey),
        (b"{\"x\":{\"content\":1,\"c\\u006fntent\":2}}", JsonErrorKind::DuplicateKey),
        (b"{} {}", JsonErrorKind::Trailing),
        (b"[1,]", JsonErrorKind::Syntax),
        (b"{\"a\":1,}", JsonErrorKind::Syntax),
        (b"[1] // no", JsonErrorKind::Trailing),
        (b"", JsonErrorKind::Syntax),
    ];
    for (bytes, kind) in cases {
        let error = Json::parse(Bytes::from_static(bytes), Mode::Request, &Limits::default()).unwrap_err();
        assert_eq!(error.kind, kind, "{}", String::from_utf8_lossy(bytes));
    }
    let digits = "9".repeat(400);
    assert_eq!(request(&digits).unwrap_err(), JsonErrorKind::Number);
}

#[test]
fn grammar_classes_after_jsontestsuite() {
    let yes = [
        "[]",
        "{}",
        " [1] ",
        "[-0]",
        "[0e1]",
        "[1E-2]",
        "[1.5e+3]",
        "\"\"",
        "null",
        "true",
        "{\"\":0}",
        "[\"\\/\"]",
        "[\"\\uD834\\uDd1e\"]",
        "[\"\u{7f}\"]",
        "[123123e100]",
        "{\"a\":[],\"b\":{}}",
        "[\"\u{2028}\"]",
    ];
    let no = [
        "[",
        "]",
        "[1",
        "[1}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\" 1}",
        "{a:1}",
        "['a']",
        "[01]",
        "[+1]",
        "[.5]",
        "[1.]",
        "[-]",
        "[1e]",
        "[0x1]",
        "[\"\t\"]",
        "[\"\\x\"]",
        "[\"\\u12\"]",
        "[\"a]",
        "[,1]",
        "[1,,2]",
        "{,}",
        "[tru]",
        "nul",
        "{\"a\":1 \"b\":2}",
        "[1 2]",
        "/**/[]",
        "\u{a0}[]",
        "[\"\\",
        "{\"a\":/*x*/1}",
        "{[]:1}",
        "[\"\\u000\"]",
    ];
    for text in yes {
        assert!(request(text).is_ok(), "{text}");
    }
    for text in no {
        assert!(request(text).is_err(), "{text}");
    }
}

#[test]
fn responses_show_every_duplicate_and_the_last_wins() {
    let json = parse(r#"{"a":"x","\u0061":"y","b":"\ud83d","c":1e999}"#, Mode::Response).unwrap();
    let all: Vec<String> = json.root().all("a").map(|value| value.as_str().unwrap().into_owned()).collect();
    assert_eq!(all, ["x", "y"]);
    assert_eq!(json.root().get("a").unwrap().as_str().unwrap(), "y");
    assert_eq!(json.root().get("b").unwrap().as_str().unwrap(), "\u{fffd}");
}

#[test]
fn large_objects_find_duplicates_too() {
    let keys: Vec<String> = (0..3000).map(|at| format!("\"k{at}\":{at}")).collect();
    assert!(request(&format!("{{{}}}", keys.join(","))).is_ok());
    assert_eq!(request(&format!("{{{},\"k\\u0030\":1}}", keys.join(","))).unwrap_err(), JsonErrorKind::DuplicateKey);
}

#[test]
fn caps_hold() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(request(&deep(64)).is_ok());
    assert_eq!(request(&deep(65)).unwrap_err(), JsonErrorKind::Depth);
    assert_eq!(request(&"[".repeat(10_000_000)).unwrap_err(), JsonErrorKind::Depth);
    let limits = Limits { nodes: 4, ..Limits::default() };
    assert!(Json::parse(Bytes::from_static(b"[1,2,3]"), Mode::Request, &limits).is_ok());
    assert_eq!(
        Json::parse(Bytes::from_static(b"[1,2,3,4]"), Mode::Request, &limits).unwrap_err().kind,
        JsonErrorKind::Nodes
    );
}

#[test]
fn errors_name_the_place_without_the_users_words() {
    let error = |text: &str| {
        Json::parse(Bytes::copy_from_slice(text.as_bytes()), Mode::Request, &Limits::default()).unwrap_err()
    };
    assert_eq!(error(r#"{"messages":[{"role":"user"},{"content":NaN}]}"#).path, "messages[1].content");
    assert_eq!(error(r#"{"metadata":{"my secret":{"x":[0,"\ud800"]}}}"#).path, "metadata.*.*[1]");
    let twice = error(r#"{"messages":[{"content":1,"content":2}]}"#);
    assert_eq!((twice.path.as_str(), twice.at), ("messages[0].content", 26));
}

#[test]
fn numbers_and_order_survive_an_edit_elsewhere() {
    let text = r#"{"z":123456789012345678901234567890,"a":1.0,"m":"\u0041\/","e":1E2}"#;
    let json = request(text).unwrap();
    let mut edits = Edits::default();
    edits.append_member(json.root(), "x", b"null");
    assert_eq!(json.apply(&edits), format!("{},\"x\":null}}", &text[..text.len() - 1]));
}

#[test]
fn swallowed_and_repeated_edits() {
    let json = request(r#"{"a":["x","y"],"b":1}"#).unwrap();
    let a = json.root().get("a").unwrap();
    let mut edits = Edits::default();
    for item in a.items() {
        edits.replace_text(item, "inner");
    }
    edits.insert(a.span().start, b"".to_vec());
    edits.replace(a.span(), b"1".to_vec());
    edits.replace(a.span(), b"2".to_vec());
    assert_eq!(json.apply(&edits), r#"{"a":2,"b":1}"#);
}

#[test]
fn spans_over_nested_json_never_cut_an_escape() {
    let text = r#"{"a":"x\nme@x.org\u00e9"}"#;
    let from = text.find("nme").unwrap();
    let to = text.find("u00e9").unwrap() + 3;
    assert_eq!(&text[widen_over_escapes(text, from..to)], r"\nme@x.org\u00e9");
    let plain = text.find("me").unwrap()..text.find("\\u").unwrap();
    assert_eq!(widen_over_escapes(text, plain.clone()), plain);
}
