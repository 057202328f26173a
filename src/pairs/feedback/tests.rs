use serde_json::json;

use super::*;
use crate::pairs::draft::tests::draft;
use crate::pairs::row::{Row, Signal, Tag};
use crate::pairs::{Draft, Source, Word, mistakes};

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn message(text: &str) -> serde_json::Value {
    json!({"role": "assistant", "content": text})
}

fn exchange(text: &str) -> Exchange {
    let answers = vec![(0, message(text)), (1, message("another secret"))];
    Exchange::new(draft("req_1"), (answers, 7), &|text| text.contains("secret").then(|| text.replace("secret", "[S]")))
}

fn word() -> Word {
    Word { signal: Signal::Explicit, event: "thumbs_up", rating: None, comment: None }
}

fn feedback(memory_bytes: usize) -> (Feedback, Metrics) {
    (Feedback::new(&Config { memory_bytes, ..Config::default() }), Metrics::new().unwrap())
}

#[test]
fn each_word_makes_its_row_of_a_redacted_exchange() {
    let one = exchange("my secret");
    let stored = serde_json::to_string(&one).unwrap();
    assert!(!stored.contains("secret"), "{stored}");
    let Some(Row::Unpaired(rated)) = one.rated(0, true, word()) else { panic!("unpaired") };
    assert_eq!((rated.label, &rated.completion), (true, &vec![message("my [S]")]));
    let Some(Row::Pair(better)) = one.bettered(0, "A better one.", word()) else { panic!("a pair") };
    assert_eq!((&better.chosen, &better.rejected), (&vec![message("A better one.")], &vec![message("my [S]")]));
    let Some(Row::Pair(over)) = one.preferred(1, (&exchange("worse"), 0), word()) else { panic!("a pair") };
    assert_eq!((&over.chosen, &over.rejected), (&vec![message("another [S]")], &vec![message("worse")]));
    for row in [Row::Unpaired(rated), Row::Pair(better), Row::Pair(over)] {
        assert_eq!((row.meta().source, row.meta().signal), (Source::Feedback, Some(Signal::Explicit)));
        assert_eq!(mistakes(&row), Vec::<String>::new());
    }
    assert!(one.rated(2, true, word()).is_none() && one.bettered(2, "x", word()).is_none());
    assert!(one.preferred(0, (&one, 5), word()).is_none());
}

#[test]
fn what_makes_either_answer_doubtful_makes_the_pair_so() {
    let with = |tags: &[Tag]| {
        let draft = Draft { tags: tags.to_vec(), ..draft("req_1") };
        Exchange::new(draft, (vec![(0, message(&format!("{tags:?}")))], 7), &|_| None)
    };
    let (one, other) = (with(&[Tag::Truncated]), with(&[Tag::Aborted, Tag::Truncated]));
    let row = one.preferred(0, (&other, 0), word()).unwrap();
    assert_eq!(row.meta().tags, [Tag::Aborted, Tag::Truncated]);
    assert!(one.asks_as(&other));
}

#[test]
fn the_oldest_go_when_there_is_no_room_and_all_in_time() {
    let size = serde_json::to_vec(&exchange("a")).unwrap().len() + 160;
    let (feedback, metrics) = feedback(3 * size);
    for id in 0..4 {
        feedback.keep(id, &exchange("a"), NOW, &metrics);
    }
    let there = |feedback: &Feedback| (0..6).filter(|id| feedback.exchange(*id).is_some()).collect::<Vec<_>>();
    assert_eq!(there(&feedback), [1, 2, 3]);
    feedback.keep(4, &exchange(&"a".repeat(4 * size)), NOW, &metrics);
    assert_eq!(there(&feedback), [1, 2, 3], "one that fits nowhere moves nobody");
    feedback.keep(5, &exchange("a"), NOW + Duration::from_hours(25), &metrics);
    assert_eq!(there(&feedback), [5]);
    let page = String::from_utf8(metrics.render().unwrap()).unwrap();
    for line in [
        "wardline_feedback_exchanges 1",
        &format!("wardline_feedback_exchange_bytes {size}"),
        "wardline_feedback_crowded_out_total 2",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}\n{page}");
    }
}

#[test]
fn the_first_word_on_a_thing_counts_and_the_same_again_changes_nothing() {
    let (feedback, _) = feedback(1 << 20);
    let say = |id: u128, topic: &str, word: &str| feedback.take(id, Given::of(&[topic.as_bytes()], &[word.as_bytes()]));
    assert_eq!(say(1, "thumbs", "up"), Taken::New);
    assert_eq!((say(1, "thumbs", "up"), say(1, "thumbs", "down")), (Taken::Again, Taken::Otherwise));
    assert_eq!((say(1, "rating", "5"), say(2, "thumbs", "down")), (Taken::New, Taken::New));
    for topic in 0..14 {
        assert_eq!(say(1, &topic.to_string(), "x"), Taken::New);
    }
    assert_eq!((say(1, "one more", "x"), say(1, "thumbs", "up")), (Taken::Enough, Taken::Again));
    assert_ne!(Given::of(&[b"ab", b"c"], &[]), Given::of(&[b"a", b"bc"], &[]));
}

/// Memory for words is bounded, and forgetting one does not let it count twice.
#[test]
fn what_was_said_long_ago_is_forgotten_with_its_exchange() {
    let (feedback, metrics) = feedback(1 << 20);
    let given = Given::of(&[b"thumbs"], &[b"up"]);
    feedback.keep(0, &exchange("a"), NOW, &metrics);
    for id in 0..=65_536 {
        assert_eq!(feedback.take(id, given), Taken::New);
    }
    assert!(feedback.exchange(0).is_none());
    assert_eq!(feedback.take(65_536, given), Taken::Again);
}

#[test]
fn each_client_has_its_places_each_minute() {
    let config = Config { per_minute: 2, ..Config::default() };
    let feedback = Feedback::new(&config);
    let admits = |owner: &str, second: u64| feedback.admits(owner.as_bytes(), NOW + Duration::from_secs(second));
    assert!(admits("a", 0) && admits("a", 59) && !admits("a", 59));
    assert!(admits("b", 59) && admits("a", 60));
    // Whoever makes up keys ends in a place that all who do so share.
    let admitted = (0..10_100).filter(|n| admits(&format!("made up {n}"), 120)).count();
    assert!((10_000..=10_003).contains(&admitted), "{admitted}");
}
