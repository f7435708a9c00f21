//! The tenant's endpoints: base URLs on its loopback that lead to providers, with a key that the agent never sees.
//! The door adds the key, streams both ways, counts tokens as they pass, and refuses once a limit is reached. It decides
//! no policy and writes nothing but its own figures.

mod answer;
mod book;
mod ledger;
mod reading;
mod refused;
mod request;
mod upstream;
mod walk;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Full, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::RootCertStore;
use secrecy::SecretString;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

pub use book::{Book, ByModel, Figures};
pub use ledger::{Exhausted, Ledger, date, exhausted};
pub use upstream::OwnAddresses;

use crate::gateway::egress::{Month, Outside};
use crate::host::clock;
use crate::tenant::{EndpointSettings, ResolvedEndpoint, SecretName};
use answer::{Account, Answer};
use refused::{Body, Refused};
use request::Purpose;
use upstream::{Asker, Connector, NotReached, asker, tls};

/// Longest head of a request.
const HEAD: usize = 64 * 1024;

/// Longest time for a head.
const HEAD_TIME: Duration = Duration::from_secs(15);

/// Requests at a time; an agent has a handful.
const REQUESTS: usize = 64;

/// Longest body that is looked at before it is sent. A longer one is sent as it comes.
const LOOKED_AT: usize = 1024 * 1024;

/// The same complaint is written once in this time.
const COMPLAINT: Duration = Duration::from_mins(1);

/// How a door is served.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Most connections; further ones wait in the socket.
    pub connections: usize,
    /// The door leaves after this long without a connection.
    pub idle: Duration,
    /// How long open requests may go on when the door is told to stop.
    pub drain: Duration,
    /// How often the figures of what goes on are written.
    pub flush: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections: 256,
            idle: Duration::from_mins(1),
            drain: Duration::from_secs(20),
            flush: Duration::from_secs(2),
        }
    }
}

/// One tenant's endpoints.
pub struct Endpoints {
    settings: EndpointSettings,
    keys: BTreeMap<SecretName, SecretString>,
    ask: Asker,
    ledger: Arc<Ledger>,
    requests: Arc<Semaphore>,
    complaints: Mutex<BTreeMap<&'static str, Instant>>,
}

impl Endpoints {
    /// Endpoints with these keys, whose providers are reached through `outside` and known by `roots`. `host` tells the
    /// addresses of this host's own interfaces.
    pub fn new(
        settings: EndpointSettings,
        keys: BTreeMap<SecretName, SecretString>,
        (outside, roots, host): (Arc<dyn Outside>, RootCertStore, OwnAddresses),
        ledger: Arc<Ledger>,
    ) -> Self {
        Self {
            settings,
            keys,
            ask: asker(Connector::new(outside, tls(roots), host)),
            ledger,
            requests: Arc::new(Semaphore::new(REQUESTS)),
            complaints: Mutex::default(),
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        match self.pass_on(request).await {
            Ok(response) => response,
            Err(refused) => {
                self.complain(&refused);
                refused.answer()
            }
        }
    }

    async fn pass_on(&self, request: Request<Incoming>) -> Result<Response<Body>, Refused> {
        let (mut head, body) = request.into_parts();
        let uri = head.uri.clone();
        let (name, rest) = request::route(&head.method, &uri)?;
        let endpoint = self.endpoint(name)?;
        if request::wants_upgrade(&head.headers) {
            return Err(Refused::Upgrade);
        }
        let target = request::target(&endpoint.upstream, rest)?;
        let purpose = Purpose::of(&head.method, target.path());
        let is_limited = self.ledger.is_limited();
        match purpose {
            Purpose::Credentials => return Err(Refused::Credentials),
            Purpose::Uncounted if is_limited => return Err(Refused::Uncounted),
            _ => {}
        }
        if self.ledger.forgets() {
            return Err(Refused::NotWritten);
        }
        let place = Arc::clone(&self.requests).try_acquire_owned();
        let place = place.map_err(|_| Refused::Crowded)?;
        let has_words = head.method == Method::POST && purpose != Purpose::Free;
        let length = body.size_hint().exact();
        let guess = reading::guess(length.filter(|_| has_words).unwrap_or_default());
        let charge = self
            .ledger
            .charge(name, &endpoint.prices, guess, clock::now())
            .map_err(Refused::Exhausted)?;
        let account = Account::new(charge, place, has_words);
        let prepared = async {
            let key = endpoint.key.as_ref().and_then(|key| self.keys.get(key));
            request::prepare(&mut head.headers, endpoint, key)?;
            head.uri = target;
            head.version = Version::HTTP_11;
            head.extensions.clear();
            looked_at(body, purpose, is_limited).await
        };
        let body = match prepared.await {
            Ok(body) => body,
            Err(refused) => {
                account.cancel();
                return Err(refused);
            }
        };
        let body = account.counted(body);
        let asked = self.ask.request(Request::from_parts(head, body)).await;
        let response = match asked {
            Ok(response) => response,
            Err(error) => {
                // One that was sent may have been answered, had it not broken off: its charge stands.
                if error.is_connect() {
                    account.cancel();
                }
                return Err(Refused::NotReached(NotReached::of(&error)));
            }
        };
        Ok(passed_back(response, (name, endpoint), account))
    }

    fn endpoint(&self, name: &str) -> Result<&ResolvedEndpoint, Refused> {
        self.settings.endpoints.get(name).ok_or_else(|| {
            let known: Vec<_> = self.settings.endpoints.keys().map(String::as_str).collect();
            Refused::Unknown {
                name: name.chars().take(64).collect(),
                known: if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                },
            }
        })
    }

