use proptest::prelude::*;

use super::*;

fn set(patterns: &[(&str, &str)]) -> PatternSet {
    let patterns: Vec<_> = patterns.iter().map(|&(id, regex)| (id.to_owned(), regex.to_owned())).collect();
    PatternSet::compile(&[], &patterns).unwrap()
}

fn everything() -> PatternSet {
    let entities: Vec<_> = pii::ENTITIES.iter().map(|&name| name.to_owned()).collect();
    let patterns = [
        ("project", r"(?i)\bproject\s+nightingale\b"),
        ("case", r"[A-Z]{2}-\d{3,6}"),
        ("run", r"z+"),
        ("last", r"over and out$"),
    ];
    let patterns: Vec<_> = patterns.iter().map(|&(id, regex)| (id.to_owned(), regex.to_owned())).collect();
    PatternSet::compile(&entities, &patterns).unwrap()
}

/// Redacts piece by piece, as a stream would, dropping what was released but for the context.
fn piecewise(set: &PatternSet, pieces: &[&str]) -> String {
    fn release(out: &mut String, buffer: &str, range: Range<usize>, matches: &[Match<'_>]) {
        let mut at = range.start;
        for found in matches {
            out.push_str(&buffer[at..found.range.start]);
            out.push('[');
            out.push_str(found.entity);
            out.push(']');
            at = found.range.end;
        }
        out.push_str(&buffer[at..range.end]);
    }
    let (mut out, mut buffer, mut from) = (String::new(), String::new(), 0);
    for piece in pieces {
        buffer.push_str(piece);
        let settled = set.settle(&buffer, from);
        assert!(settled.matches.iter().all(|found| found.range.end <= settled.safe));
        release(&mut out, &buffer, from..settled.safe, &settled.matches);
        let keep = buffer.floor_char_boundary(settled.safe.saturating_sub(PatternSet::CONTEXT));
        buffer.drain(..keep);
        from = settled.safe - keep;
        assert!(buffer.len() - from <= 4096, "held {} bytes", buffer.len() - from);
    }
    let rest = set.find_from(&buffer, from);
    release(&mut out, &buffer, from..buffer.len(), &rest);
    out
}

#[test]
fn leftmost_then_longest_and_never_overlapping() {
    let set = set(&[("short", "ab"), ("long", "abc+"), ("late", "bccd")]);
    let found: Vec<_> = set.find("xabccd ab").into_iter().map(|m| (m.range, m.entity)).collect();
    assert_eq!(found, [(1..5, "long"), (7..9, "short")]);
    assert_eq!(set.redact("xabccd ab").as_deref(), Some("x[long]d [short]"));
    assert_eq!(set.redact("nothing"), None);
}

#[test]
fn holds_what_may_become_a_match_and_nothing_else() {
    let set = set(&[("w", "secret(?:ly)?"), ("b", r"\bcat\b")]);
    for (text, safe) in [
        ("a sec", 2),
        ("a sed", 5),
        ("a secret", 2),   // may become "secretly"
        ("a secretl", 2),  // "secretl" is the match "secret", or the beginning of a longer one
        ("a secretly", 2), // the end of a match shows with the byte behind it
        ("a secretly ", 11),
        ("a cat", 2), // "category"
        ("a cat.", 6),
        ("a catt", 6),
        ("bobc", 4), // no boundary before c
        ("", 0),
    ] {
        assert_eq!(set.safe_len(text), safe, "{text:?}");
    }
    assert_eq!(set.settle("a cat.", 0).matches, [Match { range: 2..5, entity: "b" }]);
    assert_eq!(set.settle("bob cat.", 4).matches, [Match { range: 4..7, entity: "b" }]);
    assert_eq!(set.settle("bobcat.", 3).matches, [], "the context counts");
}

#[test]
fn refuses_what_cannot_work() {
    let compile = |regex: &str| PatternSet::compile(&[], &[("p".into(), regex.into())]).unwrap_err();
    assert!(matches!(compile("("), PatternError::Syntax { .. }));
    assert!(matches!(compile("a*"), PatternError::Empty { .. }));
    assert!(matches!(compile(r"\b"), PatternError::Empty { .. }));
    assert!(matches!(compile("[a&&b]"), PatternError::Never { .. }));
    assert!(matches!(compile(r"\w{500}\d{500}x"), PatternError::TooLarge { .. }));
    assert!(matches!(compile(r"(?:a|b)*a(?:a|b){40}"), PatternError::TooLarge { .. }));
    let unknown = PatternSet::compile(&["EMAIL".into()], &[]).unwrap_err();
    assert!(unknown.to_string().contains("EMAIL_ADDRESS"), "{unknown}");
}

#[test]
fn word_boundaries_are_those_of_ascii_words() {
    let set = set(&[("p", r"\bve\b")]);
    assert_eq!(set.redact("naïve ve nave").as_deref(), Some("naï[p] [p] nave"));
}

#[test]
fn long_matches_are_cut_and_held_no_longer() {
    let set = set(&[("run", "z+"), ("rest", "BEGIN.*")]);
    let text = "z".repeat(2000);
    assert_eq!(set.find(&text).len(), 4);
    assert_eq!(set.safe_len(&text), 1536);
    let text = format!("BEGIN{}", "é".repeat(1000));
    let first = set.find(&text)[0].range.clone();
    assert_eq!(first, 0..511, "at a character boundary");
}

#[test]
fn ordinary_text_is_not_held() {
    let set = everything();
    for text in [
        "The answer is yes. ",
        "Нет, спасибо. ",
        "好的，没问题。",
        "It costs 12.50 euros, 3 in all; ",
        "fn main() { } ",
    ] {
        assert_eq!(set.safe_len(text), text.len(), "{text:?}");
    }
}

const PLANTED: &[&str] = &[
    "john.doe+x@mail.example.co.uk",
    "rené@exämple.fr",
    "4111 1111 1111 1111",
    "378282246310005",
    "GB82 WEST 1234 5698 7654 32",
    "DE89370400440532013000",
    "123-45-6789",
    "+44 20 7946 0958",
    "(602) 272-9781 x22",
    "01.84.17.61.18",
    "10.20.30.40",
    "2001:db8::ff00:42:8329",
    "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
    "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq",
    "sk-proj-abcDEF123456abcDEF123456",
    "AKIAIOSFODNN7EXAMPLE",
    "Project \n Nightingale",
    "AB-123456",
    "zzz",
    "over and out",
];

fn words() -> impl Strategy<Value = Vec<String>> {
    let word = prop_oneof![
        3 => prop::sample::select(PLANTED).prop_map(str::to_owned),
        2 => "[a-z]{1,8}",
        1 => "[0-9a-f.:()@ +x-]{1,10}",
        1 => "[é好🙂а0-9.]{1,3}",
        1 => "[A-Z0-9]{1,6}",
    ];
    prop::collection::vec((word, prop::sample::select(&["", " ", ", ", ".", "-", "\n", "é"][..])), 0..12)
        .prop_map(|words| words.into_iter().map(|(word, gap)| word + gap).collect())
}

fn cut<'a>(text: &'a str, cuts: &[prop::sample::Index]) -> Vec<&'a str> {
    let mut places: Vec<usize> = cuts.iter().map(|i| text.floor_char_boundary(i.index(text.len() + 1))).collect();
    places.extend([0, text.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// K02: whatever the split, the client reads what a whole-text redaction gives.
    #[test]
    fn any_split_gives_the_redaction_of_the_whole(
        words in words(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..24),
    ) {
        let set = EVERYTHING.with(std::rc::Rc::clone);
        let text = words.concat();
        let whole = set.redact(&text).unwrap_or_else(|| text.clone());
        prop_assert_eq!(&piecewise(&set, &cut(&text, &cuts)), &whole);
        let letters: Vec<_> = text.char_indices().map(|(i, c)| &text[i..i + c.len_utf8()]).collect();
        prop_assert_eq!(&piecewise(&set, &letters), &whole);
    }

    /// Whatever comes next, what was settled stays, and no match reaches over the border.
    #[test]
    fn no_continuation_changes_what_is_settled(before in words(), next in words()) {
        let set = EVERYTHING.with(std::rc::Rc::clone);
        let text = before.concat();
        let settled = set.settle(&text, 0);
        let whole = text.clone() + &next.concat();
        let found = set.find(&whole);
        let kept: Vec<_> = found.iter().filter(|m| m.range.start < settled.safe).cloned().collect();
        prop_assert_eq!(kept, settled.matches);
    }

    /// What is held back is held for a reason: some continuation does make it part of a match.
    #[test]
    fn a_held_literal_can_still_become_a_match(text in "[ab ]{0,12}") {
        let set = set(&[("p", "abba+b")]);
        let safe = set.safe_len(&text);
        let can = ["", "b", "bab", "bbab", "abbab", "ab", "bbaab"].iter().any(|next| {
            set.find(&(text.clone() + next)).iter().any(|m| m.range.start == safe && m.range.end >= text.len())
        });
        prop_assert!(can || safe == text.len(), "{text:?} held from {safe}");
    }
}

thread_local! {
    static EVERYTHING: std::rc::Rc<PatternSet> = std::rc::Rc::new(everything());
}
