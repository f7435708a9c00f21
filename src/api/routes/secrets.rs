//! Secrets of tenants: list, set, rotate, remove. A value comes in as a request's body and never leaves.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use secrecy::SecretBox;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::Problem;
use crate::api::auth::Peer;
use crate::api::error::ApiResult;
use crate::api::precondition::IfRevision;
use crate::host::credentials::SecretValue;
use crate::reconcile::{ApplyJob, Engine, asked};
use crate::state::{Operation, OperationKind};
use crate::tenant::{MAX_SECRET, SecretName, TenantId};

/// The routes of this file.
pub fn router() -> OpenApiRouter<Arc<Engine>> {
    OpenApiRouter::new()
        .routes(routes!(list_all))
        .routes(routes!(list))
        .routes(routes!(set, remove))
        .routes(routes!(rotate))
        .routes(routes!(reveal))
        // One byte more, so that what is too long is refused in words.
        .layer(DefaultBodyLimit::max(MAX_SECRET + 1))
}

/// A secret: everything but its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SecretDetail {
    /// Whose it is.
    pub tenant: String,
    /// Its name.
    pub name: String,
    /// The newest version, which the next apply uses.
    pub newest: u32,
    /// The version that the installed revision runs with.
    pub in_use: Option<u32>,
    /// The installed revision, if it has this secret.
    pub revision: Option<u64>,
    /// The agent's file below `/run/secrets`.
    pub file: Option<String>,
    /// The agent's variable.
    pub env: Option<String>,
    /// All versions that are kept, the oldest first.
    pub versions: Vec<SecretVersionDetail>,
}

/// One version of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SecretVersionDetail {
    /// Its number.
    pub version: u32,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub made_at: Timestamp,
    /// Who made it.
    pub actor: String,
    /// Where its value came from: `given`, `generated (hex32)`, or the reference.
    pub source: String,
    /// A revision ran with it, so it is kept.
    pub of_a_revision: bool,
}

/// What a change of a secret did.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SecretChange {
    /// The secret as it is now.
    pub secret: SecretDetail,
    /// The operation that brings the new version in, where that was asked for and a tenant is there.
    pub operation: Option<Operation>,
}

/// Which version may be shown.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SecretRevealed {
    /// Its number; the value is not here.
    pub version: u32,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ChangeParams {
    /// Apply the tenant's spec again, so that its agent runs with the new version.
    #[serde(default)]
    apply: bool,
}

/// List the secrets of all tenants; never their values.
#[utoipa::path(get, path = "/v1/secrets", tag = "secrets",
    responses((status = 200, body = Vec<SecretDetail>)))]
async fn list_all(State(engine): State<Arc<Engine>>) -> ApiResult<Json<Vec<SecretDetail>>> {
    Ok(Json(engine.secrets(None).await?))
}

/// List a tenant's secrets; never their values.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/secrets", tag = "secrets",
    params(("tenant" = String, Path)), responses((status = 200, body = Vec<SecretDetail>)))]
async fn list(
    State(engine): State<Arc<Engine>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(tenant): Path<TenantId>,
) -> ApiResult<Json<Vec<SecretDetail>>> {
    Ok(Json(shown(&peer, engine.secrets(Some(&tenant)).await?)))
}

/// Give a secret a new value: the body's bytes as they are, 1 to 65536. The tenant need not be there yet.
#[utoipa::path(put, path = "/v1/tenants/{tenant}/secrets/{name}", tag = "secrets",
    params(("tenant" = String, Path), ("name" = String, Path), ChangeParams),
    request_body(content = String, content_type = "application/octet-stream"),
    responses((status = 200, body = SecretChange), (status = 400, body = Problem),
              (status = 409, body = Problem)))]
async fn set(
    State(engine): State<Arc<Engine>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path((tenant, name)): Path<(TenantId, SecretName)>,
    Query(params): Query<ChangeParams>,
    body: Bytes,
) -> ApiResult<Json<SecretChange>> {
    let actor = peer.actor();
    if params.apply {
        engine.refuse_beyond(peer.bound(), &tenant)?;
    }
    let secret = engine
        .set_secret(&tenant, &name, value(body), &actor)
        .await?;
    changed(&engine, tenant, secret, params, &peer).await
}

