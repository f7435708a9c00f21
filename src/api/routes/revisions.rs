//! Revisions of a tenant: list, show.

use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, Path, State};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::auth::Peer;
use crate::api::error::ApiResult;
use crate::api::{Problem, RevisionDetail, RevisionSummary};
use crate::reconcile::Engine;
use crate::tenant::TenantId;

/// The routes of this file.
pub fn router() -> OpenApiRouter<Arc<Engine>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
}

/// List a tenant's revisions, the newest first.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/revisions", tag = "revisions",
    params(("tenant" = String, Path)),
    responses((status = 200, body = Vec<RevisionSummary>), (status = 404, body = Problem)))]
async fn list(
    State(engine): State<Arc<Engine>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(tenant): Path<TenantId>,
) -> ApiResult<Json<Vec<RevisionSummary>>> {
    let mut revisions = engine.revisions(&tenant).await?;
    if peer.owned().is_some() {
        // Whoever had the name before was another one.
        let row = engine.database.tenant(tenant).await?;
        revisions.retain(|revision| revision.created_at >= row.created_at);
    }
    Ok(Json(revisions))
}

/// Show one revision: its spec, what it meant, and the files rendered for it.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/revisions/{revision}", tag = "revisions",
    params(("tenant" = String, Path), ("revision" = u64, Path)),
    responses((status = 200, body = RevisionDetail), (status = 404, body = Problem)))]
async fn show(
    State(engine): State<Arc<Engine>>,
    Path((tenant, revision)): Path<(TenantId, u64)>,
) -> ApiResult<Json<RevisionDetail>> {
    Ok(Json(engine.revision(&tenant, revision).await?))
}
