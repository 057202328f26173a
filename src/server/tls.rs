//! TLS for the data listener.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::config::TlsConfig;

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or not PEM.
    #[error("tls.{field}: {}: {reason}", path.display())]
    File {
        /// `cert` or `key`.
        field: &'static str,
        /// The file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// Certificate and key do not fit, or cannot be used.
    #[error("tls: certificate and key cannot be used together: {0}")]
    Unusable(String),
}

/// Reads certificate and key; offers h2 and HTTP/1.1 by ALPN (RFC 7301).
pub(super) fn acceptor(config: &TlsConfig) -> Result<TlsAcceptor, TlsError> {
    let bad = |field, path: &PathBuf, reason: String| TlsError::File { field, path: path.clone(), reason };
    let chain = CertificateDer::pem_file_iter(&config.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| bad("cert", &config.cert, e.to_string()))?;
    if chain.is_empty() {
        return Err(bad("cert", &config.cert, "expected at least one CERTIFICATE block".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(&config.key).map_err(|e| bad("key", &config.key, e.to_string()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsError::Unusable(e.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|e| TlsError::Unusable(e.to_string()))?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}
