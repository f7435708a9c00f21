//! Tenants: list, show, apply, and what is done to one.

use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::auth::Peer;
use crate::api::error::ApiResult;
use crate::api::owner;
use crate::api::precondition::{IfRevision, Queue, check_text, etag};
use crate::api::{
    ApplyPlan, ApplyRequest, Change, Document, Problem, RollbackRequest, SuspendRequest,
    TenantDetail, TenantSummary, TenantUnits, TransitionLine,
};
use crate::reconcile::{
    ApplyJob, Engine, Images, OperationError, asked, check_revision, plan, preview, refuse,
    resolve_all, settle_rollback,
};
use crate::state::{Operation, OperationKind};
use crate::tenant::TenantId;

/// The routes of this file.
pub fn router() -> OpenApiRouter<Arc<Engine>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show, remove))
        .routes(routes!(units))
        .routes(routes!(spec))
        .routes(routes!(apply))
        .routes(routes!(start))
        .routes(routes!(stop))
        .routes(routes!(restart))
        .routes(routes!(rollback))
        .routes(routes!(suspend))
        .routes(routes!(resume))
        .routes(routes!(reclaim))
        .routes(routes!(transitions))
}

type Accepted = ApiResult<(StatusCode, Json<Operation>)>;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListParams {
    /// Those that are terminated and not yet erased as well.
    #[serde(default)]
    all: bool,
}

/// List tenants.
#[utoipa::path(get, path = "/v1/tenants", tag = "tenants", params(ListParams),
    responses((status = 200, body = Vec<TenantSummary>)))]
async fn list(
    State(engine): State<Arc<Engine>>,
    Query(params): Query<ListParams>,
) -> ApiResult<Json<Vec<TenantSummary>>> {
    Ok(Json(engine.list(params.all).await?))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct TransitionParams {
    /// How many of the newest; 1000 at most.
    #[serde(default = "some_transitions")]
    limit: u32,
}

fn some_transitions() -> u32 {
    100
}

/// A tenant's changes of state, the newest first: each with who, why, and the cause of a failure.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/transitions", tag = "tenants",
    params(("tenant" = String, Path), TransitionParams),
    responses((status = 200, body = Vec<TransitionLine>), (status = 404, body = Problem)))]
async fn transitions(
    State(engine): State<Arc<Engine>>,
    Path(tenant): Path<TenantId>,
    Query(params): Query<TransitionParams>,
) -> ApiResult<Json<Vec<TransitionLine>>> {
    engine.database.tenant(tenant.clone()).await?;
    Ok(Json(
        engine.transitions(&tenant, params.limit.min(1000)).await?,
    ))
}

/// Show one tenant.
#[utoipa::path(get, path = "/v1/tenants/{tenant}", tag = "tenants",
    params(("tenant" = String, Path)),
    responses((status = 200, body = TenantDetail, headers(("ETag" = String, description = "The installed revision, for If-Match"))),
              (status = 404, body = Problem)))]
async fn show(
    State(engine): State<Arc<Engine>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(tenant): Path<TenantId>,
) -> ApiResult<(HeaderMap, Json<TenantDetail>)> {
    let mut detail = engine.show(&tenant).await?;
    if peer.owned().is_some() {
        let row = engine.database.tenant(tenant).await?;
        detail = detail.without_the_host().since(row.created_at);
    }
    if peer.only_reads() {
        detail = detail.without_words();
    }
    let tag = etag(detail.summary.revision).map(|tag| (header::ETAG, tag));
    Ok((tag.into_iter().collect(), Json(detail)))
}

/// The files rendered for a tenant, beside what is installed.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/units", tag = "tenants",
    params(("tenant" = String, Path)),
    responses((status = 200, body = TenantUnits), (status = 404, body = Problem)))]
async fn units(
    State(engine): State<Arc<Engine>>,
    Path(tenant): Path<TenantId>,
) -> ApiResult<Json<TenantUnits>> {
    Ok(Json(engine.units(&tenant).await?))
}

