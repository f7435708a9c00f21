//! Who asks: the peer of the Unix socket, as the kernel names it, or the holder of a token.
//! Who may open the Unix socket is settled by its owner and mode (root and group tenantd), and they may do all;
//! what the holder of a token may do is settled by its scope, for every route before it is reached.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use http_body_util::{BodyExt as _, Limited};
use jiff::SignedDuration;
use nix::unistd::{Uid, User};
use tokio::net::UnixListener;

use super::Problem;
use super::error::ApiError;
use crate::access::{Decision, OwnBy, Rates, Scope, TokenHash, TooMany, decide};
use crate::host::clock;
use crate::reconcile::Bound;
use crate::state::{Database, TenantRow, TokenRow};
use crate::tenant::TenantId;

/// When a token was last used is kept to within this time, so that not every request writes.
const COARSE: SignedDuration = SignedDuration::from_hours(1);

/// Longest body over TCP: more than a few specs of the largest size, in JSON.
const MAX_BODY: usize = 2 * 1024 * 1024;

/// Longest time for a body to arrive over TCP.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// The peer of a connection, or who it turned out to be.
#[derive(Debug, Clone)]
pub enum Peer {
    /// Came over the Unix socket.
    Local {
        /// The user, as the kernel says.
        uid: Option<u32>,
    },
    /// Came over TCP, and has not shown a token yet.
    Remote {
        /// From where.
        address: IpAddr,
    },
    /// Has shown a token that is good.
    Holder(Arc<TokenRow>),
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self::Local {
            uid: stream.io().peer_cred().ok().map(|peer| peer.uid()),
        }
    }
}

impl Peer {
    /// The peer's name for the audit log: a user's name, `uid N`, or `token ID (name)`.
    pub fn actor(&self) -> String {
        match self {
            Self::Local { uid: None } => "unknown".to_owned(),
            Self::Local { uid: Some(uid) } => match User::from_uid(Uid::from_raw(*uid)) {
                Ok(Some(user)) => user.name,
                _ => format!("uid {uid}"),
            },
            Self::Remote { address } => format!("{address}"),
            Self::Holder(token) => format!("token {} ({})", token.id, token.name),
        }
    }

    /// The one tenant that the peer is the owner of and confined to.
    pub fn owned(&self) -> Option<&TenantId> {
        match self {
            Self::Holder(token) => match &token.scope {
                Scope::Tenant(tenant) => Some(tenant),
                _ => None,
            },
            Self::Local { .. } | Self::Remote { .. } => None,
        }
    }

    /// Whether the peer may do nothing but read how the node and its tenants are.
    pub fn only_reads(&self) -> bool {
        matches!(self, Self::Holder(token) if token.scope == Scope::Read)
    }

    /// How many operations may be open where this peer asks for one.
    pub fn bound(&self) -> Bound {
        if self.owned().is_some() {
            Bound::Owner
        } else {
            Bound::Others
        }
    }
}

/// What stands before all routes.
pub struct Guard {
    database: Database,
    rates: Rates,
}

impl Guard {
    /// One that looks tokens up in `database`.
    pub fn new(database: Database) -> Arc<Self> {
        let rates = Rates::default();
        Arc::new(Self { database, rates })
    }
}

/// Lets a request through, or answers 401, 403 or 429. A request of which nobody knows where it came from is refused.
pub async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<Peer>>();
    match peer.map(|ConnectInfo(peer)| peer.clone()) {
        Some(Peer::Local { .. }) => next.run(request).await,
        Some(Peer::Remote { address }) => match guard.admit(address, request).await {
            Ok(request) => next.run(request).await,
            Err(refused) => refused,
        },
        Some(Peer::Holder(_)) | None => unauthorized(),
    }
}

/// The answer instead of a route's.
type Refused = Response;

