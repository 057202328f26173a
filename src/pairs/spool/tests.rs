use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::pairs::Draft;
use crate::pairs::draft::tests::{draft, refused};

fn config(dir: &Path) -> Config {
    Config { dir: dir.to_owned(), ..Config::default() }
}

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new().unwrap())
}

fn pair(i: usize) -> Row {
    draft(&format!("req_{i}")).into_row(&|_| None)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Request ids of all rows, in the order of the files' names.
fn rows(dir: &Path) -> Vec<String> {
    let text: String = files(dir).iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| Row::read(line.as_bytes()).unwrap().meta().request_id.clone()).collect()
}

fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|i| format!("req_{i}")).collect()
}

/// The value of a counter of the spool.
fn counted(metrics: &Metrics, name: &str, reason: &str) -> u64 {
    let page = String::from_utf8(metrics.render().unwrap()).unwrap();
    let label = if reason.is_empty() { "sink=\"spool\"".to_owned() } else { format!("reason=\"{reason}\"") };
    let line = page.lines().find(|line| line.starts_with(name) && (reason == "-" || line.contains(&label)));
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

#[test]
fn rows_come_out_whole_in_order_and_for_the_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("made/on/start");
    let metrics = metrics();
    let spool = Spool::start(&config(&dir), Arc::clone(&metrics)).unwrap();
    (0..100).for_each(|i| spool.clone().offer(pair(i)));
    spool.close();
    assert_eq!(rows(&dir), numbered(0..100));
    assert_eq!(files(&dir).len(), 1);
    assert_eq!(std::fs::metadata(&files(&dir)[0]).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(counted(&metrics, "wardline_pairs_sampled_total", ""), 100);
    assert_eq!(counted(&metrics, "wardline_pairs_buffer_rows", "-"), 0);
    spool.offer(pair(100));
    spool.close();
    assert_eq!(counted(&metrics, "wardline_pairs_dropped_total", "closed"), 1);
}

#[test]
fn files_rotate_by_size_and_their_names_sort() {
    let dir = tempfile::tempdir().unwrap();
    let line = serde_json::to_vec(&pair(10)).unwrap().len() as u64 + 1;
    let config = Config { max_file_bytes: 3 * line, ..config(dir.path()) };
    let spool = Spool::start(&config, metrics()).unwrap();
    (10..20).for_each(|i| spool.offer(pair(i)));
    spool.close();
    assert_eq!(rows(dir.path()), numbered(10..20));
    let sizes: Vec<_> = files(dir.path()).iter().map(|file| file.metadata().unwrap().len()).collect();
    assert_eq!(sizes.len(), 4);
    assert!(sizes.iter().all(|&size| size <= 3 * line), "{sizes:?}");
}

#[test]
fn a_row_longer_than_a_file_is_dropped_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = metrics();
    let spool = Spool::start(&Config { max_file_bytes: 4096, ..config(dir.path()) }, Arc::clone(&metrics)).unwrap();
    let long = Draft { critique: Some("x".repeat(5000)), ..draft("req_0") }.into_row(&|_| None);
    spool.offer(long);
    spool.offer(pair(1));
    spool.close();
    assert_eq!(rows(dir.path()), numbered(1..2));
    assert_eq!(counted(&metrics, "wardline_pairs_dropped_total", "too_large"), 1);
}

#[test]
fn rows_in_the_making_are_expected() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::start(&config(dir.path()), metrics()).unwrap();
    let (one, two) = (spool.place(), spool.clone().place());
    assert_eq!(spool.expected(), 2);
    drop(one);
    assert_eq!(spool.expected(), 1);
    drop(two);
    assert_eq!(spool.expected(), 0);
    spool.close();
}

#[test]
fn unpaired_rows_have_files_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::start(&config(dir.path()), metrics()).unwrap();
    for i in 0..6 {
        let id = format!("req_{i}");
        spool.offer(if i % 2 == 0 { draft(&id).into_row(&|_| None) } else { refused(&id).into_row(&|_| None) });
    }
    spool.close();
    let names: Vec<String> =
        files(dir.path()).iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert!(names.len() == 2 && names[0].starts_with("pairs-") && names[1].starts_with("unpaired-"), "{names:?}");
    assert_eq!(rows(dir.path()), ["req_0", "req_2", "req_4", "req_1", "req_3", "req_5"]);
    for path in files(dir.path()) {
        let text = std::fs::read_to_string(path).unwrap();
        let columns = |line: &str| {
            serde_json::from_str::<serde_json::Map<String, _>>(line)
                .map(|row: serde_json::Map<String, serde_json::Value>| row.keys().cloned().collect::<Vec<_>>())
                .unwrap()
        };
        let first = columns(text.lines().next().unwrap());
        assert!(text.lines().all(|line| columns(line) == first));
    }
}

#[test]
fn an_idle_spool_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    Spool::start(&config(dir.path()), metrics()).unwrap().close();
    assert_eq!(files(dir.path()), Vec::<PathBuf>::new());
}

