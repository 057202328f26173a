use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Instant, SystemTime};

use super::backlog::{Lines, Positions};
use super::*;
use crate::pairs::draft::tests::{draft, refused};
use crate::pairs::{AfterShipping, Reading, Row, Spool, files};

/// A sink that does as it is told, and remembers.
#[derive(Debug, Default)]
pub(super) struct Scripted {
    pub(super) follows: bool,
    /// How the next calls end; when none is left, well.
    script: Arc<Mutex<Vec<ShipError>>>,
    got: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    /// Two rows at a time. A call that fails has got them all the same: its confirmation was lost.
    pub(super) async fn take(&mut self, file: &Waiting) -> Result<Taken, ShipError> {
        tokio::task::yield_now().await;
        let (mut lines, mut line) = (Lines::open(file)?, Vec::new());
        let mut taken = Taken { upto: file.from, ..Taken::default() };
        while taken.rows < 2 {
            let Some(behind) = lines.next(&mut line)? else { break };
            self.got.lock().unwrap().push(Row::read(&line).unwrap().meta().request_id.clone());
            taken = Taken { upto: behind, rows: taken.rows + 1, bytes: taken.bytes + line.len() as u64, ..taken };
        }
        match self.script.lock().unwrap().pop() {
            Some(error) => Err(error),
            None => Ok(taken),
        }
    }
}

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new().unwrap())
}

fn sink(name: &str, url: &Path) -> SinkConfig {
    let parquet = serde_json::from_value(serde_json::json!({ "url": url })).unwrap();
    SinkConfig { name: name.to_owned(), parquet: Some(parquet), nats: None }
}

fn config(dir: &Path, sinks: &[&str]) -> Config {
    let sinks = sinks.iter().map(|name| sink(name, &dir.with_file_name(name))).collect();
    Config { dir: dir.to_owned(), sinks, ..Config::default() }
}

fn shipper(config: &Config, at: usize, destination: Destination, metrics: &Arc<Metrics>) -> Shipper {
    let backlog = Backlog::new(config, &config.sinks[at].name, &Positions::default());
    Shipper { backlog, destination, metrics: Arc::clone(metrics), healthy: true }
}

fn scripted(follows: bool, script: Vec<ShipError>) -> (Destination, Arc<Mutex<Vec<String>>>) {
    let scripted = Scripted { follows, script: Arc::new(Mutex::new(script)), got: Arc::default() };
    let got = Arc::clone(&scripted.got);
    (Destination::Scripted(scripted), got)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// So many pairs and unpaired rows, in files that are closed.
fn spooled(config: &Config, rows: std::ops::Range<usize>, metrics: &Arc<Metrics>) {
    let spool = Spool::start(config, Arc::clone(metrics)).unwrap();
    for i in rows {
        let id = format!("req_{i:03}");
        spool.offer(if i % 3 == 2 { refused(&id).into_row(&|_| None) } else { draft(&id).into_row(&|_| None) });
    }
    spool.close();
}

fn numbered(rows: std::ops::Range<usize>) -> Vec<String> {
    rows.map(|i| format!("req_{i:03}")).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.contains(".lock"));
    names.sort();
    names
}

fn stored(dir: &Path) -> Vec<String> {
    let mut ids = Vec::new();
    for file in files(dir).unwrap() {
        ids.extend(Reading::open(&file, Arc::default()).unwrap().map(|row| row.unwrap().meta().request_id.clone()));
    }
    ids.sort();
    ids
}

fn counted(metrics: &Metrics, line: &str) -> f64 {
    let page = String::from_utf8(metrics.render().unwrap()).unwrap();
    let found = page.lines().find_map(|have| have.strip_prefix(line)?.trim().parse().ok());
    found.unwrap_or_else(|| panic!("{line} in\n{page}"))
}

fn unreachable(times: usize) -> Vec<ShipError> {
    (0..times).map(|_| ShipError::Unreachable("away".to_owned())).collect()
}

