//! What tenants use at this moment.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::error::ApiResult;
use crate::api::{Problem, UsageReport};
use crate::reconcile::Engine;
use crate::tenant::TenantId;

/// The routes of this file.
pub fn router() -> OpenApiRouter<Arc<Engine>> {
    OpenApiRouter::new().routes(routes!(usage))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct UsageParams {
    /// Only this tenant.
    #[param(value_type = Option<String>)]
    tenant: Option<TenantId>,
}

/// What tenants use: processor, memory, pressure, disk, storage. Cheap enough to be asked every second.
#[utoipa::path(get, path = "/v1/usage", tag = "tenants", params(UsageParams),
    responses((status = 200, body = UsageReport), (status = 404, body = Problem)))]
async fn usage(
    State(engine): State<Arc<Engine>>,
    Query(params): Query<UsageParams>,
) -> ApiResult<Json<UsageReport>> {
    Ok(Json(engine.usage_report(params.tenant.as_ref()).await?))
}