/// Give a secret another value: made or asked for once more where it is generated or a reference, else the body's.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/secrets/{name}/rotate", tag = "secrets",
    params(("tenant" = String, Path), ("name" = String, Path), ChangeParams),
    request_body(content = String, content_type = "application/octet-stream"),
    responses((status = 200, body = SecretChange), (status = 400, body = Problem),
              (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn rotate(
    State(engine): State<Arc<Engine>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path((tenant, name)): Path<(TenantId, SecretName)>,
    Query(params): Query<ChangeParams>,
    body: Bytes,
) -> ApiResult<Json<SecretChange>> {
    let actor = peer.actor();
    if params.apply {
        engine.refuse_beyond(peer.bound(), &tenant)?;
    }
    let given = (!body.is_empty()).then(|| value(body));
    let secret = engine.rotate_secret(&tenant, &name, given, &actor).await?;
    changed(&engine, tenant, secret, params, &peer).await
}

/// Remove a secret with all its versions.
#[utoipa::path(delete, path = "/v1/tenants/{tenant}/secrets/{name}", tag = "secrets",
    params(("tenant" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = Vec<SecretDetail>), (status = 404, body = Problem),
              (status = 409, body = Problem)))]
async fn remove(
    State(engine): State<Arc<Engine>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path((tenant, name)): Path<(TenantId, SecretName)>,
) -> ApiResult<Json<Vec<SecretDetail>>> {
    engine.remove_secret(&tenant, &name, &peer.actor()).await?;
    Ok(Json(shown(&peer, engine.secrets(Some(&tenant)).await?)))
}

/// Record that root is about to read a value on the host, and say which version is in use. The value is not sent.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/secrets/{name}/reveal", tag = "secrets",
    params(("tenant" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = SecretRevealed), (status = 404, body = Problem)))]
async fn reveal(
    State(engine): State<Arc<Engine>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path((tenant, name)): Path<(TenantId, SecretName)>,
) -> ApiResult<(StatusCode, Json<SecretRevealed>)> {
    let version = engine.reveal_secret(&tenant, &name, &peer.actor()).await?;
    let revealed = SecretRevealed { version: version.0 };
    Ok((StatusCode::OK, Json(revealed)))
}

/// Secrets as `peer` may see them: where the host asks for a value is no business of a tenant's owner.
fn shown(peer: &Peer, mut secrets: Vec<SecretDetail>) -> Vec<SecretDetail> {
    if peer.owned().is_some() {
        let versions = secrets.iter_mut().flat_map(|secret| &mut secret.versions);
        for version in versions.filter(|version| version.source.contains(':')) {
            "reference".clone_into(&mut version.source);
        }
    }
    secrets
}

/// Takes the body over without a copy where nobody else has it.
fn value(body: Bytes) -> SecretValue {
    SecretBox::new(Box::new(Vec::from(body)))
}

/// Brings a new version in, where that is asked for: by an apply of the spec as it is.
async fn changed(
    engine: &Arc<Engine>,
    tenant: TenantId,
    secret: SecretDetail,
    params: ChangeParams,
    peer: &Peer,
) -> ApiResult<Json<SecretChange>> {
    let mut operation = None;
    if params.apply
        && secret.revision.is_some()
        && let Some(row) = engine.database.find_tenant(tenant.clone()).await?
    {
        let job = ApplyJob {
            name: format!("the spec of {tenant}"),
            spec: engine.spec(&tenant).await?.text,
            message: format!("secret {} version {}", secret.name, secret.newest),
            source: row.source,
            pull: false,
            force: false,
        };
        // An owner must not undo by it what the operator applies meanwhile.
        let bound = peer.owned().and(secret.revision);
        let request = IfRevision(bound).within(json!(job));
        let kind = OperationKind::Apply;
        let apply = asked(kind, Some(tenant), request, peer.actor());
        engine
            .submit_within(peer.bound(), vec![apply.clone()])
            .await?;
        operation = Some(apply);
    }
    let secret = shown(peer, vec![secret]).remove(0);
    Ok(Json(SecretChange { secret, operation }))
}
