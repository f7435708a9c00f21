//! Backups: snapshots are made, listed and brought back.

use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::auth::Peer;
use crate::api::error::ApiResult;
use crate::api::{Problem, RestoreRequest, SnapshotSummary};
use crate::reconcile::{Engine, OperationError, asked, refuse};
use crate::state::{Operation, OperationKind};
use crate::tenant::{TenantId, TenantState};

/// The routes of this file.
pub fn router() -> OpenApiRouter<Arc<Engine>> {
    OpenApiRouter::new()
        .routes(routes!(back_up_all))
        .routes(routes!(back_up))
        .routes(routes!(all_snapshots))
        .routes(routes!(snapshots))
        .routes(routes!(restore))
        .routes(routes!(undo))
        .routes(routes!(accept))
}

/// Make a snapshot of every tenant and of the node.
#[utoipa::path(post, path = "/v1/backups", tag = "backups",
    responses((status = 202, body = Vec<Operation>)))]
async fn back_up_all(
    State(engine): State<Arc<Engine>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
) -> ApiResult<(StatusCode, Json<Vec<Operation>>)> {
    let rows = engine.database.tenants().await?;
    // The node comes last: its catalogue then knows what the tenants' backups made.
    let running = rows
        .into_iter()
        .filter(|row| row.state != TenantState::Terminated);
    let tenants = running.map(|row| Some(row.id)).chain([None]);
    let mut operations = Vec::new();
    for tenant in tenants {
        let submitted = engine
            .submit(OperationKind::Backup, tenant, json!({}), peer.actor())
            .await;
        match submitted {
            Ok(submitted) => operations.push(submitted),
            // The others, and the node, are backed up all the same.
            Err(error @ OperationError::Crowded { .. }) => tracing::warn!("no backup: {error}"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok((StatusCode::ACCEPTED, Json(operations)))
}

/// Make a snapshot of one tenant.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/backups", tag = "backups",
    params(("tenant" = String, Path)),
    responses((status = 202, body = Operation), (status = 404, body = Problem)))]
async fn back_up(
    State(engine): State<Arc<Engine>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(tenant): Path<TenantId>,
) -> ApiResult<(StatusCode, Json<Operation>)> {
    let row = engine.database.tenant(tenant.clone()).await?;
    refuse(&engine, OperationKind::Backup, &Value::Null, &row).await?;
    let operation = asked(OperationKind::Backup, Some(tenant), json!({}), peer.actor());
    engine
        .submit_within(peer.bound(), vec![operation.clone()])
        .await?;
    Ok((StatusCode::ACCEPTED, Json(operation)))
}

/// List the snapshots of all tenants and of the node.
#[utoipa::path(get, path = "/v1/snapshots", tag = "backups",
    responses((status = 200, body = Vec<SnapshotSummary>)))]
async fn all_snapshots(State(engine): State<Arc<Engine>>) -> ApiResult<Json<Vec<SnapshotSummary>>> {
    Ok(Json(engine.snapshots(None).await?))
}

/// List the snapshots of one tenant.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/snapshots", tag = "backups",
    params(("tenant" = String, Path)),
    responses((status = 200, body = Vec<SnapshotSummary>), (status = 404, body = Problem)))]
async fn snapshots(
    State(engine): State<Arc<Engine>>,
    Path(tenant): Path<TenantId>,
) -> ApiResult<Json<Vec<SnapshotSummary>>> {
    Ok(Json(engine.snapshots(Some(&tenant)).await?))
}

/// Replace a tenant's state by a snapshot.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/restore", tag = "backups",
    params(("tenant" = String, Path)), request_body = RestoreRequest,
    responses((status = 202, body = Operation), (status = 404, body = Problem)))]
async fn restore(
    State(engine): State<Arc<Engine>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(tenant): Path<TenantId>,
    Json(request): Json<RestoreRequest>,
) -> ApiResult<(StatusCode, Json<Operation>)> {
    let row = engine.database.tenant(tenant.clone()).await?;
    refuse(&engine, OperationKind::Restore, &Value::Null, &row).await?;
    // The identity is not part of what is recorded.
    let recorded = json!({
        "snapshot": request.snapshot,
        "identity-given": request.identity.is_some(),
        "allow-old": request.allow_old,
    });
    let identity = request.identity.map(secrecy::SecretString::from);
    let operation = engine
        .submit_with(
            OperationKind::Restore,
            Some(tenant),
            recorded,
            peer.actor(),
            identity,
        )
        .await?;
    Ok((StatusCode::ACCEPTED, Json(operation)))
}

/// Put the state from before the last restore back; the present one is kept in its place.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/restore/undo", tag = "backups",
    params(("tenant" = String, Path)),
    responses((status = 202, body = Operation), (status = 404, body = Problem)))]
async fn undo(
    engine: State<Arc<Engine>>,
    peer: ConnectInfo<Peer>,
    tenant: Path<TenantId>,
) -> ApiResult<(StatusCode, Json<Operation>)> {
    decide_kept(engine, peer, tenant, "put-back").await
}

/// Remove the state from before the last restore.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/restore/accept", tag = "backups",
    params(("tenant" = String, Path)),
    responses((status = 202, body = Operation), (status = 404, body = Problem)))]
async fn accept(
    engine: State<Arc<Engine>>,
    peer: ConnectInfo<Peer>,
    tenant: Path<TenantId>,
) -> ApiResult<(StatusCode, Json<Operation>)> {
    decide_kept(engine, peer, tenant, "give-up").await
}

async fn decide_kept(
    State(engine): State<Arc<Engine>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(tenant): Path<TenantId>,
    what: &str,
) -> ApiResult<(StatusCode, Json<Operation>)> {
    let row = engine.database.tenant(tenant.clone()).await?;
    refuse(&engine, OperationKind::Restore, &Value::Null, &row).await?;
    let request = json!({ "kept": what });
    let operation = engine
        .submit(OperationKind::Restore, Some(tenant), request, peer.actor())
        .await?;
    Ok((StatusCode::ACCEPTED, Json(operation)))
}