#[test]
fn closed_files_become_parquet_by_day_and_go() {
    let root = tempfile::tempdir().unwrap();
    let config = config(&root.path().join("spool"), &["lake"]);
    let metrics = metrics();
    spooled(&config, 0..30, &metrics);
    let shipping = Sinks::build(&config, &|_| None, Arc::clone(&metrics)).unwrap().start().unwrap();
    shipping.stop();
    let lake = root.path().join("lake");
    assert_eq!(stored(&lake), numbered(0..30));
    assert_eq!(names(&config.dir), Vec::<String>::new());
    assert_eq!(names(&lake), ["pairs", "unpaired"]);
    let day = format!("date={}", &crate::pairs::timestamp::rfc3339(SystemTime::now())[..10]);
    assert_eq!(names(&lake.join("pairs")), [day]);
    assert!((counted(&metrics, "wardline_pairs_shipped_rows_total{sink=\"lake\"}") - 30.0).abs() < 0.1);
    assert!(counted(&metrics, "wardline_pairs_unshipped_bytes{sink=\"lake\"}").abs() < 0.1);
}

/// What was shipped and not noted is shipped again, to the same objects.
#[test]
fn shipping_again_overwrites() {
    let root = tempfile::tempdir().unwrap();
    let config = Config { after_shipping: AfterShipping::Keep, ..config(&root.path().join("spool"), &["lake"]) };
    let metrics = metrics();
    spooled(&config, 0..9, &metrics);
    let ship = || Sinks::build(&config, &|_| None, Arc::clone(&metrics)).unwrap().start().unwrap().stop();
    ship();
    let (lake, kept) = (root.path().join("lake"), config.dir.join("shipped"));
    let before = files(&lake).unwrap();
    for name in names(&kept) {
        std::fs::rename(kept.join(&name), config.dir.join(&name)).unwrap();
    }
    ship();
    assert_eq!(files(&lake).unwrap(), before);
    assert_eq!(stored(&lake), numbered(0..9));
    assert_eq!(stored(&kept), numbered(0..9));
}

#[test]
fn days_have_objects_of_their_own() {
    let root = tempfile::tempdir().unwrap();
    let config = config(&root.path().join("spool"), &["lake"]);
    std::fs::create_dir(&config.dir).unwrap();
    let days = ["2026-11-23", "2026-11-24", "2026-11-23"];
    let lines = days.iter().enumerate().map(|(i, day)| {
        let mut row = serde_json::to_value(draft(&format!("req_{i:03}")).into_row(&|_| None)).unwrap();
        row["meta"]["created_at"] = format!("{day}T23:59:59.999Z").into();
        format!("{row}\n")
    });
    let mut text: String = lines.collect();
    text.push_str("{\"prompt\": 1}\n{\"torn");
    std::fs::write(config.dir.join("pairs-20261123T235959000Z-000000.jsonl"), text).unwrap();
    let metrics = metrics();
    Sinks::build(&config, &|_| None, Arc::clone(&metrics)).unwrap().start().unwrap().stop();
    let lake = root.path().join("lake/pairs");
    assert_eq!(names(&lake), ["date=2026-11-23", "date=2026-11-24"]);
    assert_eq!(stored(&lake.join("date=2026-11-23")), ["req_000", "req_002"]);
    assert_eq!(stored(&lake.join("date=2026-11-24")), ["req_001"]);
    for (sink, reason) in [("lake", "unreadable"), ("spool", "torn")] {
        let lost = format!("wardline_pairs_dropped_total{{reason=\"{reason}\",sink=\"{sink}\"}}");
        assert!((counted(&metrics, &lost) - 1.0).abs() < 0.1, "{reason}");
    }
}

#[test]
fn after_failures_a_sink_goes_on_where_it_was() {
    let root = tempfile::tempdir().unwrap();
    let config = config(&root.path().join("spool"), &["stream"]);
    let metrics = metrics();
    spooled(&config, 0..6, &metrics);
    let (destination, got) = scripted(true, unreachable(1));
    let mut shipper = shipper(&config, 0, destination, &metrics);
    block_on(async {
        assert!(shipper.round().await.is_err());
        assert!(shipper.round().await.is_ok());
    });
    assert_eq!(
        *got.lock().unwrap(),
        ["req_000", "req_001", "req_000", "req_001", "req_003", "req_004", "req_002", "req_005"]
    );
    assert_eq!(names(&config.dir), Vec::<String>::new());
    assert!((counted(&metrics, "wardline_pairs_shipped_rows_total{sink=\"stream\"}") - 6.0).abs() < 0.1);
}

