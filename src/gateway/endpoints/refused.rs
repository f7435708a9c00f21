//! What an agent is told when its request does not reach the provider.
//! Pure: an error as both providers' clients read it, with a stable word for programs and a sentence for people.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::json;

use super::ledger::Exhausted;
use super::upstream::NotReached;

/// The body of every answer: the provider's own, or ours.
pub type Body = BoxBody<Bytes, hyper::Error>;

/// Why a request was not passed on.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is no such endpoint.
    #[error("there is no endpoint `{name}` here; there are: {known}")]
    Unknown {
        /// The first part of the path.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// The path leads out of the endpoint.
    #[error("the path is too long, or leads out of its endpoint")]
    Path,
    /// It is a request to a proxy.
    #[error("this is no proxy: ask for a path, not for a whole URL")]
    WholeUrl,
    /// The method is one of proxies.
    #[error("this method is not passed on")]
    Method,
    /// Another protocol is asked for.
    #[error("endpoints carry HTTP requests only, no WebSockets: their tokens could not be counted")]
    Upgrade,
    /// The path hands out keys.
    #[error("this path hands out keys, which agents are never to see; it is always refused")]
    Credentials,
    /// It could not be counted, and there is a limit.
    #[error(
        "while a spending limit is set, nothing is passed on whose work is done in the background, in batches or \
         beside HTTP: its tokens could not be counted"
    )]
    Uncounted,
    /// Its body has to be looked at, and there is a limit.
    #[error("while a spending limit is set, this path needs a request with a content-length")]
    NoLength,
    /// The key cannot be sent.
    #[error(
        "the key is not fit for a header; its operator can set it anew with `tenantd secret set`"
    )]
    Key,
    /// The tenant has used up what it may.
    #[error("{0}")]
    Exhausted(Exhausted),
    /// What it uses would be forgotten, and there is a limit.
    #[error("the figures cannot be written, so nothing is passed on while a spending limit is set")]
    NotWritten,
    /// Too many requests at a time.
    #[error("too many requests at a time")]
    Crowded,
    /// The provider was not reached.
    #[error("the provider was not reached: {0}")]
    NotReached(NotReached),
    /// The agent's own request broke off.
    #[error("the request broke off")]
    Broken(#[source] hyper::Error),
}

impl Refused {
    /// The stable word.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "no_such_endpoint",
            Self::Path | Self::WholeUrl => "bad_path",
            Self::Method => "bad_method",
            Self::Upgrade => "no_upgrade",
            Self::Credentials => "no_credentials",
            Self::Uncounted => "not_counted",
            Self::NoLength => "length_required",
            Self::Key => "bad_key",
            Self::Exhausted(_) => "spending_limit",
            Self::NotWritten => "figures_not_written",
            Self::Crowded => "too_many_requests",
            Self::NotReached(why) => why.code(),
            Self::Broken(_) => "broken_request",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Unknown { .. } => StatusCode::NOT_FOUND,
            Self::Path | Self::WholeUrl | Self::Broken(_) => StatusCode::BAD_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Upgrade => StatusCode::NOT_IMPLEMENTED,
            Self::Credentials | Self::Uncounted => StatusCode::FORBIDDEN,
            Self::NoLength => StatusCode::LENGTH_REQUIRED,
            Self::Key => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Exhausted(_) | Self::Crowded => StatusCode::TOO_MANY_REQUESTS,
            Self::NotWritten => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotReached(why) => why.status(),
        }
    }

    /// The answer. Where trying again is of no use, clients that know `x-should-retry` do not.
    pub fn answer(&self) -> Response<Body> {
        let status = self.status();
        let text = json!({
            "type": "error",
            "status": status.as_u16(),
            "error": {
                "type": self.code(),
                "code": self.code(),
                "message": format!("tenantd: {self}"),
            },
        });
        let never = |never: Infallible| match never {};
        let mut response =
            Response::new(Full::new(format!("{text}\n").into()).map_err(never).boxed());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let again = match self {
            Self::Exhausted(exhausted) => Some(exhausted.seconds_left.into()),
            Self::Crowded | Self::NotWritten => Some(HeaderValue::from_static("2")),
            _ => None,
        };
        if let Some(seconds) = again {
            headers.insert(RETRY_AFTER, seconds);
        }
        if !matches!(self, Self::Crowded | Self::NotWritten | Self::NotReached(_)) {
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        response
    }
}
