//! Operations: what takes long, to be looked at and waited for.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::auth::Peer;
use crate::api::error::ApiResult;
use crate::api::{Evidence, Problem};
use crate::reconcile::Engine;
use crate::state::Operation;
use crate::tenant::{Period, TenantId};

/// Longest wait of one request; a client that wants more asks again.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// How many operations a list shows.
const LISTED: u32 = 50;

/// The routes of this file.
pub fn router() -> OpenApiRouter<Arc<Engine>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(evidence))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListParams {
    /// Only operations of this tenant.
    #[param(value_type = Option<String>)]
    tenant: Option<TenantId>,
}

/// List operations, newest first.
#[utoipa::path(get, path = "/v1/operations", tag = "operations", params(ListParams),
    responses((status = 200, body = Vec<Operation>)))]
async fn list(
    State(engine): State<Arc<Engine>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Query(params): Query<ListParams>,
) -> ApiResult<Json<Vec<Operation>>> {
    let operations = engine
        .database
        .recent_operations(params.tenant, LISTED)
        .await;
    let mut operations = operations?;
    if let Some(own) = peer.owned() {
        // Whoever had the name before was another one.
        let row = engine.database.tenant(own.clone()).await?;
        operations.retain(|operation| operation.started_at >= row.created_at);
    }
    Ok(Json(operations))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "kebab-case")]
#[into_params(parameter_in = Query, rename_all = "kebab-case")]
struct ShowParams {
    /// Wait this long for its end, for example `30s`; at most 60 s.
    #[param(value_type = Option<String>)]
    wait: Option<Period>,
    /// While waiting, answer also when it is at another step than this one.
    after_step: Option<String>,
}

/// Show an operation, after waiting for it when asked to.
#[utoipa::path(get, path = "/v1/operations/{id}", tag = "operations",
    params(("id" = String, Path), ShowParams),
    responses((status = 200, body = Operation), (status = 404, body = Problem)))]
async fn show(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<uuid::Uuid>,
    Query(params): Query<ShowParams>,
) -> ApiResult<Json<Operation>> {
    let wait = params.wait.map_or(0, Period::seconds);
    let patience = Duration::from_secs(wait.into()).min(LONGEST_WAIT);
    let operation = engine
        .operation(id, patience, params.after_step.as_deref())
        .await?;
    Ok(Json(operation))
}

/// Show what is kept of a failed operation: the agent's log, probes, systemd's result, and the files rendered.
#[utoipa::path(get, path = "/v1/operations/{id}/evidence", tag = "operations",
    params(("id" = String, Path)),
    responses((status = 200, body = Evidence), (status = 404, body = Problem)))]
async fn evidence(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<uuid::Uuid>,
) -> ApiResult<Json<Evidence>> {
    let kept = engine.evidence(id).await?;
    Ok(Json(kept.ok_or_else(|| {
        Problem::new(
            "evidence-unknown",
            StatusCode::NOT_FOUND,
            format!("nothing is kept of operation {id}: it has not failed, failed before an agent was started, or is too old"),
        )
    })?))
}
