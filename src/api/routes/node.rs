//! The node: how it is, what the doctor finds, reading its files again.

use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::auth::Peer;
use crate::api::error::ApiResult;
use crate::api::{ApplyPlan, CheckResult, NodeStatus, Problem, without_words};
use crate::daemon::{self, Reloaded};
use crate::node::doctor;
use crate::reconcile::{Engine, OperationError};

/// The routes of this file.
pub fn router() -> OpenApiRouter<Arc<Engine>> {
    OpenApiRouter::new()
        .routes(routes!(status))
        .routes(routes!(check))
        .routes(routes!(check_store))
        .routes(routes!(reload))
        .routes(routes!(version))
}

/// How the node is.
#[utoipa::path(get, path = "/v1/node", tag = "node", responses((status = 200, body = NodeStatus)))]
async fn status(
    State(engine): State<Arc<Engine>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
) -> ApiResult<Json<NodeStatus>> {
    let mut status = engine.status().await?;
    if peer.only_reads() {
        status.operations = without_words(status.operations);
    }
    Ok(Json(status))
}

/// Check the host for what tenantd needs.
#[utoipa::path(get, path = "/v1/doctor", tag = "node",
    responses((status = 200, body = Vec<CheckResult>)))]
async fn check(State(engine): State<Arc<Engine>>) -> Json<Vec<CheckResult>> {
    Json(doctor::examine(&engine).await)
}

/// Find out what the object store and its key can do, by storing an object of the doctor's own.
#[utoipa::path(post, path = "/v1/doctor/store", tag = "node",
    responses((status = 200, body = Vec<CheckResult>)))]
async fn check_store(State(engine): State<Arc<Engine>>) -> Json<Vec<CheckResult>> {
    Json(doctor::examine_store(&engine.settings()).await)
}

/// What a reload did.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ReloadReport {
    /// Tenants that were not as recorded and are put right, and what the files under
    /// `tenants.d` lead to.
    pub plans: Vec<ApplyPlan>,
    /// Files that are not valid; their tenants are left as they are.
    pub problems: Vec<Problem>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ReloadParams {
    /// Ask the images' registries again, also for names that are on the host.
    #[serde(default)]
    pull: bool,
}

/// Read node.toml, templates.d, plans.d and tenants.d again.
#[utoipa::path(post, path = "/v1/reload", tag = "node", params(ReloadParams),
    responses((status = 202, body = ReloadReport), (status = 400, body = Problem)))]
async fn reload(
    State(engine): State<Arc<Engine>>,
    Query(params): Query<ReloadParams>,
) -> ApiResult<(StatusCode, Json<ReloadReport>)> {
    let Reloaded { plans, faults } = daemon::reload(&engine, params.pull).await?;
    let problems = faults.iter().map(OperationError::problem).collect();
    Ok((StatusCode::ACCEPTED, Json(ReloadReport { plans, problems })))
}

/// The daemon's version.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// As in the changelog.
    pub version: String,
}

/// The daemon's version.
#[utoipa::path(get, path = "/v1/version", tag = "node", responses((status = 200, body = Version)))]
async fn version() -> Json<Version> {
    Json(Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}