/// The spec of a tenant's current revision, as it was written.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/spec", tag = "tenants",
    params(("tenant" = String, Path)),
    responses((status = 200, body = Document), (status = 404, body = Problem)))]
async fn spec(
    State(engine): State<Arc<Engine>>,
    Path(tenant): Path<TenantId>,
) -> ApiResult<Json<Document>> {
    Ok(Json(engine.spec(&tenant).await?))
}

/// Bring tenants to what specs say. All documents are checked before anything is touched.
#[utoipa::path(post, path = "/v1/apply", tag = "tenants", request_body = ApplyRequest, params(IfMatch, Queue),
    responses((status = 202, body = Vec<ApplyPlan>), (status = 200, body = Vec<ApplyPlan>),
              (status = 400, body = Problem), (status = 409, body = Problem), (status = 412, body = Problem)))]
async fn apply(
    State(engine): State<Arc<Engine>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Query(queue): Query<Queue>,
    if_revision: IfRevision,
    Json(request): Json<ApplyRequest>,
) -> ApiResult<(StatusCode, Json<Vec<ApplyPlan>>)> {
    request.message.as_deref().map_or(Ok(()), check_text)?;
    for document in &request.documents {
        check_text(&document.name)?;
    }
    let if_revision = owner::bind_apply(&engine.database, &peer, &request, if_revision).await?;
    let specs = resolve_all(&engine.catalog(), &request.documents)?;
    if if_revision.0.is_some() && specs.len() != 1 {
        return Err(Problem::new(
            "precondition-invalid",
            StatusCode::BAD_REQUEST,
            "If-Match is about one tenant, and several specs were given",
        )
        .into());
    }
    for spec in &specs {
        let row = engine.database.find_tenant(spec.tenant.clone()).await?;
        if let Some(expected) = if_revision.0 {
            check_revision(&spec.tenant, expected, row.as_ref())?;
        }
        if !queue.queue && !request.dry_run {
            engine.refuse_busy(&spec.tenant)?;
        }
        if let Some(row) = row {
            if let Some(file) = row.source {
                return Err(defined_by(&peer, row.id, file).into());
            }
            refuse(&engine, OperationKind::Apply, &Value::Null, &row).await?;
        }
    }
    let (mut plans, mut images) = (Vec::new(), Images::default());
    for (document, spec) in request.documents.iter().zip(&specs) {
        let pull = request.pull && !request.dry_run;
        plans.push(plan(&engine, &mut images, document, spec, pull).await?);
    }
    engine.check_ways_in(&specs).await?;
    let changing = specs.iter().zip(&plans);
    let changing = changing.filter(|(_, plan)| plan.change != Change::None);
    // Until the operations are recorded: another one who asks meanwhile is judged with them.
    let turn = engine.turn_to_promise().await;
    let exceeded = turn.check(changing.map(|(spec, _)| spec)).await?;
    for plan in plans.iter_mut().filter(|plan| plan.change != Change::None) {
        plan.warnings.extend(exceeded.iter().cloned());
    }
    if request.dry_run {
        for (spec, plan) in specs.iter().zip(&mut plans) {
            if plan.change != Change::None {
                plan.files = preview(&engine, spec).await?;
            }
        }
        return Ok((StatusCode::OK, Json(shown(&peer, plans))));
    }
    for ((document, spec), plan) in request.documents.into_iter().zip(specs).zip(&mut plans) {
        if plan.change == Change::None {
            continue;
        }
        let job = ApplyJob {
            name: document.name,
            spec: document.text,
            message: request.message.clone().unwrap_or_default(),
            source: None,
            pull: request.pull,
            force: request.force,
        };
        let operation = asked(
            OperationKind::Apply,
            Some(spec.tenant),
            if_revision.within(json!(job)),
            peer.actor(),
        );
        plan.operation = Some(operation);
    }
    // All at once, so that they go through the same rounds of checks and reloads.
    let operations = plans.iter().filter_map(|plan| plan.operation.clone());
    engine
        .submit_within(peer.bound(), operations.collect())
        .await?;
    drop(turn);
    Ok((StatusCode::ACCEPTED, Json(shown(&peer, plans))))
}

