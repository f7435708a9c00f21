//! TLS for the API over TCP (rustls): reads the certificate, and reads it again when it may have been renewed.
//! It knows files and handshakes, and no request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, crypto};
use tokio::sync::Mutex;
use tokio_rustls::TlsAcceptor;

use crate::host::clock;
use crate::host::files::{self, FileError};
use crate::node::TlsFiles;

/// Longest file of a certificate or key.
const MAX_FILE: u64 = 256 * 1024;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("a file of the certificate cannot be read")]
    File(#[from] FileError),
    /// A file has not what it should.
    #[error("{path} holds no {what} in PEM")]
    Pem {
        /// The file.
        path: Utf8PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// They do not belong together, or are of a kind that is not supported.
    #[error("{cert} and its key cannot be used together")]
    Pair {
        /// The certificate.
        cert: Utf8PathBuf,
        /// What rustls said.
        #[source]
        source: rustls::Error,
    },
}

/// A certificate in use.
pub struct Tls {
    files: TlsFiles,
    /// How long it is used before its files are read again.
    fresh: Duration,
    current: Mutex<(Instant, TlsAcceptor)>,
}

impl Tls {
    /// Reads the certificate.
    pub async fn read(files: TlsFiles, fresh: Duration) -> Result<Self, TlsError> {
        let acceptor = load(&files).await?;
        let current = Mutex::new((clock::monotonic(), acceptor));
        Ok(Self {
            files,
            fresh,
            current,
        })
    }

    /// What speaks TLS with the certificate as it is now; as it was, where it cannot be read: it may be being written.
    pub async fn acceptor(&self) -> TlsAcceptor {
        let mut current = self.current.lock().await;
        if clock::monotonic().duration_since(current.0) >= self.fresh {
            match load(&self.files).await {
                Ok(acceptor) => current.1 = acceptor,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "the API goes on with the certificate that it has");
                }
            }
            current.0 = clock::monotonic();
        }
        current.1.clone()
    }
}

async fn load(files: &TlsFiles) -> Result<TlsAcceptor, TlsError> {
    let files = files.clone();
    let loaded = tokio::task::spawn_blocking(move || acceptor_of(&files)).await;
    // The work panicked: so does the caller, with the same message.
    loaded.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

fn acceptor_of(TlsFiles { cert, key }: &TlsFiles) -> Result<TlsAcceptor, TlsError> {
    let pem = |path: &Utf8PathBuf, what| TlsError::Pem {
        path: path.clone(),
        what,
    };
    let bytes = files::read(cert, MAX_FILE)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.map_err(|_| pem(cert, "certificate"))?;
    if chain.is_empty() {
        return Err(pem(cert, "certificate"));
    }
    let private = PrivateKeyDer::from_pem_slice(&files::read(key, MAX_FILE)?)
        .map_err(|_| pem(key, "private key"))?;
    let pair = |source| TlsError::Pair {
        cert: cert.clone(),
        source,
    };
    let mut config =
        ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(pair)?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .map_err(pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
