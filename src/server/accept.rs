//! Accept, serve, drain.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::admin;
use super::config::Config;
use super::tls::{self, TlsError};
use crate::gateway::Gateway;

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is taken or not ours.
    #[error("{field}: cannot listen on {address}: {reason}; choose another address or stop what holds it")]
    Address {
        /// `listen` or `admin`.
        field: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        reason: std::io::Error,
    },
    /// TLS was configured and cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Both listeners, open.
pub struct Server {
    data: TcpListener,
    admin: TcpListener,
    tls: Option<TlsAcceptor>,
    config: Config,
}

impl Server {
    /// Opens both sockets, after everything that could be wrong with TLS has been looked at.
    pub async fn bind(config: Config) -> Result<Self, BindError> {
        let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
        let data = open("listen", config.listen).await?;
        let admin = open("admin", config.admin).await?;
        Ok(Self { data, admin, tls, config })
    }

    /// Where applications connect; differs from the configuration when that said port 0.
    pub fn data_address(&self) -> SocketAddr {
        self.data.local_addr().unwrap_or(self.config.listen)
    }

    /// Where operators connect.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.local_addr().unwrap_or(self.config.admin)
    }

    /// Serves until `stop` is ready, then lets running requests finish within the drain timeout. The admin listener
    /// answers until the end, not ready from the beginning of the drain. Says whether all requests could finish.
    pub async fn run(self, gateway: Arc<Gateway>, stop: impl Future<Output = ()>) -> bool {
        let admin = tokio::spawn(admin::serve(self.admin, Arc::clone(&gateway)));
        let http = builder(&self.config);
        let places = Arc::new(Semaphore::new(self.config.max_connections));
        let draining = GracefulShutdown::new();
        let handshake = Duration::from_millis(self.config.header_timeout_ms);
        tokio::pin!(stop);
        gateway.set_ready(true);
        loop {
            let (stream, place) = tokio::select! {
                accepted = accept(&self.data, &places) => accepted,
                () = &mut stop => break,
            };
            let connection =
                Connection { gateway: Arc::clone(&gateway), http: http.clone(), watcher: draining.watcher() };
            let tls = self.tls.clone();
            tokio::spawn(async move {
                match tls {
                    None => connection.serve(stream).await,
                    Some(tls) => match timeout(handshake, tls.accept(stream)).await {
                        Ok(Ok(stream)) => connection.serve(stream).await,
                        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
                        Err(_elapsed) => tracing::debug!("TLS handshake took too long"),
                    },
                }
                drop(place);
            });
        }
        drop(self.data);
        gateway.set_ready(false);
        let whole = timeout(Duration::from_millis(self.config.drain_timeout_ms), draining.shutdown()).await.is_ok();
        admin.abort();
        whole
    }
}

struct Connection {
    gateway: Arc<Gateway>,
    http: auto::Builder<TokioExecutor>,
    watcher: hyper_util::server::graceful::Watcher,
}

impl Connection {
    async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let gateway = self.gateway;
        let service = service_fn(move |request: Request<Incoming>| {
            let gateway = Arc::clone(&gateway);
            async move { Ok::<_, Infallible>(gateway.answer(request).await) }
        });
        let connection = self.http.serve_connection(TokioIo::new(stream), service).into_owned();
        if let Err(error) = self.watcher.watch(connection).await {
            tracing::debug!(%error, "connection ended early");
        }
    }
}

async fn open(field: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|reason| BindError::Address { field, address, reason })
}

/// The next connection, once there is a place for it. Running out of file descriptors is waited out.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, Option<tokio::sync::OwnedSemaphorePermit>) {
    let place = Arc::clone(places).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _peer)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY was refused");
                }
                return (stream, place);
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// HTTP/1.1 and h2 on one port. The timer matters: without one hyper's header timeout is silently off.
fn builder(config: &Config) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(config.header_timeout_ms))
        .max_headers(100);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(200)
        .max_header_list_size(16 * 1024)
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .keep_alive_timeout(Duration::from_secs(20));
    http
}