/// Plans as `peer` may see them.
fn shown(peer: &Peer, plans: Vec<ApplyPlan>) -> Vec<ApplyPlan> {
    if peer.owned().is_none() {
        return plans;
    }
    plans.into_iter().map(ApplyPlan::without_the_host).collect()
}

/// The refusal of what a file decides; where that is, is no business of a tenant's owner.
fn defined_by(peer: &Peer, tenant: TenantId, file: String) -> OperationError {
    let file = if peer.owned().is_some() {
        "a file of the operator's".to_owned()
    } else {
        file
    };
    OperationError::DefinedByFile { tenant, file }
}

/// Start a stopped tenant.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/start", tag = "tenants",
    params(("tenant" = String, Path), IfMatch, Queue),
    responses((status = 202, body = Operation), (status = 404, body = Problem),
              (status = 409, body = Problem)))]
async fn start(
    State(engine): State<Arc<Engine>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(tenant): Path<TenantId>,
    condition: Condition,
) -> Accepted {
    condition
        .submit(&engine, OperationKind::Start, tenant, json!({}), &peer)
        .await
}

/// Stop a tenant until it is started again.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/stop", tag = "tenants",
    params(("tenant" = String, Path), IfMatch, Queue),
    responses((status = 202, body = Operation), (status = 404, body = Problem),
              (status = 409, body = Problem)))]
async fn stop(
    State(engine): State<Arc<Engine>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(tenant): Path<TenantId>,
    condition: Condition,
) -> Accepted {
    condition
        .submit(&engine, OperationKind::Stop, tenant, json!({}), &peer)
        .await
}

/// Stop and start a tenant's agent.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/restart", tag = "tenants",
    params(("tenant" = String, Path), IfMatch, Queue),
    responses((status = 202, body = Operation), (status = 404, body = Problem),
              (status = 409, body = Problem)))]
async fn restart(
    State(engine): State<Arc<Engine>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(tenant): Path<TenantId>,
    condition: Condition,
) -> Accepted {
    condition
        .submit(&engine, OperationKind::Restart, tenant, json!({}), &peer)
        .await
}

/// Suspend a tenant until it is resumed.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/suspend", tag = "tenants",
    params(("tenant" = String, Path), IfMatch, Queue), request_body = SuspendRequest,
    responses((status = 202, body = Operation), (status = 404, body = Problem),
              (status = 409, body = Problem)))]
async fn suspend(
    State(engine): State<Arc<Engine>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(tenant): Path<TenantId>,
    condition: Condition,
    Json(request): Json<SuspendRequest>,
) -> Accepted {
    condition
        .submit(
            &engine,
            OperationKind::Suspend,
            tenant,
            json!(request),
            &peer,
        )
        .await
}

/// Return to an earlier release: its revision, and the data that it has left. What was written since is set aside.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/rollback", tag = "tenants",
    params(("tenant" = String, Path), IfMatch, Queue), request_body = RollbackRequest,
    responses((status = 202, body = Operation), (status = 404, body = Problem),
              (status = 409, body = Problem), (status = 412, body = Problem)))]
async fn rollback(
    State(engine): State<Arc<Engine>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(tenant): Path<TenantId>,
    mut condition: Condition,
    Json(request): Json<RollbackRequest>,
) -> Accepted {
    let message = request.message.unwrap_or_default();
    check_text(&message)?;
    let job = settle_rollback(&engine, &tenant, request.to, request.keep_data, message).await?;
    condition.if_revision =
        owner::bind_rollback(&engine.database, &peer, job.to, condition.if_revision).await?;
    let kind = OperationKind::Rollback;
    condition
        .submit(&engine, kind, tenant, json!(job), &peer)
        .await
}

