//! Error answers: `application/problem+json` (RFC 9457) with a stable code.
//! Which error gets which code and status is said beside each error enum.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::state::OperationId;

/// What went wrong, for programs (`code`) and for people (the rest).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Problem {
    /// Stable and never reused; programs look at this.
    pub code: String,
    /// The HTTP status.
    pub status: u16,
    /// What failed, for which tenant and file, and what to do.
    pub title: String,
    /// The chain of causes, nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// Single faults of a document, each with its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
    /// The agent's last log lines, where it is the agent that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
    /// The operation that is in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub operation: Option<OperationId>,
}

impl Problem {
    /// A problem with the chain of `error`'s causes.
    pub fn of(code: &str, status: StatusCode, error: &dyn std::error::Error) -> Self {
        let causes = std::iter::successors(error.source(), |cause| cause.source());
        Self {
            code: code.to_owned(),
            status: status.as_u16(),
            title: error.to_string(),
            causes: causes.map(ToString::to_string).collect(),
            faults: Vec::new(),
            log: Vec::new(),
            operation: None,
        }
    }

    /// A problem without a cause.
    pub fn new(code: &str, status: StatusCode, title: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            status: status.as_u16(),
            title: title.into(),
            causes: Vec::new(),
            faults: Vec::new(),
            log: Vec::new(),
            operation: None,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        response
    }
}
