//! The corpora of the fuzz targets, through the targets' own bodies.

use std::fs;
use std::path::Path;

#[path = "../../fuzz/bodies.rs"]
mod bodies;

/// How many inputs each corpus has at the least: an empty folder would test nothing.
const LEAST: usize = 20;

fn replay(target: &str, body: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs: Vec<_> = fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(inputs.len() >= LEAST, "{}: {} inputs", corpus.display(), inputs.len());
    for input in inputs {
        let data = fs::read(&input).unwrap();
        let result = std::panic::catch_unwind(|| body(&data));
        assert!(result.is_ok(), "{}", input.display());
    }
}

#[test]
fn the_framers_corpus_holds() {
    replay("framer", bodies::framer);
}

#[test]
fn the_walkers_corpus_holds() {
    replay("walker", bodies::walker);
}

#[test]
fn the_paths_corpus_holds() {
    replay("path", bodies::path);
}

#[test]
fn the_policies_corpus_holds() {
    replay("policy", bodies::policy);
}

/// What grammars are made of, for inputs that get past the first look.
const PIECES: [&str; 40] = [
    "\"",
    "\\",
    "\\u00e9",
    "\\ud83d\\ude00",
    "\\ud800",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "null",
    "true",
    "1e400",
    "-0.5",
    "\n\n",
    "\r\n\r\n",
    "\r",
    "data: ",
    "event: ",
    "id: 1\n",
    ": note\n",
    "\u{feff}",
    "[DONE]",
    "\"type\":\"text\"",
    "\"text\":\"a\"",
    "\"content\":[]",
    "\"delta\":{}",
    "\"choices\":[{}]",
    "\"arguments\":\"{\\\"a\\\":\\\"b\\\"}\"",
    "\"input\":{}",
    "\"logprobs\":null",
    "\"annotations\":[]",
    "\"thinking\":\"a\",\"signature\":\"c2ln\"",
    "%2F",
    "/v1/",
    "..",
    "rules:\n",
    "  - id: a\n",
    "\u{200b}\u{e0041}",
];

/// Numbers from a seed, so that a run can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(below.max(1)).unwrap()).unwrap()
    }

    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.roll(length + 1);
        start..(start + 1 + self.roll(24)).min(length).max(start)
    }

    /// An input with a few things changed in it.
    fn change(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        for _ in 0..=self.roll(5) {
            let range = self.range(input.len());
            match self.roll(8) {
                0 => drop(input.drain(range)),
                1 => {
                    let again = input[range.clone()].to_vec();
                    input.splice(range.start..range.start, again);
                }
                2 | 3 => drop(input.splice(range.start..range.start, PIECES[self.roll(PIECES.len())].bytes())),
                4 => drop(input.splice(range, PIECES[self.roll(PIECES.len())].bytes())),
                5 => {
                    let from = self.range(other.len());
                    drop(input.splice(range, other[from].iter().copied()));
                }
                6 => input.truncate(range.end),
                _ => {
                    let (byte, at) = (self.roll(256), range.start);
                    if let Some(changed) = input.get_mut(at) {
                        *changed = u8::try_from(byte).unwrap();
                    }
                }
            }
        }
        input.truncate(16 * 1024);
    }
}

type Body = fn(&[u8]);

/// The targets on stable, over changed inputs of the corpora, without coverage: `make fuzz-stable`. What breaks one lies in
/// `target/fuzz-found` afterwards.
#[test]
#[ignore = "runs for WARDLINE_FUZZ_S seconds a target: `make fuzz-stable`"]
fn changed_inputs_hold() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |value| value.parse().unwrap());
    let (seconds, seed) = (number("WARDLINE_FUZZ_S", 10), number("WARDLINE_FUZZ_SEED", 0x9e37_79b9_7f4a_7c15));
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz-found");
    fs::create_dir_all(&found).unwrap();
    let targets: [(&str, Body); 4] =
        [("framer", bodies::framer), ("walker", bodies::walker), ("path", bodies::path), ("policy", bodies::policy)];
    let mut broken = Vec::new();
    for (target, body) in targets {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let mut inputs: Vec<Vec<u8>> =
            fs::read_dir(&corpus).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
        inputs.sort();
        let (mut dice, mut runs, until) = (Dice(seed), 0u64, std::time::Duration::from_secs(seconds));
        let since = std::time::Instant::now();
        while since.elapsed() < until {
            let mut input = inputs[dice.roll(inputs.len())].clone();
            let other = dice.roll(inputs.len());
            dice.change(&mut input, &inputs[other]);
            runs += 1;
            if std::panic::catch_unwind(|| body(&input)).is_err() {
                let path = found.join(format!("{target}-{runs}"));
                fs::write(&path, &input).unwrap();
                broken.push(path);
                if broken.len() > 20 {
                    break;
                }
            }
        }
        assert!(runs > 100, "{target}: {runs} runs");
        fs::write(found.join(format!("{target}.txt")), format!("{runs} runs in {seconds} s, seed {seed}\n")).unwrap();
    }
    assert!(broken.is_empty(), "{broken:?}");
}