/// End a suspension.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/resume", tag = "tenants",
    params(("tenant" = String, Path), IfMatch, Queue),
    responses((status = 202, body = Operation), (status = 404, body = Problem),
              (status = 409, body = Problem)))]
async fn resume(
    State(engine): State<Arc<Engine>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(tenant): Path<TenantId>,
    condition: Condition,
) -> Accepted {
    condition
        .submit(&engine, OperationKind::Resume, tenant, json!({}), &peer)
        .await
}

/// Take the removal of a tenant back, until it is erased.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/reclaim", tag = "tenants",
    params(("tenant" = String, Path), IfMatch, Queue),
    responses((status = 202, body = Operation), (status = 404, body = Problem),
              (status = 409, body = Problem)))]
async fn reclaim(
    State(engine): State<Arc<Engine>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    condition: Condition,
    Path(tenant): Path<TenantId>,
) -> Accepted {
    condition
        .submit(&engine, OperationKind::Reclaim, tenant, json!({}), &peer)
        .await
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct RemoveParams {
    /// Erase the tenant now: its state, and what its backups can be read with.
    #[serde(default)]
    purge: bool,
    /// With `purge`: leave the backups readable.
    #[serde(default)]
    keep_backups: bool,
}

/// Terminate a tenant: its units go; its state and backups stay for its plan's retention, or go with `purge`.
#[utoipa::path(delete, path = "/v1/tenants/{tenant}", tag = "tenants",
    params(("tenant" = String, Path), RemoveParams, IfMatch, Queue),
    responses((status = 202, body = Operation), (status = 404, body = Problem),
              (status = 409, body = Problem)))]
async fn remove(
    State(engine): State<Arc<Engine>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(tenant): Path<TenantId>,
    Query(params): Query<RemoveParams>,
    condition: Condition,
) -> Accepted {
    let request = json!({ "purge": params.purge, "keep-backups": params.keep_backups });
    condition
        .submit(&engine, OperationKind::Remove, tenant, request, &peer)
        .await
}

/// `If-Match`, for the contract.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "read by IfRevision")]
struct IfMatch {
    /// The `ETag` of the tenant that the caller has seen; with another revision installed, the answer is 412.
    #[param(rename = "If-Match", required = false)]
    if_match: Option<String>,
}

/// What must hold for an operation on one tenant.
struct Condition {
    if_revision: IfRevision,
    queue: Queue,
}

impl<S: Send + Sync> FromRequestParts<S> for Condition {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let if_revision = IfRevision::from_request_parts(parts, state)
            .await
            .map_err(IntoResponse::into_response)?;
        let Query(queue) = Query::from_request_parts(parts, state)
            .await
            .map_err(IntoResponse::into_response)?;
        Ok(Self { if_revision, queue })
    }
}

impl Condition {
    /// Refuses at once what cannot be; all else becomes an operation.
    async fn submit(
        self,
        engine: &Arc<Engine>,
        kind: OperationKind,
        tenant: TenantId,
        request: Value,
        peer: &Peer,
    ) -> Accepted {
        let row = engine.database.tenant(tenant.clone()).await?;
        if let Some(expected) = self.if_revision.0 {
            check_revision(&tenant, expected, Some(&row))?;
        }
        let is_by_file = matches!(kind, OperationKind::Remove | OperationKind::Rollback);
        if let (true, Some(file)) = (is_by_file, &row.source) {
            let file = file.clone();
            return Err(defined_by(peer, tenant, file).into());
        }
        if !self.queue.queue {
            engine.refuse_busy(&tenant)?;
        }
        // Where something is at work, the tenant may stand elsewhere by the time it is its turn: asked again then.
        if !engine.is_busy(&tenant) {
            refuse(engine, kind, &request, &row).await?;
        }
        let request = self.if_revision.within(request);
        let operation = asked(kind, Some(tenant), request, peer.actor());
        engine
            .submit_within(peer.bound(), vec![operation.clone()])
            .await?;
        Ok((StatusCode::ACCEPTED, Json(operation)))
    }
}
