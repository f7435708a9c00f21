//! HTTP as a proxy speaks it: `CONNECT` and plain requests, and plain requests of those who do not know that there is one.
//! Every request is judged by itself; hyper parses, so what one side could read in two ways is read in one.

use std::mem;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderValue, UPGRADE, VIA};
use hyper::http::uri::{Authority, PathAndQuery};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri, Version, upgrade};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_util::io::{InspectReader, InspectWriter};
use tokio_util::sync::CancellationToken;

use super::decision::By;
use super::door::{Door, Goal, Open, Reached};
use super::judge::Refusal;
use super::meter::Way;
use super::refused::{Body, Uncarried, own};
use super::tunnel;
use crate::gateway::hop_by_hop::strip;
use crate::tenant::HostName;

/// Longest head of a request; servers take 8 to 16 KiB.
const HEAD: usize = 32 * 1024;

/// Longest time for a head: who sends one byte a second gets no further.
const HEAD_TIME: Duration = Duration::from_secs(15);

/// What we call ourselves (RFC 9110, section 7.6.3).
const PSEUDONYM: HeaderValue = HeaderValue::from_static("1.1 tenantd");

/// How requests of a connection say where they go.
#[derive(Debug, Clone)]
pub enum Aim {
    /// To a proxy: by `CONNECT`, or by whole URLs.
    Proxy,
    /// To this goal; what they say themselves must agree.
    Fixed(Goal),
    /// By their `Host`, on this port.
    Host(u16),
}

/// Serves the requests of one connection.
///
/// Boxed, because a request may begin a tunnel, and a tunnel to port 80 is served here again.
pub fn serve(
    door: Arc<Door>,
    by: By,
    aim: Aim,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> BoxFuture<'static, ()> {
    let service = Arc::new(Web {
        door,
        by,
        aim,
        last: Mutex::default(),
        tunnels: StdMutex::default(),
    });
    let web = Arc::clone(&service);
    let answer = service_fn(move |request| {
        let service = Arc::clone(&service);
        async move { Ok::<_, std::convert::Infallible>(service.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(stream), answer)
        .with_upgrades();
    Box::pin(async move {
        if let Err(error) = connection.await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "a connection broke"
            );
        }
        let tunnels = web
            .tunnels
            .lock()
            .map(|mut tunnels| mem::take(&mut *tunnels));
        let mut tunnels = tunnels.unwrap_or_default();
        while tunnels.join_next().await.is_some() {}
    })
}

struct Web {
    door: Arc<Door>,
    by: By,
    aim: Aim,
    /// The connection of the last request, for the next one to the same goal.
    last: Mutex<Option<Line>>,
    /// What has become of this connection: it is open for as long as they are.
    tunnels: StdMutex<JoinSet<()>>,
}

/// A connection to a server.
struct Line {
    goal: Goal,
    sender: SendRequest<Incoming>,
    cut: CancellationToken,
    /// On the list of what is open, also when it changes its protocol.
    open: Arc<Open>,
}

impl Web {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let answered = if *request.method() == Method::CONNECT {
            self.connect(request).await
        } else {
            self.forward(request).await
        };
        answered.unwrap_or_else(|uncarried| uncarried.answer())
    }

    async fn connect(&self, request: Request<Incoming>) -> Result<Response<Body>, Uncarried> {
        if !matches!(self.aim, Aim::Proxy) {
            return Err(Uncarried::Malformed("nobody asked for a proxy"));
        }
        let authority = request.uri().authority();
        let goal = authority.and_then(|authority| goal(authority, None));
        let goal = goal.ok_or(Uncarried::Malformed("CONNECT needs a host and a port"))?;
        let reached = self.door.reach(By::Connect, goal.clone()).await?;
        let door = Arc::clone(&self.door);
        self.keep(async move {
            match upgrade::on(request).await {
                Ok(stream) => {
                    tunnel::carry(door, By::Connect, goal, TokioIo::new(stream), reached).await;
                }
                Err(error) => tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "a client left after CONNECT"
                ),
            }
        });
        Ok(Response::new(own("")))
    }

    async fn forward(&self, mut request: Request<Incoming>) -> Result<Response<Body>, Uncarried> {
        let goal = self.goal(&request)?;
        let wants_upgrade = upgrade_of(request.headers());
        let client = wants_upgrade.is_some().then(|| upgrade::on(&mut request));
        prepare(&mut request, &goal, wants_upgrade)?;

        let mut last = self.last.lock().await;
        let known = last.take().filter(|line| line.goal == goal);
        let (mut response, line) = self.send(request, goal, known).await?;
        let (cut, open) = (line.cut.clone(), Arc::clone(&line.open));
        *last = Some(line);
        drop(last);

        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        match client {
            Some(client) if switches => {
                let server = upgrade::on(&mut response);
                self.keep(async move {
                    let (Ok(client), Ok(server)) = tokio::join!(client, server) else {
                        return;
                    };
                    let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
                    // What the server's side carries is counted below HTTP.
                    tokio::select! {
                        ended = copy_bidirectional(&mut client, &mut server) => drop(ended),
                        () = cut.cancelled() => {}
                    }
                    drop(open);
                });
            }
            // Nobody asked for another protocol.
            None if switches => return Err(Uncarried::Malformed("the server switched protocols")),
            _ => strip(response.headers_mut()),
        }
        response.headers_mut().append(VIA, PSEUDONYM);
        Ok(response.map(BodyExt::boxed))
    }

    /// Sends a request, by the connection of the last one if its server has not closed it meanwhile.
    async fn send(
        &self,
        mut request: Request<Incoming>,
        goal: Goal,
        known: Option<Line>,
    ) -> Result<(Response<Incoming>, Line), Uncarried> {
        if let Some(mut line) = known
            && line.sender.ready().await.is_ok()
        {
            match line.sender.try_send_request(request).await {
                Ok(response) => return Ok((response, line)),
                // Not a byte of it was sent if it comes back.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(Uncarried::Server(error.into_error())),
                },
            }
        }
        let mut line = self.open(goal).await?;
        let sent = async {
            line.sender.ready().await?;
            line.sender.send_request(request).await
        };
        let response = sent.await.map_err(Uncarried::Server)?;
        Ok((response, line))
    }

    /// Has this connection last until `tunnel` ends.
    fn keep(&self, tunnel: impl Future<Output = ()> + Send + 'static) {
        let tunnels = self.tunnels.lock();
        tunnels
            .unwrap_or_else(PoisonError::into_inner)
            .spawn(tunnel);
    }

    /// Where a request goes.
    fn goal(&self, request: &Request<Incoming>) -> Result<Goal, Uncarried> {
        let uri = request.uri();
        if uri.scheme_str().is_some_and(|scheme| scheme != "http") {
            return Err(Uncarried::Malformed("use CONNECT for anything but http"));
        }
        let host = || {
            let mut hosts = request.headers().get_all(HOST).iter();
            let host = hosts.next()?.to_str().ok()?.parse::<Authority>().ok()?;
            hosts.next().is_none().then_some(host)
        };
        let said = uri.authority().cloned().or_else(host);
        let said = said.ok_or(Uncarried::Malformed("it has no host, or more than one"))?;
        let port = match &self.aim {
            Aim::Proxy => 80,
            Aim::Fixed(Goal::Name(_, port) | Goal::Address(_, port)) | Aim::Host(port) => *port,
        };
        let said = goal(&said, Some(port)).ok_or(Uncarried::Malformed("its host is none"))?;
        match &self.aim {
            Aim::Proxy if uri.authority().is_none() => {
                Err(Uncarried::Malformed("a proxy needs the whole URL"))
            }
            Aim::Fixed(fixed) if *fixed != said => {
                self.door
                    .refuse(self.by, &fixed.to_string(), Refusal::Mismatch);
                Err(Refusal::Mismatch.into())
            }
            _ => Ok(said),
        }
    }

    /// A connection of its own to the server.
    async fn open(&self, goal: Goal) -> Result<Line, Uncarried> {
        let reached = self.door.reach(self.by, goal.clone()).await?;
        let (cut, open, stream) = reached.into_counted();
        let open = Arc::new(open);
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(Uncarried::Server)?;
        let (until, kept) = (cut.clone(), Arc::clone(&open));
        tokio::spawn(async move {
            tokio::select! {
                ended = connection.with_upgrades() => drop(ended),
                () = until.cancelled() => {}
            }
            drop(kept);
        });
        Ok(Line {
            goal,
            sender,
            cut,
            open,
        })
    }
}

