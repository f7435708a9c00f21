//! What a tenant's HTTP client is told when it does not get through.
//! Pure: the answer says why in a stable word, for programs, and in a sentence, for people.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

use super::judge::Refusal;
use super::outside::Unreached;

/// The body of every answer: the server's own, or ours.
pub type Body = BoxBody<Bytes, hyper::Error>;

/// Why a request was not carried.
#[derive(Debug, thiserror::Error)]
pub enum Uncarried {
    /// Its goal was not reached.
    #[error(transparent)]
    Unreached(#[from] Unreached),
    /// It is no request that a proxy can carry.
    #[error("this is no request for a proxy: {0}")]
    Malformed(&'static str),
    /// The server broke off or answered what cannot be read.
    #[error("the server broke off")]
    Server(#[source] hyper::Error),
}

impl From<Refusal> for Uncarried {
    fn from(refusal: Refusal) -> Self {
        Self::Unreached(Unreached::Refused(refusal))
    }
}

impl Uncarried {
    /// The status, and the error type of `Proxy-Status` (RFC 9209, section 2.3).
    fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Malformed(_) => (StatusCode::BAD_REQUEST, "http_request_error"),
            Self::Server(_) => (StatusCode::BAD_GATEWAY, "connection_terminated"),
            Self::Unreached(Unreached::Lookup(_)) => (StatusCode::BAD_GATEWAY, "dns_error"),
            Self::Unreached(Unreached::Connect(error)) => match error.kind() {
                std::io::ErrorKind::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "connection_timeout"),
                std::io::ErrorKind::ConnectionRefused => {
                    (StatusCode::BAD_GATEWAY, "connection_refused")
                }
                _ => (StatusCode::BAD_GATEWAY, "destination_unavailable"),
            },
            Self::Unreached(Unreached::Refused(refusal)) => match refusal {
                Refusal::NoAddress => (StatusCode::BAD_GATEWAY, "dns_error"),
                Refusal::Special(_) | Refusal::Literal => {
                    (StatusCode::FORBIDDEN, "destination_ip_prohibited")
                }
                Refusal::Volume => (StatusCode::TOO_MANY_REQUESTS, "connection_limit_reached"),
                Refusal::Mismatch => (StatusCode::MISDIRECTED_REQUEST, "http_request_denied"),
                _ => (StatusCode::FORBIDDEN, "http_request_denied"),
            },
        }
    }

    /// The stable word.
    fn code(&self) -> &'static str {
        match self {
            Self::Unreached(Unreached::Refused(refusal)) => refusal.code(),
            Self::Unreached(Unreached::Lookup(_)) => "lookup",
            Self::Unreached(Unreached::Connect(_)) => "connect",
            Self::Malformed(_) => "malformed",
            Self::Server(_) => "server",
        }
    }

    /// The answer.
    pub fn answer(&self) -> Response<Body> {
        let (status, error) = self.status();
        let text = format!("tenantd: not carried ({}): {self}\n", self.code());
        let mut response = Response::new(own(text));
        *response.status_mut() = status;
        let proxy_status = format!("tenantd; error={error}; details=\"{}\"", self.code());
        let headers = response.headers_mut();
        // Words of our own only, so it is always a header's value.
        if let Ok(value) = HeaderValue::from_str(&proxy_status) {
            headers.insert("proxy-status", value);
        }
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// A body of our own.
pub fn own(text: impl Into<Bytes>) -> Body {
    let never = |never: Infallible| match never {};
    Full::new(text.into()).map_err(never).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::egress::Special;

    #[test]
    fn answers_say_why() {
        let reasons: [Uncarried; 7] = [
            Refusal::NotListed.into(),
            Refusal::Special(Special::LinkLocal).into(),
            Refusal::Volume.into(),
            Refusal::Mismatch.into(),
            Uncarried::Malformed("it has no host"),
            Unreached::Lookup(std::io::ErrorKind::NotFound.into()).into(),
            Unreached::Connect(std::io::ErrorKind::TimedOut.into()).into(),
        ];
        let lines: Vec<String> = reasons
            .iter()
            .map(|reason| {
                let answer = reason.answer();
                let proxy = answer.headers()["proxy-status"]
                    .to_str()
                    .unwrap()
                    .to_owned();
                format!("{} | {proxy} | {reason}", answer.status().as_u16())
            })
            .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
