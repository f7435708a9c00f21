//! What tenants' endpoints have used.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::error::ApiResult;
use crate::api::{Problem, SpendingReport};
use crate::gateway::egress::Month;
use crate::reconcile::Engine;
use crate::tenant::TenantId;

/// The routes of this file.
pub fn router() -> OpenApiRouter<Arc<Engine>> {
    OpenApiRouter::new().routes(routes!(spending))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct SpendingParams {
    /// Only this tenant.
    #[param(value_type = Option<String>)]
    tenant: Option<TenantId>,
    /// A month, such as `2026-11`; the present one when not given.
    #[param(value_type = Option<String>)]
    month: Option<Month>,
}

/// What tenants' endpoints have used: requests, tokens and money by endpoint and model, and the limits.
#[utoipa::path(get, path = "/v1/spending", tag = "tenants", params(SpendingParams),
    responses((status = 200, body = [SpendingReport]), (status = 404, body = Problem)))]
async fn spending(
    State(engine): State<Arc<Engine>>,
    Query(params): Query<SpendingParams>,
) -> ApiResult<Json<Vec<SpendingReport>>> {
    Ok(Json(
        engine
            .spending(params.tenant.as_ref(), params.month)
            .await?,
    ))
}