#[test]
fn a_file_goes_when_every_sink_has_it() {
    let root = tempfile::tempdir().unwrap();
    let config = config(&root.path().join("spool"), &["one", "two"]);
    let metrics = metrics();
    spooled(&config, 0..2, &metrics);
    let (first, _) = scripted(false, Vec::new());
    let (second, got) = scripted(false, unreachable(1));
    let (mut first, mut second) = (shipper(&config, 0, first, &metrics), shipper(&config, 1, second, &metrics));
    block_on(async {
        first.round().await.unwrap();
        assert_eq!(names(&config.dir).len(), 2, "the file, and the note of the first");
        second.round().await.unwrap_err();
        first.round().await.unwrap();
        assert_eq!(names(&config.dir).len(), 2);
        assert!(counted(&metrics, "wardline_pairs_oldest_unshipped_timestamp_seconds{sink=\"two\"}") > 1e9);
        assert!(counted(&metrics, "wardline_pairs_oldest_unshipped_timestamp_seconds{sink=\"one\"}").abs() < 0.1);
        second.round().await.unwrap();
        first.round().await.unwrap();
    });
    assert_eq!(names(&config.dir), Vec::<String>::new());
    assert_eq!(got.lock().unwrap().len(), 4);
}

#[test]
fn a_following_sink_gets_rows_of_a_file_that_is_still_written() {
    let root = tempfile::tempdir().unwrap();
    let config = Config { fsync_rows: 1, ..config(&root.path().join("spool"), &["stream", "lake"]) };
    let metrics = metrics();
    let spool = Spool::start(&config, Arc::clone(&metrics)).unwrap();
    let (stream, got) = scripted(true, Vec::new());
    let (lake, waits) = scripted(false, Vec::new());
    let (mut stream, mut lake) = (shipper(&config, 0, stream, &metrics), shipper(&config, 1, lake, &metrics));
    spool.offer(draft("req_000").into_row(&|_| None));
    block_on(async {
        while got.lock().unwrap().is_empty() {
            stream.round().await.unwrap();
        }
        lake.round().await.unwrap();
        assert!(waits.lock().unwrap().is_empty());
        spool.offer(draft("req_001").into_row(&|_| None));
        spool.close();
        stream.round().await.unwrap();
        lake.round().await.unwrap();
        stream.round().await.unwrap();
    });
    assert_eq!(*got.lock().unwrap(), numbered(0..2), "each once: the note says where it was");
    assert_eq!(*waits.lock().unwrap(), numbered(0..2));
    assert_eq!(names(&config.dir), Vec::<String>::new());
}

#[test]
fn one_process_ships_and_another_takes_over_when_it_ends() {
    let root = tempfile::tempdir().unwrap();
    let config = config(&root.path().join("spool"), &["stream"]);
    let metrics = metrics();
    std::fs::create_dir(&config.dir).unwrap();
    let (first, _) = scripted(false, Vec::new());
    let (second, got) = scripted(false, Vec::new());
    let (mut first, mut second) = (shipper(&config, 0, first, &metrics), shipper(&config, 0, second, &metrics));
    block_on(async {
        first.round().await.unwrap();
        spooled(&config, 0..1, &metrics);
        second.round().await.unwrap();
        assert!(got.lock().unwrap().is_empty());
        drop(first);
        second.round().await.unwrap();
    });
    assert_eq!(*got.lock().unwrap(), numbered(0..1));
}

