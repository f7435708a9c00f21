//! The public front: its hosts and certificates, who asked for what, and what other proxies are to be told.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::Problem;
use crate::api::error::ApiResult;
use crate::front::{self, AccessLine, FrontReport, Proxy};
use crate::reconcile::Engine;
use crate::reconcile::front::{access_log, hosts_of};
use crate::tenant::TenantId;

/// Lines of an access log when none are asked for.
const LINES: usize = 100;

/// Most lines of an access log.
const MOST_LINES: usize = 10_000;

/// The routes of this file.
pub fn router() -> OpenApiRouter<Arc<Engine>> {
    OpenApiRouter::new()
        .routes(routes!(report))
        .routes(routes!(snippet))
        .routes(routes!(access))
}

/// How the public front is: hosts, certificates, what is wrong.
#[utoipa::path(get, path = "/v1/front", tag = "node", responses((status = 200, body = FrontReport)))]
async fn report(State(engine): State<Arc<Engine>>) -> ApiResult<Json<FrontReport>> {
    Ok(Json(engine.front_report().await?))
}

/// Configuration for another proxy.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SnippetText {
    /// The text, ready to be put where its first lines say.
    pub text: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct SnippetParams {
    /// `caddy`, `nginx`, `traefik` or `tailscale`.
    #[param(value_type = String)]
    proxy: Proxy,
    /// Only this tenant.
    #[param(value_type = Option<String>)]
    tenant: Option<TenantId>,
}

/// What another proxy is to be told so that it leads to tenants.
#[utoipa::path(get, path = "/v1/front/snippet", tag = "node", params(SnippetParams),
    responses((status = 200, body = SnippetText), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn snippet(
    State(engine): State<Arc<Engine>>,
    Query(params): Query<SnippetParams>,
) -> ApiResult<Json<SnippetText>> {
    let mut sites = engine.snippet_sites().await?;
    if let Some(tenant) = params.tenant {
        engine.database.tenant(tenant.clone()).await?;
        sites.retain(|site| site.tenant == tenant.as_str());
    }
    let text = front::snippet(params.proxy, &sites)
        .map_err(|error| Problem::of("way-in-missing", StatusCode::CONFLICT, &error))?;
    Ok(Json(SnippetText { text }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct AccessParams {
    /// How many lines, the last ones; 100 when not given.
    lines: Option<usize>,
}

/// The last requests that the front has served for a tenant, oldest first.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/access", tag = "tenants",
    params(("tenant" = String, Path), AccessParams),
    responses((status = 200, body = Vec<AccessLine>), (status = 404, body = Problem)))]
async fn access(
    State(engine): State<Arc<Engine>>,
    Path(tenant): Path<TenantId>,
    Query(params): Query<AccessParams>,
) -> ApiResult<Json<Vec<AccessLine>>> {
    engine.database.tenant(tenant.clone()).await?;
    let hosts = hosts_of(&engine, &tenant).await?;
    let most = params.lines.unwrap_or(LINES).min(MOST_LINES);
    let layout = engine.layout.clone();
    let lines = tokio::task::spawn_blocking(move || access_log(&layout, &hosts, most)).await;
    Ok(Json(lines.unwrap_or_default()))
}
