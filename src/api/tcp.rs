//! The API over TCP, where `[api]` asks for it: connections, TLS, and bounds for strangers.
//! Who asks and what for is the guard's business; nothing is served here without a token.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::KeepAlive;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

use super::auth::Peer;
use super::patience::Patient;
use super::tls::{Tls, TlsError};
use crate::access::network;
use crate::node::ApiSettings;
use crate::reconcile::Engine;

/// Connections at a time. Each may hold a body of 2 MiB for a while.
const CONNECTIONS: usize = 128;

/// Connections at a time from one network, so that one stranger cannot hold all of them.
const OF_ONE_NETWORK: usize = 32;

/// Longest time for a TLS handshake, and for the headers of a request; a connection without a request ends then too.
const HEADERS_WITHIN: Duration = Duration::from_secs(15);

/// Longest time that an answer, or a part of one, waits to be taken: who asks on and on and never reads would hold a
/// place for ever.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);

/// Most bytes of a request's headers.
const MAX_HEADERS: usize = 16 * 1024;

/// Most fields of a request's headers.
const MAX_FIELDS: usize = 64;

/// How long a certificate is used before its files are read again.
const FRESH: Duration = Duration::from_mins(1);

/// Pause before an address is tried again that could not be listened on.
const RETRY: Duration = Duration::from_mins(1);

/// Why the API is not served over TCP.
#[derive(Debug, thiserror::Error)]
enum TcpError {
    /// The address cannot be had.
    #[error(
        "cannot listen on {address}; is another process there, and is it an address of this host?"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The certificate cannot be used.
    #[error("the certificate of [api] cannot be used")]
    Tls(#[from] TlsError),
}

/// Serves `router` where `[api]` says so, now and after each reload, for as long as the daemon runs. What is wrong is
/// logged and tried again: the Unix socket is served all the while.
pub async fn watch(engine: Arc<Engine>, router: Router) {
    loop {
        let settings = engine.settings().api.clone();
        let Some(address) = settings.listen else {
            engine.api_changed.notified().await;
            continue;
        };
        match open(&settings, address).await {
            Ok((listener, tls)) => {
                let scheme = if tls.is_some() { "https" } else { "http" };
                tracing::info!("tenantd serves {scheme}://{address}");
                tokio::select! {
                    () = serve(listener, tls, router.clone(), HEADERS_WITHIN) => {}
                    () = other_settings(&engine, &settings) => {}
                }
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the API is not served over TCP; tried again in a minute"
                );
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    () = engine.api_changed.notified() => {}
                }
            }
        }
    }
}

/// Returns once `[api]` says something else.
async fn other_settings(engine: &Engine, known: &ApiSettings) {
    while engine.settings().api == *known {
        engine.api_changed.notified().await;
    }
}

async fn open(
    settings: &ApiSettings,
    address: SocketAddr,
) -> Result<(TcpListener, Option<Arc<Tls>>), TcpError> {
    let tls = match &settings.tls {
        Some(files) => Some(Arc::new(Tls::read(files.clone(), FRESH).await?)),
        None => None,
    };
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|source| TcpError::Listen { address, source })?;
    Ok((listener, tls))
}

/// Serves every connection, each as a task of its own, and waits `patience` for handshakes and headers. It ends when it is dropped; connections at work go on.
async fn serve(listener: TcpListener, tls: Option<Arc<Tls>>, router: Router, patience: Duration) {
    let all = Arc::new(Semaphore::new(CONNECTIONS));
    let networks = Arc::new(Networks::default());
    loop {
        // Waiting strangers wait in the kernel's queue.
        let Ok(room) = Arc::clone(&all).acquire_owned().await else {
            return;
        };
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of files, most likely: those at work give some back.
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(place) = Networks::enter(&networks, from.ip()) else {
            continue;
        };
        let (tls, router) = (tls.clone(), router.clone());
        tokio::spawn(async move {
            one(stream, from.ip(), tls, router, patience).await;
            drop((room, place));
        });
    }
}

/// Serves one connection. What is wrong with it is its sender's business.
async fn one(
    stream: TcpStream,
    from: IpAddr,
    tls: Option<Arc<Tls>>,
    router: Router,
    patience: Duration,
) {
    let _ = stream.set_nodelay(true);
    // A peer that is gone without a word is found out by the kernel.
    let _ = setsockopt(&stream, KeepAlive, &true);
    match tls {
        None => speak(stream, from, router, patience).await,
        Some(tls) => {
            let handshake = async { tls.acceptor().await.accept(stream).await };
            if let Ok(Ok(stream)) = tokio::time::timeout(patience, handshake).await {
                speak(stream, from, router, patience).await;
            }
        }
    }
}

async fn speak<S>(stream: S, from: IpAddr, router: Router, patience: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let peer = Peer::Remote { address: from };
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer.clone()));
        router.clone().oneshot(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(MAX_HEADERS)
        .max_headers(MAX_FIELDS)
        .serve_connection(TokioIo::new(Patient::new(stream, TAKEN_WITHIN)), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "a connection from {from} broke"
        );
    }
}

/// How many connections each network has.
#[derive(Default)]
struct Networks(Mutex<HashMap<IpAddr, usize>>);

/// A connection's place among those of its network; given back when dropped.
struct Place {
    networks: Arc<Networks>,
    network: IpAddr,
}

impl Networks {
    /// A place for a connection from `address`; none where its network has enough of them.
    fn enter(networks: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let network = network(address);
        let mut counts = networks.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(network).or_default();
        if *count >= OF_ONE_NETWORK {
            return None;
        }
        *count += 1;
        drop(counts);
        let networks = Arc::clone(networks);
        Some(Place { networks, network })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self
            .networks
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
#[path = "tcp_tests.rs"]
mod tests;
