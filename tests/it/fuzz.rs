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