/// The goal that an authority names.
pub(super) fn goal(authority: &Authority, default_port: Option<u16>) -> Option<Goal> {
    // A user's name before the host is no part of where it goes, and hides it from people.
    if authority.as_str().contains('@') {
        return None;
    }
    let port = authority.port_u16().or(default_port)?;
    let host = authority.host();
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    if let Ok(address) = bare.unwrap_or(host).parse() {
        return Some(Goal::Address(address, port));
    }
    host.parse::<HostName>()
        .ok()
        .map(|name| Goal::Name(name, port))
}

/// The protocol that a request wants to change to.
fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let connection = headers.get(CONNECTION)?.to_str().ok()?;
    let mut words = connection.split(',').map(str::trim);
    let is_asked = words.any(|word| word.eq_ignore_ascii_case("upgrade"));
    is_asked.then(|| headers.get(UPGRADE).cloned()).flatten()
}

/// Makes a request for the server of one for a proxy.
fn prepare(
    request: &mut Request<Incoming>,
    goal: &Goal,
    upgrade: Option<HeaderValue>,
) -> Result<(), Uncarried> {
    let path = request.uri().path_and_query().cloned();
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    let host = match goal {
        Goal::Name(name, 80) => name.to_string(),
        other => other.to_string(),
    };
    let host =
        HeaderValue::from_str(&host).map_err(|_| Uncarried::Malformed("its host is none"))?;
    *request.uri_mut() = Uri::from(path);
    *request.version_mut() = Version::HTTP_11;
    let headers = request.headers_mut();
    strip(headers);
    headers.insert(HOST, host);
    headers.append(VIA, PSEUDONYM);
    if let Some(protocol) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
    Ok(())
}

impl Reached {
    /// The connection as something that counts itself, for those who hand it on.
    fn into_counted(
        self,
    ) -> (
        CancellationToken,
        Open,
        impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) {
        let Self {
            stream,
            flow,
            cut,
            open,
            ..
        } = self;
        let out = flow.clone();
        let read = InspectReader::new(stream, move |bytes: &[u8]| flow.count(Way::In, bytes.len()));
        let both = InspectWriter::new(read, move |bytes: &[u8]| out.count(Way::Out, bytes.len()));
        (cut, open, both)
    }
}
