//! Rows as Parquet in an object store, or in a directory.
//!
//! A spool file becomes one object for each day that it has rows of. The object's name is made from the file's name and
//! its first row of that day, so that a file that is shipped again overwrites what it left the first time.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{BackoffConfig, ClientOptions, Error, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;

use super::backlog::{Lines, Waiting};
use super::config::{ParquetConfig, Place, SinkError};
use super::{ShipError, Taken};
use crate::pairs::columns::Columns;
use crate::pairs::row::Row;

/// JSON text of the rows that are packed together. Readers take such a group into memory as a whole.
const GROUP_BYTES: usize = 32 << 20;
const ZSTD_LEVEL: i32 = 3;

/// An object store, and the folder in it.
#[derive(Debug)]
pub(super) struct Store {
    objects: Arc<dyn ObjectStore>,
    folder: Key,
}

impl Store {
    /// `spool` is where the rows come from: they must not go there again.
    pub(super) fn build(
        config: &ParquetConfig,
        spool: &Path,
        place: Place,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, SinkError> {
        let error = |key: &str, reason: String| place.error(&format!("parquet.{key}"), reason);
        match config.url.split_once("://") {
            Some(("s3", bucket)) => s3(config, bucket, place, variable),
            Some((scheme, _)) => {
                Err(error("url", format!("`{scheme}` is not known; expected s3://BUCKET/PREFIX or a directory")))
            }
            None => {
                let dir = Path::new(&config.url);
                if dir.starts_with(spool) {
                    return Err(error("url", "expected a directory outside of `pairs.dir`".to_owned()));
                }
                let made = std::fs::create_dir_all(dir);
                made.map_err(|source| error("url", format!("cannot make the directory {}: {source}", dir.display())))?;
                let local = LocalFileSystem::new_with_prefix(dir).map_err(|source| error("url", source.to_string()))?;
                Ok(Self { objects: Arc::new(local.with_fsync(true)), folder: Key::default() })
            }
        }
    }

    /// The whole file, or nothing of it.
    pub(super) async fn take(&self, file: &Waiting) -> Result<Taken, ShipError> {
        let mut taken = Taken { upto: file.len, ..Taken::default() };
        for (day, part) in parts(file, &mut taken)? {
            let (name, rows, bytes) = part.finish()?;
            let key =
                [file.kind.to_owned(), format!("date={day}"), name].into_iter().fold(self.folder.clone(), Key::join);
            taken.rows += rows;
            taken.bytes += bytes.len() as u64;
            self.objects.put(&key, PutPayload::from(bytes)).await.map_err(kept_waiting)?;
        }
        Ok(taken)
    }
}

fn s3(
    config: &ParquetConfig,
    url: &str,
    place: Place,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Store, SinkError> {
    let error = |key: &str, reason: &str| place.error(&format!("parquet.{key}"), reason);
    let (bucket, prefix) = url.split_once('/').unwrap_or((url, ""));
    if bucket.is_empty() {
        return Err(error("url", "expected s3://BUCKET or s3://BUCKET/PREFIX"));
    }
    let folder = Key::parse(prefix.trim_end_matches('/')).map_err(|source| error("url", &source.to_string()))?;
    let timeout = Duration::from_millis(config.timeout_ms.max(1));
    let options = ClientOptions::new().with_timeout(timeout).with_connect_timeout(timeout.min(Duration::from_secs(5)));
    // Few tries within a call: the sink itself tries again, and its metrics are to see each failure.
    let backoff = BackoffConfig { max_backoff: Duration::from_secs(1), ..BackoffConfig::default() };
    let retry = RetryConfig { backoff, max_retries: 2, retry_timeout: timeout };
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_client_options(options)
        .with_allow_http(config.allow_http)
        .with_retry(retry);
    if let Some(endpoint) = &config.endpoint {
        match endpoint.split_once("://") {
            Some(("https", _)) => {}
            Some(("http", _)) if config.allow_http => {}
            Some(("http", _)) => {
                return Err(error("endpoint", "expected https://HOST, or `allow_http: true` beside it"));
            }
            _ => return Err(error("endpoint", "expected https://HOST or https://HOST:PORT")),
        }
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = config.region.clone() {
        builder = builder.with_region(region);
    }
    let keys =
        [("access_key_id_env", &config.access_key_id_env), ("secret_access_key_env", &config.secret_access_key_env)];
    let found =
        |(key, named): (&str, &Option<String>)| place.variable(&format!("parquet.{key}"), named.as_deref(), variable);
    builder = match (found(keys[0])?, found(keys[1])?) {
        (Some(id), Some(secret)) => builder.with_access_key_id(id).with_secret_access_key(secret),
        (None, None) => builder,
        (Some(_), None) => return Err(error("access_key_id_env", "expected `secret_access_key_env` beside it")),
        (None, Some(_)) => return Err(error("secret_access_key_env", "expected `access_key_id_env` beside it")),
    };
    let objects = builder.build().map_err(|source| error("url", &source.to_string()))?;
    Ok(Store { objects: Arc::new(objects), folder })
}

fn kept_waiting(error: Error) -> ShipError {
    match error {
        Error::NotFound { .. } | Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            ShipError::Refused(error.to_string())
        }
        other => ShipError::Unreachable(other.to_string()),
    }
}

impl From<ParquetError> for ShipError {
    /// Everything is written into memory: what may fail is only our own mistake.
    fn from(error: ParquetError) -> Self {
        Self::Disk(std::io::Error::other(error))
    }
}

/// The rows of one day.
struct Part {
    name: String,
    columns: Columns,
    /// JSON text that is not yet packed.
    waiting: usize,
    rows: u64,
    file: SerializedFileWriter<Vec<u8>>,
}

fn parts(file: &Waiting, taken: &mut Taken) -> Result<BTreeMap<String, Part>, ShipError> {
    let mut parts: BTreeMap<String, Part> = BTreeMap::new();
    let (mut lines, mut line) = (Lines::open(file)?, Vec::new());
    while lines.next(&mut line)?.is_some() {
        let Some(day) = Row::read(&line).ok().and_then(|row| day(&row.meta().created_at)) else {
            taken.unreadable += 1;
            continue;
        };
        if !parts.contains_key(&day) {
            parts.insert(day.clone(), Part::begin(file, &line)?);
        }
        if let Some(part) = parts.get_mut(&day) {
            part.add(&line)?;
        }
    }
    Ok(parts)
}

/// The day of a timestamp.
fn day(created_at: &str) -> Option<String> {
    let day = created_at.get(..10)?;
    let is_day = day.bytes().enumerate().all(|(at, b)| if at == 4 || at == 7 { b == b'-' } else { b.is_ascii_digit() });
    is_day.then(|| day.to_owned())
}

impl Part {
    fn begin(file: &Waiting, first: &[u8]) -> Result<Self, ShipError> {
        let columns = Columns::new(file.kind);
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
            .set_created_by(concat!("wardline ", env!("CARGO_PKG_VERSION")).to_owned());
        let writer = SerializedFileWriter::new(Vec::new(), columns.schema()?, Arc::new(properties.build()))?;
        // Gateways that share a bucket may have begun files in the same millisecond.
        let first = blake3::hash(first).to_hex();
        let name = format!("{}-{}.parquet", file.stem, &first[..16]);
        Ok(Self { name, columns, waiting: 0, rows: 0, file: writer })
    }

    fn add(&mut self, line: &[u8]) -> Result<(), ShipError> {
        self.columns.add(serde_json::from_slice(line).unwrap_or_default());
        self.waiting += line.len();
        if self.waiting >= GROUP_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ShipError> {
        self.rows += self.columns.rows();
        self.waiting = 0;
        Ok(self.columns.flush(&mut self.file)?)
    }

    /// The object's name, how many rows it has, and itself.
    fn finish(mut self) -> Result<(String, u64, Vec<u8>), ShipError> {
        self.flush()?;
        Ok((self.name, self.rows, self.file.into_inner()?))
    }
}
