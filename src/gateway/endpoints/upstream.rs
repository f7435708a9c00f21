//! The way to the providers: names become addresses once, every one of them is judged, a judged one is dialled, and TLS
//! is spoken with it. Connections are kept for the next request; no redirect is followed.

use std::collections::BTreeSet;
use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper::rt::ReadBufCursor;
use hyper::{StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::refused::Body;
use crate::gateway::egress::{Judge, Outside, Unreached, dial, resolve};
use crate::tenant::{EgressMode, EgressPolicy, Upstream, UpstreamHost};

/// Longest time for a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a connection is kept for the next request.
const KEPT: Duration = Duration::from_mins(1);

/// Connections to one provider that are kept.
const KEPT_EACH: usize = 4;

/// Why a provider was not reached.
#[derive(Debug, thiserror::Error)]
pub enum Unconnected {
    /// Its address was not found, is none that may be dialled, or does not answer.
    #[error(transparent)]
    Unreached(#[from] Unreached),
    /// It does not speak TLS, or as somebody else.
    #[error("its certificate or its TLS is not accepted")]
    Tls(#[source] io::Error),
    /// The URL has no host; the settings were checked, so there is always one.
    #[error("the upstream has no host")]
    NoHost,
}

/// Why a request has no answer, in the words of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotReached {
    code: &'static str,
    status: StatusCode,
    text: String,
}

impl std::fmt::Display for NotReached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl NotReached {
    /// The stable word.
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// The status.
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// Tells what a client's error comes from.
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        let mut cause = Some(error);
        while let Some(found) = cause {
            if let Some(unconnected) = found.downcast_ref::<Unconnected>() {
                return Self::of_connection(unconnected);
            }
            cause = found.source();
        }
        Self {
            code: "provider_broke_off",
            status: StatusCode::BAD_GATEWAY,
            text: "it broke off before it answered".to_owned(),
        }
    }

    fn of_connection(error: &Unconnected) -> Self {
        let (code, status) = match error {
            Unconnected::Unreached(Unreached::Refused(_)) | Unconnected::NoHost => {
                ("provider_refused", StatusCode::FORBIDDEN)
            }
            Unconnected::Unreached(Unreached::Lookup(_)) => {
                ("provider_name", StatusCode::BAD_GATEWAY)
            }
            Unconnected::Unreached(Unreached::Connect(source)) => match source.kind() {
                io::ErrorKind::TimedOut => ("provider_timeout", StatusCode::GATEWAY_TIMEOUT),
                _ => ("provider_unreachable", StatusCode::BAD_GATEWAY),
            },
            Unconnected::Tls(_) => ("provider_tls", StatusCode::BAD_GATEWAY),
        };
        let cause = match error {
            Unconnected::Tls(source) => format!("{error}: {source}"),
            other => other.to_string(),
        };
        Self {
            code,
            status,
            text: cause,
        }
    }
}

/// Asks providers. Cheap to clone.
pub type Asker = Client<Connector, Body>;

/// Makes an asker.
pub fn asker(connector: Connector) -> Asker {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(KEPT)
        .pool_max_idle_per_host(KEPT_EACH)
        .build(connector)
}

/// TLS as providers are spoken to: authorities that `roots` names, HTTP/1.1.
///
/// # Panics
/// Never: the protocol versions are the library's own defaults.
pub fn tls(roots: RootCertStore) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the defaults of the library fit its own provider");
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Tells the addresses of this host's own interfaces.
pub type OwnAddresses = fn() -> io::Result<BTreeSet<IpAddr>>;

/// Connects to providers.
#[derive(Clone)]
pub struct Connector {
    outside: Arc<dyn Outside>,
    tls: TlsConnector,
    host: OwnAddresses,
}

impl Connector {
    /// A connector that dials through `outside`.
    pub fn new(outside: Arc<dyn Outside>, tls: Arc<ClientConfig>, host: OwnAddresses) -> Self {
        Self {
            outside,
            tls: tls.into(),
            host,
        }
    }

    async fn connect(self, uri: Uri) -> Result<Dialled, Unconnected> {
        let upstream: Upstream = format!(
            "{}://{}",
            uri.scheme_str().unwrap_or_default(),
            uri.authority().map_or("", |authority| authority.as_str())
        )
        .parse()
        .map_err(|_| Unconnected::NoHost)?;
        let port = upstream.port;
        // Without them, nothing is dialled.
        let host = (self.host)().map_err(Unreached::Lookup)?;
        let (addresses, name) = match &upstream.host {
            UpstreamHost::Name(name) => {
                let judge = Judge::new(policy(None), host);
                let addresses = resolve(&*self.outside, &judge, name, port).await?;
                (
                    addresses,
                    ServerName::try_from(name.to_string()).map_err(|_| Unconnected::NoHost)?,
                )
            }
            UpstreamHost::Address(address) => {
                let named = SocketAddr::new(*address, port);
                let judge = Judge::new(policy(Some(named)), host);
                judge.address(*address, port).map_err(Unreached::from)?;
                (vec![*address], ServerName::from(*address))
            }
        };
        let (stream, _) = dial(&*self.outside, &addresses, port).await?;
        if !upstream.tls {
            return Ok(Dialled(TokioIo::new(Box::new(stream))));
        }
        let greeting = timeout(HANDSHAKE, self.tls.connect(name, stream)).await;
        let stream = greeting
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(Unconnected::Tls)?;
        Ok(Dialled(TokioIo::new(Box::new(stream))))
    }
}

/// Everything that is public, and an address that the operator wrote down: who names one means it.
fn policy(named: Option<SocketAddr>) -> EgressPolicy {
    let network = named.and_then(|address| address.to_string().parse().ok());
    EgressPolicy {
        mode: EgressMode::Open,
        allow: Vec::new(),
        ports: Vec::new(),
        private_networks: network.into_iter().collect(),
    }
}

impl tower::Service<Uri> for Connector {
    type Response = Dialled;
    type Error = Unconnected;
    type Future = BoxFuture<'static, Result<Dialled, Unconnected>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unconnected>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// Both kinds of streams.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection to a provider.
pub struct Dialled(TokioIo<Box<dyn Stream>>);

impl Connection for Dialled {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Dialled {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buffer)
    }
}

impl hyper::rt::Write for Dialled {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}
