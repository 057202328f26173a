//! Rows as messages to NATS `JetStream`.
//!
//! A row is published under its id (`Nats-Msg-Id`), and counts as shipped once the stream has confirmed it. What is
//! published twice within the stream's duplicate window is kept once.

use std::time::Duration;

use async_nats::jetstream::context::{PublishAckFuture, PublishErrorKind};
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions, HeaderMap, ServerAddr, header};
use bytes::Bytes;

use super::backlog::{Known, Lines, Waiting};
use super::config::{NatsConfig, Place, SinkError};
use super::{ShipError, Taken};

/// Rows that are on their way at one time, and their bytes.
const BATCH_ROWS: u64 = 256;
const BATCH_BYTES: u64 = 1 << 20;
/// What a message has beside its row: the subject, and the header with the row's id.
const MESSAGE_OVERHEAD: usize = 512;

/// A stream, connected when there is something to send.
#[derive(Debug)]
pub(super) struct Stream {
    servers: Vec<ServerAddr>,
    subject: String,
    login: Login,
    ca_file: Option<std::path::PathBuf>,
    timeout: Duration,
    connected: Option<(Client, Context)>,
}

#[derive(Clone)]
enum Login {
    None,
    Credentials(String),
    User(String, String),
    Token(String),
}

impl std::fmt::Debug for Login {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Login")
    }
}

impl Stream {
    pub(super) fn build(
        config: &NatsConfig,
        place: Place,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, SinkError> {
        let error = |key: &str, reason: String| place.error(&format!("nats.{key}"), reason);
        let servers = config.url.split(',').map(|url| url.trim().parse::<ServerAddr>()).collect::<Result<Vec<_>, _>>();
        let servers = servers.map_err(|_| error("url", "expected nats://HOST:PORT or tls://HOST:PORT".to_owned()))?;
        if servers.iter().any(|server| !matches!(server.scheme(), "nats" | "tls")) {
            return Err(error("url", "expected nats://HOST:PORT or tls://HOST:PORT".to_owned()));
        }
        let token = |token: &str| !token.is_empty() && !token.contains(['*', '>', ' ', '\t', '\r', '\n']);
        if !config.subject.split('.').all(token) {
            return Err(error("subject", "expected words with dots between, without blanks, `*` and `>`".to_owned()));
        }
        Ok(Self {
            servers,
            subject: config.subject.clone(),
            login: login(config, place, variable)?,
            ca_file: config.ca_file.clone(),
            timeout: Duration::from_millis(config.timeout_ms.max(1)),
            connected: None,
        })
    }

    /// A batch of rows. Any failure leaves the connection behind, and all of the batch is sent again.
    pub(super) async fn take(&mut self, file: &Waiting) -> Result<Taken, ShipError> {
        let (client, context) = self.connect().await?;
        let sent = self.send(file, &client, &context).await;
        if sent.is_ok() {
            self.connected = Some((client, context));
        }
        sent
    }

    async fn connect(&mut self) -> Result<(Client, Context), ShipError> {
        if let Some(connected) = self.connected.take() {
            return Ok(connected);
        }
        let options = ConnectOptions::new().name("wardline").connection_timeout(self.timeout);
        let mut options = match self.login.clone() {
            Login::None => options,
            Login::User(user, password) => options.user_and_password(user, password),
            Login::Token(token) => options.token(token),
            Login::Credentials(text) => {
                options.credentials(&text).map_err(|error| ShipError::Refused(error.to_string()))?
            }
        };
        if let Some(file) = &self.ca_file {
            options = options.add_root_certificates(file.clone());
        }
        let client = tokio::time::timeout(self.timeout, options.connect(&self.servers[..])).await;
        let client = client.map_err(|_| ShipError::Timeout)?;
        let client = client.map_err(|error| ShipError::Unreachable(error.to_string()))?;
        let mut context = jetstream::new(client.clone());
        context.set_timeout(self.timeout);
        Ok((client, context))
    }

    async fn send(&self, file: &Waiting, client: &Client, context: &Context) -> Result<Taken, ShipError> {
        let largest = client.server_info().max_payload.saturating_sub(MESSAGE_OVERHEAD);
        let subject = format!("{}.{}", self.subject, file.kind);
        let mut taken = Taken { upto: file.from, ..Taken::default() };
        let (mut lines, mut line, mut confirmations) = (Lines::open(file)?, Vec::new(), Vec::new());
        while taken.upto - file.from < BATCH_BYTES && taken.rows < BATCH_ROWS {
            let Some(behind) = lines.next(&mut line)? else { break };
            taken.upto = behind;
            match serde_json::from_slice::<Known>(&line) {
                Err(_) => taken.unreadable += 1,
                Ok(_) if line.len() > largest => taken.too_large += 1,
                Ok(row) => {
                    let mut headers = HeaderMap::new();
                    headers.insert(header::NATS_MESSAGE_ID, row.meta.pair_id.as_str());
                    let body = Bytes::copy_from_slice(&line);
                    let sent = context.publish_with_headers(subject.clone(), headers, body);
                    // A connection that is lost holds messages back, for ever if it must.
                    let sent = tokio::time::timeout(self.timeout, sent).await.map_err(|_| ShipError::Timeout)?;
                    confirmations.push(sent.map_err(|error| kept_waiting(&error))?);
                    taken.rows += 1;
                    taken.bytes += line.len() as u64;
                }
            }
        }
        confirmed(confirmations).await?;
        Ok(taken)
    }
}

async fn confirmed(confirmations: Vec<PublishAckFuture>) -> Result<(), ShipError> {
    for confirmation in confirmations {
        confirmation.await.map_err(|error| kept_waiting(&error))?;
    }
    Ok(())
}

fn kept_waiting(error: &jetstream::context::PublishError) -> ShipError {
    match error.kind() {
        PublishErrorKind::TimedOut => ShipError::Timeout,
        PublishErrorKind::StreamNotFound => {
            ShipError::Refused("no stream takes this subject; expected one for SUBJECT.>".to_owned())
        }
        PublishErrorKind::Other => ShipError::Refused(error.to_string()),
        _ => ShipError::Unreachable(error.to_string()),
    }
}

fn login(config: &NatsConfig, place: Place, variable: &dyn Fn(&str) -> Option<String>) -> Result<Login, SinkError> {
    let error = |key: &str, reason: String| place.error(&format!("nats.{key}"), reason);
    let found = |key: &str, named: &Option<String>| place.variable(&format!("nats.{key}"), named.as_deref(), variable);
    let user = (found("user_env", &config.user_env)?, found("password_env", &config.password_env)?);
    let token = found("token_env", &config.token_env)?;
    match (&config.credentials_file, user, token) {
        (None, (None, None), None) => Ok(Login::None),
        (Some(file), (None, None), None) => {
            let text = std::fs::read_to_string(file);
            let text = text.map_err(|source| error("credentials_file", format!("{}: {source}", file.display())))?;
            if ConnectOptions::new().credentials(&text).is_err() {
                return Err(error("credentials_file", format!("{}: expected a .creds file", file.display())));
            }
            Ok(Login::Credentials(text))
        }
        (None, (Some(user), Some(password)), None) => Ok(Login::User(user, password)),
        (None, (None, None), Some(token)) => Ok(Login::Token(token)),
        (None, (Some(_), None), None) => Err(error("user_env", "expected `password_env` beside it".to_owned())),
        (None, (None, Some(_)), None) => Err(error("password_env", "expected `user_env` beside it".to_owned())),
        _ => Err(place.error("nats", "expected one way to log in: a file, a user or a token".to_owned())),
    }
}
