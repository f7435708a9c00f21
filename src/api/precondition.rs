//! What must hold for a change to be made: `If-Match` names the revision that the caller has seen (RFC 9110, section
//! 13.1.1), and `queue` says whether to wait for what is at work on a tenant.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use super::Problem;

/// The revision that must be installed, if the request says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IfRevision(pub Option<u64>);

impl IfRevision {
    /// The request of an operation, with this condition.
    pub fn within(self, mut request: Value) -> Value {
        if let (Some(revision), Some(members)) = (self.0, request.as_object_mut()) {
            members.insert("if-revision".to_owned(), revision.into());
        }
        request
    }
}

impl<S: Sync> FromRequestParts<S> for IfRevision {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let invalid = |why| Problem::new("precondition-invalid", StatusCode::BAD_REQUEST, why);
        if_match(&parts.headers).map(Self).map_err(invalid)
    }
}

const NO_TAG: &str =
    "If-Match takes one ETag as `GET /v1/tenants/{tenant}` answers it, for example \"3\"";

/// The revision in `If-Match`; none without one, and for `*`, which any has.
fn if_match(headers: &HeaderMap) -> Result<Option<u64>, &'static str> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        return Ok(None);
    };
    let text = value.to_str().map_err(|_| NO_TAG)?.trim();
    if text == "*" {
        return Ok(None);
    }
    let tag = text.strip_prefix('"');
    let number = tag.and_then(|tag| tag.strip_suffix('"')?.parse().ok());
    number.map(Some).ok_or(NO_TAG)
}

/// The `ETag` of a tenant at this revision.
pub fn etag(revision: Option<u64>) -> Option<HeaderValue> {
    let text = format!("\"{}\"", revision?);
    HeaderValue::from_str(&text).ok()
}

/// What to do when another operation is at work on the tenant.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct Queue {
    /// Wait for its end instead of being refused with `tenant-busy`.
    #[param(required = false)]
    pub queue: bool,
}

/// Longest message, and longest name of a document, in bytes: they are kept for as long as the tenant's history.
const LONGEST_TEXT: usize = 1024;

/// Refuses a text that is too long to be kept.
pub fn check_text(text: &str) -> Result<(), Problem> {
    if text.len() <= LONGEST_TEXT {
        return Ok(());
    }
    let title = format!(
        "a `message` or a document's `name` has {} bytes; {LONGEST_TEXT} is the most",
        text.len()
    );
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    Err(Problem::new("text-too-long", status, title))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(None, Ok(None))]
    #[case(Some("*"), Ok(None))]
    #[case(Some("\"12\""), Ok(Some(12)))]
    #[case(Some("12"), Err(NO_TAG))]
    #[case(Some("W/\"12\""), Err(NO_TAG))]
    #[case(Some("\"1\", \"2\""), Err(NO_TAG))]
    #[case(Some("\"new\""), Err(NO_TAG))]
    fn a_revision_is_read_from_its_tag(
        #[case] header: Option<&'static str>,
        #[case] expected: Result<Option<u64>, &str>,
    ) {
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.insert(header::IF_MATCH, HeaderValue::from_static(value));
        }
        assert_eq!(if_match(&headers), expected);
    }

    #[test]
    fn what_is_kept_of_a_request_has_an_end() {
        assert!(check_text(&"x".repeat(LONGEST_TEXT)).is_ok());
        let refused = check_text(&"x".repeat(LONGEST_TEXT + 1)).unwrap_err();
        assert_eq!(refused.status, 422);
    }

    #[test]
    fn a_tag_is_read_back() {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_MATCH, etag(Some(7)).unwrap());
        assert_eq!(if_match(&headers), Ok(Some(7)));
        assert_eq!(etag(None), None);
    }
}