impl Guard {
    /// The request with its sender's token in the place of its address, and with all of its body.
    async fn admit(&self, address: IpAddr, request: Request) -> Result<Request, Refused> {
        self.rates.of_address(address).map_err(too_many)?;
        let (mut parts, body) = request.into_parts();
        let token = self.token(&parts.headers).await?;
        self.rates.of_token(&token.id).map_err(too_many)?;
        // Where nothing matched there is nothing to refuse, and the answer is 404.
        if let Some(route) = parts.extensions.get::<MatchedPath>() {
            self.permit(&token, route.as_str(), &parts).await?;
        }
        let whole = Limited::new(body, MAX_BODY).collect();
        let body = match tokio::time::timeout(BODY_WITHIN, whole).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) => {
                let title = format!(
                    "the request's body did not come whole, or is longer than {MAX_BODY} bytes"
                );
                return Err(refuse(
                    "body-too-large",
                    StatusCode::PAYLOAD_TOO_LARGE,
                    title,
                ));
            }
            Err(_) => {
                let title = format!(
                    "the request's body did not come within {} s",
                    BODY_WITHIN.as_secs()
                );
                return Err(refuse("body-too-slow", StatusCode::REQUEST_TIMEOUT, title));
            }
        };
        // The body may have come slowly: a token that was revoked meanwhile does nothing any more.
        let token = self.token(&parts.headers).await?;
        parts
            .extensions
            .insert(ConnectInfo(Peer::Holder(Arc::new(token))));
        // The token has done its work; nobody behind here can log it.
        parts.headers.remove(header::AUTHORIZATION);
        Ok(Request::from_parts(parts, Body::from(body)))
    }

    /// The token that a request shows, if it is good.
    async fn token(&self, headers: &HeaderMap) -> Result<TokenRow, Refused> {
        let hash = bearer(headers).and_then(TokenHash::of);
        let hash = hash.ok_or_else(unauthorized)?;
        let found = self.database.token_by_hash(hash).await;
        let found = found.map_err(|error| ApiError::from(error).into_response())?;
        let now = clock::now();
        let good = found.filter(|token| !token.is_expired(now));
        let token = good.ok_or_else(unauthorized)?;
        if token
            .last_used
            .is_none_or(|last| now.duration_since(last) >= COARSE)
        {
            let noted = self.database.note_token_use(token.id.clone(), now).await;
            // A full disk keeps nobody from asking.
            if let Err(error) = noted {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "cannot note that token {} was used", token.id);
            }
        }
        Ok(token)
    }

    /// Whether the token's scope allows the request.
    async fn permit(&self, token: &TokenRow, route: &str, request: &Parts) -> Result<(), Refused> {
        let may = match decide(&token.scope, request.method.as_str(), route) {
            Decision::Yes => true,
            Decision::No => false,
            Decision::IfOwn(by) => match &token.scope {
                Scope::Tenant(own) => self.is_own(own, by, route, request).await?,
                _ => false,
            },
        };
        if may {
            return Ok(());
        }
        let (method, path) = (&request.method, request.uri.path());
        let TokenRow {
            id, name, scope, ..
        } = token;
        tracing::warn!(%method, path, "token {id} ({name}) with scope {scope} was refused");
        Err(refuse(
            "forbidden",
            StatusCode::FORBIDDEN,
            format!("a token with scope {scope} may not {method} {path}"),
        ))
    }

    /// Whether a request is about the tenant `own`.
    async fn is_own(
        &self,
        own: &TenantId,
        by: OwnBy,
        route: &str,
        request: &Parts,
    ) -> Result<bool, Refused> {
        let uri = &request.uri;
        Ok(match by {
            // The route itself looks at the documents.
            OwnBy::Nobody | OwnBy::Documents => true,
            OwnBy::Path => segment(route, uri.path(), "{tenant}") == Some(own.as_str()),
            OwnBy::Query => {
                uri.query().and_then(|query| query.strip_prefix("tenant=")) == Some(own.as_str())
            }
            OwnBy::Operation => {
                let id = segment(route, uri.path(), "{id}").and_then(|id| id.parse().ok());
                let Some(id) = id else { return Ok(false) };
                let found = self.database.operation(id).await;
                let found = found.map_err(|error| ApiError::from(error).into_response())?;
                let Some(operation) = found else {
                    return Ok(false);
                };
                let row = self.database.find_tenant(own.clone()).await;
                let row = row.map_err(|error| ApiError::from(error).into_response())?;
                // Whoever had the name before was another one.
                let is_of_it = |row: TenantRow| operation.started_at >= row.created_at;
                operation.tenant.as_ref() == Some(own) && row.is_some_and(is_of_it)
            }
        })
    }
}

/// What a path has in the place of a route's parameter, as it is written: an id needs no escapes, and one with escapes
/// is nobody's own.
fn segment<'a>(route: &str, path: &'a str, parameter: &str) -> Option<&'a str> {
    let index = route.split('/').position(|part| part == parameter)?;
    path.split('/').nth(index)
}

/// The credentials of `Authorization: Bearer …` (RFC 6750, section 2.1), where there is exactly one such header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim())
}

fn refuse(code: &str, status: StatusCode, title: String) -> Refused {
    Problem::new(code, status, title).into_response()
}

/// The same for a token that is missing, unknown, revoked or expired: who guesses learns nothing.
fn unauthorized() -> Response {
    let problem = Problem::new(
        "unauthorized",
        StatusCode::UNAUTHORIZED,
        "a good token is needed: `Authorization: Bearer tenantd_…`; `tenantd token create` makes one on the host",
    );
    let mut response = problem.into_response();
    let challenge = HeaderValue::from_static("Bearer realm=\"tenantd\"");
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, challenge);
    response
}

fn too_many(TooMany { wait }: TooMany) -> Refused {
    // Whole seconds (RFC 9110, section 10.2.3), and not too few.
    let seconds = wait.as_secs() + 1;
    let title = format!("too many requests; ask again in {seconds} s");
    let mut response = refuse("too-many-requests", StatusCode::TOO_MANY_REQUESTS, title);
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, seconds.into());
    response
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