/// A killed process: the file ends anywhere, and nobody has closed it.
#[test]
fn a_torn_tail_is_cut_at_the_next_start_wherever_it_was_torn() {
    let whole: Vec<u8> =
        (0..3).flat_map(|i| [serde_json::to_vec(&pair(i)).unwrap(), b"\n".to_vec()].concat()).collect();
    let ends: Vec<usize> = whole.iter().enumerate().filter(|&(_, &b)| b == b'\n').map(|(i, _)| i + 1).collect();
    for cut in (0..=whole.len()).step_by(97).chain(ends.clone()) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("pairs-20200101T000000000Z-000000.jsonl"), &whole[..cut]).unwrap();
        std::fs::write(dir.path().join("notes.jsonl"), "torn but not ours").unwrap();
        let metrics = metrics();
        let spool = Spool::start(&config(dir.path()), Arc::clone(&metrics)).unwrap();
        spool.offer(pair(7));
        spool.close();
        std::fs::remove_file(dir.path().join("notes.jsonl")).unwrap();
        let kept = ends.iter().filter(|&&end| end <= cut).count();
        assert_eq!(rows(dir.path()), [numbered(0..kept), numbered(7..8)].concat(), "cut at {cut}");
        let torn = u64::from(cut != 0 && !ends.contains(&cut));
        assert_eq!(counted(&metrics, "wardline_pairs_dropped_total", "torn"), torn, "cut at {cut}");
    }
}

#[test]
fn a_file_that_another_process_writes_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut other = SpoolFile::create(dir.path(), PREFIXES[1]).unwrap();
    other.append(b"half a li").unwrap();
    assert_eq!(repair(dir.path()).unwrap(), 0);
    other.append(b"ne\n").unwrap();
    let path = files(dir.path()).remove(0);
    drop(other);
    assert_eq!(repair(dir.path()).unwrap(), 0);
    assert_eq!(std::fs::read(path).unwrap(), b"half a line\n");
}

#[test]
fn a_full_queue_drops_and_counts() {
    let (metrics, (queue, rows)) = (metrics(), sync_channel(2));
    let (writer, pending) = (Mutex::new(None), Arc::new(AtomicUsize::new(0)));
    // A writer that does not get to work: its end of the queue is held here.
    let spool = Spool {
        shared: Arc::new(Shared {
            queue: RwLock::new(Some(queue)),
            writer,
            pending,
            metrics: Arc::clone(&metrics),
            caps: Caps::default(),
            places: Arc::default(),
        }),
    };
    (0..5).for_each(|i| spool.offer(pair(i)));
    assert_eq!(counted(&metrics, "wardline_pairs_dropped_total", "queue_full"), 3);
    assert_eq!(counted(&metrics, "wardline_pairs_buffer_rows", "-"), 2);
    spool.close();
    assert_eq!(rows.iter().map(|row| row.meta().request_id.clone()).collect::<Vec<_>>(), numbered(0..2));
}

#[test]
fn a_directory_that_cannot_be_made_is_an_error_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let blocked = dir.path().join("file/pairs");
    std::fs::write(dir.path().join("file"), "").unwrap();
    let error = Spool::start(&config(&blocked), metrics()).unwrap_err();
    assert!(error.to_string().contains(blocked.to_str().unwrap()), "{error}");
    let zero = Config { queue_rows: 0, ..config(dir.path()) };
    assert!(matches!(Spool::start(&zero, metrics()), Err(SpoolError::Bound { key: "queue_rows", .. })));
}

/// The directory is taken away and a file put in its place; later it is back. Each row is synced for itself.
#[test]
fn a_lost_directory_costs_counted_rows_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let (dir, away) = (root.path().join("pairs"), root.path().join("away"));
    let metrics = metrics();
    let spool = Spool::start(&Config { fsync_rows: 1, ..config(&dir) }, Arc::clone(&metrics)).unwrap();
    let settle = || {
        while spool.shared.pending.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
        }
    };
    (0..3).for_each(|i| spool.offer(pair(i)));
    settle();
    std::fs::rename(&dir, &away).unwrap();
    std::fs::write(&dir, "in the way").unwrap();
    (3..7).for_each(|i| spool.offer(pair(i)));
    settle();
    assert_eq!(counted(&metrics, "wardline_pairs_dropped_total", "write_error"), 4);
    std::fs::remove_file(&dir).unwrap();
    (7..9).for_each(|i| spool.offer(pair(i)));
    spool.close();
    assert_eq!(rows(&dir), numbered(7..9));
    // The row that was on its way when the directory went is in the file that was open: counted, not kept twice.
    assert_eq!(rows(&away), numbered(0..4));
}

#[test]
fn rows_that_are_too_old_go_at_the_start_and_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let old = dir.path().join("pairs-20200101T000000000Z-000000.jsonl");
    std::fs::write(&old, "{}\n{}\n").unwrap();
    let metrics = metrics();
    let aged = |days| Config { max_age_days: days, ..config(dir.path()) };
    for (days, rows) in [(None, 0), (Some(36_500), 0), (Some(30), 2)] {
        let spool = Spool::start(&aged(days), Arc::clone(&metrics)).unwrap();
        spool.close();
        let page = String::from_utf8(metrics.render().unwrap()).unwrap();
        let line = format!("wardline_pairs_expired_rows_total{{state=\"kept\"}} {rows}");
        assert_eq!((page.contains(&line), old.exists()), (days.is_some(), rows == 0), "{days:?}");
    }
    assert!(matches!(Spool::start(&aged(Some(0)), metrics), Err(error) if error.key() == "max_age_days"));
}