/// A dead sink fills the directory up to its bound; what comes on top is counted, and when it is back all goes on.
#[test]
fn the_spool_is_bounded_while_a_sink_is_away() {
    let root = tempfile::tempdir().unwrap();
    let line = serde_json::to_vec(&draft("req_000").into_row(&|_| None)).unwrap().len() as u64 + 1;
    let config =
        Config { max_bytes: 10 * line, max_file_bytes: 3 * line, ..config(&root.path().join("spool"), &["lake"]) };
    let metrics = metrics();
    let spool = Spool::start(&config, Arc::clone(&metrics)).unwrap();
    (0..25).for_each(|i| spool.offer(draft(&format!("req_{i:03}")).into_row(&|_| None)));
    spool.close();
    assert_eq!(stored(&config.dir), numbered(0..10));
    assert!(
        (counted(&metrics, "wardline_pairs_dropped_total{reason=\"spool_full\",sink=\"spool\"}") - 15.0).abs() < 0.1
    );
    Sinks::build(&config, &|_| None, Arc::clone(&metrics)).unwrap().start().unwrap().stop();
    let spool = Spool::start(&config, Arc::clone(&metrics)).unwrap();
    (25..27).for_each(|i| spool.offer(draft(&format!("req_{i:03}")).into_row(&|_| None)));
    spool.close();
    Sinks::build(&config, &|_| None, Arc::clone(&metrics)).unwrap().start().unwrap().stop();
    assert_eq!(stored(&root.path().join("lake")), [numbered(0..10), numbered(25..27)].concat());
}

#[test]
fn kept_files_give_way_to_new_rows() {
    let root = tempfile::tempdir().unwrap();
    let line = serde_json::to_vec(&draft("req_000").into_row(&|_| None)).unwrap().len() as u64 + 1;
    let config = Config {
        max_bytes: 5 * line,
        max_file_bytes: 2 * line,
        after_shipping: AfterShipping::Keep,
        ..config(&root.path().join("spool"), &["lake"])
    };
    let metrics = metrics();
    for from in [0, 4] {
        let spool = Spool::start(&config, Arc::clone(&metrics)).unwrap();
        (from..from + 4).for_each(|i| spool.offer(draft(&format!("req_{i:03}")).into_row(&|_| None)));
        spool.close();
        Sinks::build(&config, &|_| None, Arc::clone(&metrics)).unwrap().start().unwrap().stop();
    }
    assert_eq!(stored(&root.path().join("lake")), numbered(0..8));
    assert_eq!(stored(&config.dir.join("shipped")), numbered(4..8));
}