    /// Writes what an operator should know into the log, but not each time.
    fn complain(&self, refused: &Refused) {
        let mut complaints = self
            .complaints
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let last = complaints.insert(refused.code(), now);
        if last.is_none_or(|last| now.duration_since(last) >= COMPLAINT) {
            tracing::warn!(code = refused.code(), "refused: {refused}");
        } else if let Some(last) = last {
            complaints.insert(refused.code(), last);
        }
    }
}

/// The body as it is sent: a chat's is looked at before, and where there is a limit a response's, if it is short enough.
async fn looked_at(body: Incoming, purpose: Purpose, is_limited: bool) -> Result<Body, Refused> {
    let length = body.size_hint().upper();
    let is_short = length.is_some_and(|length| length <= LOOKED_AT as u64);
    if body.is_end_stream() {
        return Ok(Empty::new().map_err(|never| match never {}).boxed());
    }
    let may_wait = purpose == Purpose::Response && is_limited;
    if may_wait && length.is_none() {
        return Err(Refused::NoLength);
    }
    if !(may_wait || purpose == Purpose::Chat) || !is_short {
        return Ok(body.boxed());
    }
    let collected = Limited::new(body, LOOKED_AT).collect().await;
    // The limit is above what the body says that it has, so only the connection can fail here.
    let collected = collected.map_err(|error| match error.downcast::<hyper::Error>() {
        Ok(error) => Refused::Broken(*error),
        Err(_) => Refused::Path,
    })?;
    let mut bytes = collected.to_bytes();
    if may_wait && request::is_background(&bytes) {
        return Err(Refused::Uncounted);
    }
    if purpose == Purpose::Chat {
        bytes = request::with_usage(bytes);
    }
    Ok(Full::new(bytes).map_err(|never| match never {}).boxed())
}

/// The provider's answer as the agent gets it.
fn passed_back(
    response: Response<Incoming>,
    (name, endpoint): (&str, &ResolvedEndpoint),
    mut account: Account,
) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    let content_type = head
        .headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    account.begin(head.status, content_type.unwrap_or_default());
    request::prepare_answer(&mut head.headers, name, &endpoint.upstream);
    head.extensions.clear();
    Response::from_parts(head, Answer::new(body, account).boxed())
}

/// Keeps books: writes them so that they are there after a crash.
pub type Write = Arc<dyn Fn(&[(Month, Book)]) -> io::Result<()> + Send + Sync>;

/// Serves a tenant's endpoints until nobody is there any more or `stop` ends.
///
/// # Errors
/// The last figures could not be written.
pub async fn serve(
    listener: TcpListener,
    door: Arc<Endpoints>,
    settings: Settings,
    write: Write,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let done = CancellationToken::new();
    let keeping = keep(
        Arc::clone(&door.ledger),
        write,
        settings.flush,
        done.clone(),
    );
    let keeper = tokio::spawn(keeping);
    let mut connections = JoinSet::new();
    let mut empty_since = Instant::now();
    let leaving = CancellationToken::new();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < settings.connections => match accepted {
                Ok((stream, _)) => drop(connections.spawn(carry(Arc::clone(&door), stream, leaving.clone()))),
                // Descriptors or memory ran out, which passes; the door must stay.
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "cannot accept");
                    sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => empty_since = Instant::now(),
            () = sleep_until(empty_since + settings.idle), if connections.is_empty() => {
                // What is only in memory would be forgotten.
                if door.ledger.is_written() {
                    break;
                }
                empty_since = Instant::now();
            }
            () = &mut stop => break,
        }
    }
    drop(listener);
    // A connection that went on would be served by keys and limits of before.
    leaving.cancel();
    let drained = timeout(settings.drain, async {
        while connections.join_next().await.is_some() {}
    });
    if drained.await.is_err() {
        tracing::warn!(open = connections.len(), "left with open requests");
    }
    // What breaks off here is charged too, so the last figures come after it.
    connections.shutdown().await;
    done.cancel();
    keeper.await.map_err(io::Error::other)?
}

/// Writes the figures whenever a request has ended, and every `flush` while one goes on; once more when all is done.
async fn keep(
    ledger: Arc<Ledger>,
    write: Write,
    flush: Duration,
    done: CancellationToken,
) -> io::Result<()> {
    let mut tick = tokio::time::interval(flush);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_last = tokio::select! {
            () = ledger.changed.notified() => false,
            _ = tick.tick() => false,
            () = done.cancelled() => true,
        };
        let mut kept = Ok(());
        if let Some(changed) = ledger.to_write(clock::now()) {
            let write = Arc::clone(&write);
            let writing = move || write(&changed.books).map(|()| changed);
            let written = tokio::task::spawn_blocking(writing).await;
            match written.unwrap_or_else(|error| Err(io::Error::other(error))) {
                Ok(written) => ledger.written(&written),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the figures cannot be written; they are tried again"
                    );
                    ledger.not_written();
                    kept = Err(error);
                }
            }
        }
        if is_last {
            return kept;
        }
    }
}

/// Serves the requests of one connection; once the door is `leaving`, the one that goes on and no other.
async fn carry(door: Arc<Endpoints>, stream: TcpStream, leaving: CancellationToken) {
    // Events are small, and nobody waits for the next one.
    let _ = stream.set_nodelay(true);
    let answer = service_fn(move |request| {
        let door = Arc::clone(&door);
        async move { Ok::<_, std::convert::Infallible>(door.answer(request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(stream), answer);
    tokio::pin!(served);
    let served = tokio::select! {
        served = served.as_mut() => served,
        () = leaving.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "a connection broke"
        );
    }
}

#[cfg(test)]
mod tests;
