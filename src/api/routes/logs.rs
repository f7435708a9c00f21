//! A tenant's log: lines of the journal as lines of JSON.
//! A slow reader slows journalctl down; one that goes away ends it.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::Problem;
use crate::api::error::ApiResult;
use crate::host::journal::{self, Entry, Follow, JournalError};
use crate::layout::UnitNames;
use crate::reconcile::Engine;
use crate::tenant::TenantId;

/// Lines that a log begins with when none are asked for.
pub(super) const LINES: usize = 100;

/// Most lines that a log begins with.
pub(super) const MOST_LINES: usize = 100_000;

/// The routes of this file.
pub fn router() -> OpenApiRouter<Arc<Engine>> {
    OpenApiRouter::new().routes(routes!(logs))
}

/// One line of a tenant's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct LogLine {
    /// When the journal received it.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The text.
    pub message: String,
    /// Severity from 0 (emergency) to 7 (debug), as syslog(3) has it.
    pub priority: Option<u8>,
}

impl From<Entry> for LogLine {
    fn from(entry: Entry) -> Self {
        Self {
            at: entry.at,
            message: entry.message,
            priority: entry.priority,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct LogParams {
    /// How many lines to begin with, the last ones; 100 when not given.
    pub(super) lines: Option<usize>,
    /// Go on with new lines as they come.
    #[serde(default)]
    pub(super) follow: bool,
}

/// Read a tenant's log: one JSON document a line.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/logs", tag = "tenants",
    params(("tenant" = String, Path), LogParams),
    responses((status = 200, body = LogLine, content_type = "application/x-ndjson"),
              (status = 404, body = Problem)))]
async fn logs(
    State(engine): State<Arc<Engine>>,
    Path(tenant): Path<TenantId>,
    Query(params): Query<LogParams>,
) -> ApiResult<Response> {
    engine.database.tenant(tenant.clone()).await?;
    let names = UnitNames(&tenant);
    let query = journal::Query {
        units: vec![names.service()],
        namespace: Some(names.journal_namespace()),
        lines: Some(params.lines.unwrap_or(LINES).min(MOST_LINES)),
        ..journal::Query::default()
    };
    if params.follow {
        let follow = journal::follow(&query).map_err(|error| unreadable(&error))?;
        return Ok(lines(followed(follow).map(LogLine::from)));
    }
    let entries = journal::read(&query)
        .await
        .map_err(|error| unreadable(&error))?;
    Ok(lines(stream::iter(entries.into_iter().map(LogLine::from))))
}

pub(super) fn unreadable(error: &JournalError) -> Problem {
    Problem::of("host-unusable", StatusCode::SERVICE_UNAVAILABLE, error)
}

/// Entries as they come. Dropping the stream drops the reader, and that ends journalctl.
pub(super) fn followed(follow: Follow) -> impl Stream<Item = Entry> {
    stream::unfold(follow, |mut follow| async move {
        match follow.next().await {
            Ok(entry) => Some((entry?, follow)),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a log broke off");
                None
            }
        }
    })
}

/// An answer that is made line by line, each when the reader has taken the one before.
pub(super) fn lines(lines: impl Stream<Item: Serialize> + Send + 'static) -> Response {
    let bytes = lines.map(|line| {
        let mut json = serde_json::to_vec(&line).unwrap_or_default();
        json.push(b'\n');
        Ok::<_, Infallible>(Bytes::from(json))
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (kind, Body::from_stream(bytes)).into_response()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::routing::get;
    use http_body_util::BodyExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{UnixListener, UnixStream};
    use tokio::sync::oneshot;

    use super::*;

    fn line(number: usize) -> LogLine {
        LogLine {
            at: Timestamp::UNIX_EPOCH,
            message: format!("line {number}"),
            priority: None,
        }
    }

    #[tokio::test]
    async fn a_line_is_made_only_when_the_one_before_was_taken() {
        let made = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&made);
        let endless = stream::iter(0..).map(move |number| {
            counter.fetch_add(1, Ordering::SeqCst);
            line(number)
        });
        let mut body = lines(endless).into_body();
        assert_eq!(made.load(Ordering::SeqCst), 0);
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(made.load(Ordering::SeqCst), 1);
        insta::assert_snapshot!(
            String::from_utf8_lossy(&first),
            @r#"{"at":"1970-01-01T00:00:00Z","message":"line 0","priority":null}"#
        );
    }

    #[tokio::test]
    async fn a_reader_that_goes_away_ends_the_stream() {
        // Dropped with the stream, as journalctl's handle is.
        let (held, dropped) = oneshot::channel::<()>();
        let held = Arc::new(Mutex::new(Some(held)));
        let log = async move || {
            let held = held.lock().unwrap().take();
            let silent = stream::pending().map(move |line: LogLine| {
                let _ = &held;
                line
            });
            lines(stream::iter([line(0)]).chain(silent))
        };
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("api.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let router = Router::new().route("/log", get(log));
        tokio::spawn(axum::serve(listener, router).into_future());

        let mut reader = UnixStream::connect(&socket).await.unwrap();
        let request = b"GET /log HTTP/1.1\r\nHost: tenantd\r\n\r\n";
        reader.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        while !String::from_utf8_lossy(&answer).contains("line 0") {
            assert_ne!(reader.read_buf(&mut answer).await.unwrap(), 0);
        }
        drop(reader);
        assert!(dropped.await.is_err(), "the sender is dropped, not used");
    }
}
