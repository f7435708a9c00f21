//! Tenants' ways out: what doors counted and decided, and what they would decide.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::logs::{LINES, LogParams, MOST_LINES, followed, lines, unreadable};
use crate::api::error::ApiResult;
use crate::api::{EgressDecision, EgressReport, EgressVerdict, Problem};
use crate::gateway::egress::{Month, goal_of};
use crate::host::clock;
use crate::host::journal::{self, Entry};
use crate::layout::UnitNames;
use crate::reconcile::Engine;
use crate::tenant::TenantId;

/// The routes of this file.
pub fn router() -> OpenApiRouter<Arc<Engine>> {
    OpenApiRouter::new()
        .routes(routes!(egress))
        .routes(routes!(test))
        .routes(routes!(decisions))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct EgressParams {
    /// Only this tenant.
    #[param(value_type = Option<String>)]
    tenant: Option<TenantId>,
    /// The month, such as `2026-11`; this one when not given.
    #[param(value_type = Option<String>)]
    month: Option<Month>,
}

/// Where tenants may go, and what passed their egress doors in a month.
#[utoipa::path(get, path = "/v1/egress", tag = "tenants", params(EgressParams),
    responses((status = 200, body = Vec<EgressReport>), (status = 404, body = Problem)))]
async fn egress(
    State(engine): State<Arc<Engine>>,
    Query(params): Query<EgressParams>,
) -> ApiResult<Json<Vec<EgressReport>>> {
    let month = params.month.unwrap_or_else(|| Month::of(clock::now()));
    let reports = engine.egress_reports(params.tenant.as_ref(), month).await?;
    Ok(Json(reports))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct TestParams {
    /// A URL, a host, or a host with a port.
    url: String,
}

/// What would happen to a connection of a tenant, and why.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/egress/test", tag = "tenants",
    params(("tenant" = String, Path), TestParams),
    responses((status = 200, body = EgressVerdict), (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn test(
    State(engine): State<Arc<Engine>>,
    Path(tenant): Path<TenantId>,
    Query(params): Query<TestParams>,
) -> ApiResult<Json<EgressVerdict>> {
    let goal = goal_of(&params.url).ok_or_else(|| {
        let why = format!(
            "{:?} leads to no host: a URL such as `https://api.example.org/`, or `HOST:PORT`",
            params.url
        );
        Problem::new("url-invalid", StatusCode::UNPROCESSABLE_ENTITY, why)
    })?;
    Ok(Json(engine.egress_verdict(&tenant, &goal).await?))
}

/// Read what a tenant's egress door decided: one JSON document a line. A door writes 300 a minute at most.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/egress/decisions", tag = "tenants",
    params(("tenant" = String, Path), LogParams),
    responses((status = 200, body = EgressDecision, content_type = "application/x-ndjson"),
              (status = 404, body = Problem)))]
async fn decisions(
    State(engine): State<Arc<Engine>>,
    Path(tenant): Path<TenantId>,
    Query(params): Query<LogParams>,
) -> ApiResult<Response> {
    engine.database.tenant(tenant.clone()).await?;
    let query = journal::Query {
        units: vec![UnitNames(&tenant).instance("egress", "service")],
        lines: Some(params.lines.unwrap_or(LINES).min(MOST_LINES)),
        matches: vec!["DECISION=allowed", "DECISION=refused"],
        ..journal::Query::default()
    };
    if params.follow {
        let follow = journal::follow(&query).map_err(|error| unreadable(&error))?;
        let decisions = followed(follow).filter_map(|entry| async { decision(entry) });
        return Ok(lines(decisions));
    }
    let entries = journal::read(&query).await;
    let entries = entries.map_err(|error| unreadable(&error))?;
    Ok(lines(stream::iter(
        entries.into_iter().filter_map(decision),
    )))
}

fn decision(mut entry: Entry) -> Option<EgressDecision> {
    Some(EgressDecision {
        at: entry.at,
        allowed: entry.fields.remove("DECISION")? == "allowed",
        by: entry.fields.remove("BY")?,
        destination: entry.fields.remove("DESTINATION")?,
        address: entry.fields.remove("ADDRESS"),
        code: entry.fields.remove("CODE"),
        reported: entry
            .fields
            .get("REPORTED")
            .is_some_and(|text| text == "true"),
        message: entry.message,
    })
}