/// Shippers and the writer share the directory: an empty file that is just being opened is not taken away for good.
#[test]
fn files_are_closed_by_age_where_there_are_sinks() {
    let root = tempfile::tempdir().unwrap();
    let config = Config { seal_ms: 1, ..config(&root.path().join("spool"), &["lake"]) };
    let metrics = metrics();
    let spool = Spool::start(&config, Arc::clone(&metrics)).unwrap();
    let shipping = Sinks::build(&config, &|_| None, Arc::clone(&metrics)).unwrap().start().unwrap();
    let lake = root.path().join("lake");
    let patience = Instant::now() + Duration::from_mins(1);
    for i in 0..3 {
        spool.offer(draft(&format!("req_{i:03}")).into_row(&|_| None));
        while files(&lake).map_or(0, |files| files.len()) <= i {
            assert!(Instant::now() < patience, "nothing is shipped");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    spool.close();
    shipping.stop();
    assert_eq!(stored(&lake), numbered(0..3));
}

#[test]
fn pauses_double_and_end_at_a_minute() {
    let seconds: Vec<f64> = (1..10).map(|failures| pause(failures, 1.0).as_secs_f64()).collect();
    assert_eq!(seconds, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]);
    assert_eq!(pause(u32::MAX, 0.0), Duration::from_secs(30));
}

#[test]
fn mistakes_name_their_key() {
    let dir = PathBuf::from("/nowhere/spool");
    let told = |sinks: serde_json::Value| {
        let config = Config { sinks: serde_json::from_value(sinks).unwrap(), ..config(&dir, &[]) };
        let variable = |name: &str| (name == "SET").then(|| "value".to_owned());
        Sinks::build(&config, &variable, metrics()).map(|_| ()).map_err(|error| error.to_string())
    };
    let parquet = |more: &str| {
        let text = format!("[{{\"name\": \"a\", \"parquet\": {{\"url\": \"s3://b/p\"{more}}}}}]");
        told(serde_json::from_str(&text).unwrap())
    };
    let nats = |more: &str| {
        let text = format!("[{{\"name\": \"a\", \"nats\": {{\"url\": \"nats://127.0.0.1:4222\"{more}}}}}]");
        told(serde_json::from_str(&text).unwrap())
    };
    assert_eq!((parquet(""), nats("")), (Ok(()), Ok(())));
    assert_eq!(parquet(", \"access_key_id_env\": \"SET\", \"secret_access_key_env\": \"SET\""), Ok(()));
    assert_eq!(parquet(", \"endpoint\": \"http://127.0.0.1:1\", \"allow_http\": true"), Ok(()));
    for (made, begins) in [
        (told(serde_json::json!([{"name": "a"}])), "sinks[0]: expected one of `parquet` and `nats`"),
        (told(serde_json::json!([{"name": "A", "nats": {"url": "x"}}])), "sinks[0].name: expected up to 32"),
        (told(serde_json::json!([{"name": "spool", "nats": {"url": "x"}}])), "sinks[0].name: `spool` is taken"),
        (
            told(serde_json::json!([{"name": "a", "parquet": {"url": "gs://b"}}])),
            "sinks[0].parquet.url: `gs` is not known",
        ),
        (
            told(serde_json::json!([{"name": "a", "parquet": {"url": "/nowhere/spool/x"}}])),
            "sinks[0].parquet.url: expected a directory outside",
        ),
        (
            parquet(", \"endpoint\": \"http://127.0.0.1:1\""),
            "sinks[0].parquet.endpoint: expected https://HOST, or `allow_http: true`",
        ),
        (parquet(", \"endpoint\": \"127.0.0.1:1\""), "sinks[0].parquet.endpoint: expected https://HOST"),
        (
            parquet(", \"access_key_id_env\": \"SET\""),
            "sinks[0].parquet.access_key_id_env: expected `secret_access_key_env`",
        ),
        (
            parquet(", \"access_key_id_env\": \"UNSET\""),
            "sinks[0].parquet.access_key_id_env: the environment variable UNSET is not set",
        ),
        (nats(", \"subject\": \"a.>\""), "sinks[0].nats.subject: expected words"),
        (nats(", \"user_env\": \"SET\""), "sinks[0].nats.user_env: expected `password_env`"),
        (
            nats(", \"token_env\": \"SET\", \"credentials_file\": \"/nowhere/x.creds\""),
            "sinks[0].nats: expected one way to log in",
        ),
        (
            nats(", \"credentials_file\": \"/nowhere/x.creds\""),
            "sinks[0].nats.credentials_file: /nowhere/x.creds: No such file",
        ),
    ] {
        let told = made.unwrap_err();
        assert!(told.starts_with(begins), "{told}");
    }
}

/// A full disk takes no notes of how far a sink is; the files that all sinks have must go all the same, or it stays full.
#[test]
fn files_go_though_nothing_can_be_noted() {
    let root = tempfile::tempdir().unwrap();
    let config = config(&root.path().join("spool"), &["lake", "stream"]);
    let metrics = metrics();
    spooled(&config, 0..9, &metrics);
    let files = names(&config.dir);
    for file in &files {
        for sink in ["lake", "stream"] {
            std::fs::create_dir(config.dir.join(format!("{file}.{sink}.new"))).unwrap();
        }
    }
    let reached = Positions::default();
    let mut shippers: Vec<Shipper> = (0..2)
        .map(|at| {
            let mut shipper = shipper(&config, at, scripted(true, Vec::new()).0, &metrics);
            shipper.backlog = Backlog::new(&config, &config.sinks[at].name, &reached);
            shipper
        })
        .collect();
    for _ in 0..2 * files.len() * 9 {
        for shipper in &mut shippers {
            drop(block_on(shipper.round()));
        }
        // What stands in the way of a note goes with its file.
        for file in files.iter().filter(|file| !config.dir.join(file).exists()) {
            for sink in ["lake", "stream"] {
                drop(std::fs::remove_dir(config.dir.join(format!("{file}.{sink}.new"))));
            }
        }
    }
    let left: Vec<String> = names(&config.dir).into_iter().filter(|name| files.contains(name)).collect();
    assert_eq!(left, Vec::<String>::new());
}
