//! Sleep and wake at somebody's word. The sleep service does both, with or without the daemon; here it is asked.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::Problem;
use crate::api::error::ApiResult;
use crate::reconcile::Engine;
use crate::sleep::{Asked, Told, tell};
use crate::tenant::TenantId;

/// The routes of this file.
pub fn router() -> OpenApiRouter<Arc<Engine>> {
    OpenApiRouter::new()
        .routes(routes!(sleep))
        .routes(routes!(wake))
}

/// How a tenant stands after it was put to sleep or woken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SleepAnswer {
    /// `awake`, or on its way; `frozen`; `stopped` until somebody comes.
    pub standing: String,
}

/// Put a tenant to sleep now. Whoever comes wakes it again.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/sleep", tag = "tenants", params(("tenant" = String, Path)),
    responses((status = 200, body = SleepAnswer), (status = 404, body = Problem),
              (status = 409, body = Problem), (status = 503, body = Problem)))]
async fn sleep(
    State(engine): State<Arc<Engine>>,
    Path(tenant): Path<TenantId>,
) -> ApiResult<Json<SleepAnswer>> {
    ask(&engine, tenant, Asked::SleepTenant).await
}

/// Wake a tenant that sleeps.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/wake", tag = "tenants", params(("tenant" = String, Path)),
    responses((status = 200, body = SleepAnswer), (status = 404, body = Problem),
              (status = 409, body = Problem), (status = 503, body = Problem)))]
async fn wake(
    State(engine): State<Arc<Engine>>,
    Path(tenant): Path<TenantId>,
) -> ApiResult<Json<SleepAnswer>> {
    ask(&engine, tenant, Asked::WakeTenant).await
}

async fn ask(
    engine: &Engine,
    tenant: TenantId,
    asked: impl Fn(TenantId) -> Asked,
) -> ApiResult<Json<SleepAnswer>> {
    engine.database.tenant(tenant.clone()).await?;
    let told = tell(&engine.layout.sleep_socket(), &asked(tenant)).await;
    let told: Told = told.map_err(|error| error.problem())?;
    Ok(Json(SleepAnswer {
        standing: told.to_string(),
    }))
}
