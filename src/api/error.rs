//! How an operation's error becomes an answer.

use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use super::Problem;
use crate::reconcile::OperationError;
use crate::state::StateError;

/// An error of a route.
#[derive(Debug)]
pub struct ApiError(Problem);

impl From<OperationError> for ApiError {
    fn from(error: OperationError) -> Self {
        Self(error.problem())
    }
}

impl From<StateError> for ApiError {
    fn from(error: StateError) -> Self {
        OperationError::from(error).into()
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

/// What a route answers.
pub type ApiResult<T> = Result<T, ApiError>;

/// There is nothing at this path.
pub async fn no_route(uri: Uri) -> Problem {
    Problem::new(
        "route-unknown",
        StatusCode::NOT_FOUND,
        format!(
            "there is nothing at {}; /v1/openapi.json lists what there is",
            uri.path()
        ),
    )
}
