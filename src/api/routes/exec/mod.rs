//! A command inside a tenant's container: who may ask, how it is started, what is recorded.
//! How it is carried over the connection that asked for it is in `carry`.

mod carry;

use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, FromRequest, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::Problem;
use crate::api::auth::Peer;
use crate::api::error::ApiResult;
use crate::api::frames::PROTOCOL;
use crate::host::clock;
use crate::host::podman::{Exec, ExecRequest as Order, PodmanError};
use crate::layout::UnitNames;
use crate::reconcile::Engine;
use crate::state::AuditEntry;
use crate::tenant::TenantId;

use carry::{GRACE, carry, see_off};

/// The routes of this file.
pub fn router() -> OpenApiRouter<Arc<Engine>> {
    OpenApiRouter::new().routes(routes!(exec))
}

/// A command to run inside a tenant's container.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ExecRequest {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Whether the command gets input.
    #[serde(default)]
    pub interactive: bool,
    /// The terminal that the command gets; none for plain pipes.
    #[serde(default)]
    pub terminal: Option<Terminal>,
}

/// A terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Terminal {
    /// Its kind, as in `$TERM`.
    pub kind: Option<String>,
    /// Its height, in characters.
    pub rows: u16,
    /// Its width, in characters.
    pub columns: u16,
}

/// Run a command in a tenant's container. The connection becomes one of `tenantd-exec`:
/// frames of a byte of kind, four bytes of length and the content, both ways.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/exec", tag = "tenants",
    params(("tenant" = String, Path)), request_body = ExecRequest,
    responses((status = 101, description = "the connection carries the command"),
              (status = 404, body = Problem), (status = 409, body = Problem),
              (status = 426, body = Problem)))]
async fn exec(
    State(engine): State<Arc<Engine>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(tenant): Path<TenantId>,
    mut request: Request,
) -> ApiResult<Response> {
    engine.database.tenant(tenant.clone()).await?;
    let upgrade = upgrade_of(&mut request).ok_or_else(|| {
        Problem::new(
            "upgrade-required",
            StatusCode::UPGRADE_REQUIRED,
            format!("a command is carried over the connection: send `Upgrade: {PROTOCOL}`"),
        )
    })?;
    let order = read_order(request).await?;
    let terminal = order.terminal.clone();
    // What follows the program's name can hold secrets.
    let program = order.command.first().cloned();
    let running = start(&engine, &tenant, order).await?;
    if let Some(terminal) = terminal
        && let Err(error) = running
            .control
            .resize(terminal.rows, terminal.columns)
            .await
    {
        tracing::debug!(error = &error as &dyn std::error::Error, "no first size");
    }
    let entry = AuditEntry::of_tenant(tenant.clone(), peer.actor(), clock::now(), "exec", program);
    engine.database.audit(entry).await?;
    tokio::spawn(async move {
        match upgrade.await {
            Ok(connection) => {
                let (output, input) = (running.output, running.input);
                carry(TokioIo::new(connection), output, input, &running.control).await;
            }
            Err(error) => {
                tracing::warn!(%tenant, error = &error as &dyn std::error::Error, "exec: no upgrade");
                see_off(&running.control, GRACE).await;
            }
        }
    });
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, PROTOCOL)];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

/// The connection of a request that asks for our protocol.
fn upgrade_of(request: &mut Request) -> Option<OnUpgrade> {
    let asked = request.headers().get(header::UPGRADE);
    let asked = asked.is_some_and(|value| value.as_bytes() == PROTOCOL.as_bytes());
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    upgrade.filter(|_| asked)
}

async fn read_order(request: Request) -> Result<ExecRequest, Problem> {
    let invalid = |text: String| Problem::new("request-invalid", StatusCode::BAD_REQUEST, text);
    let Json(order) = Json::<ExecRequest>::from_request(request, &())
        .await
        .map_err(|rejection| invalid(rejection.body_text()))?;
    if order.command.is_empty() {
        return Err(invalid("no command was given".to_owned()));
    }
    Ok(order)
}

/// Starts the command in the tenant's container.
async fn start(engine: &Engine, tenant: &TenantId, order: ExecRequest) -> Result<Exec, Problem> {
    let kind = order.terminal.as_ref().and_then(|t| t.kind.clone());
    let podman_order = Order {
        command: order.command,
        terminal: order.terminal.is_some(),
        input: order.interactive,
        environment: kind
            .map(|kind| format!("TERM={kind}"))
            .into_iter()
            .collect(),
        ..Order::default()
    };
    let container = UnitNames(tenant).container();
    let started = engine.podman.exec(&container, podman_order).await;
    started.map_err(|error| refused(tenant, &error))
}

/// A container that is not there, or does not run, is a matter of how the tenant stands.
fn refused(tenant: &TenantId, error: &PodmanError) -> Problem {
    let not_running = error.is_absent()
        || matches!(
            error,
            PodmanError::Refused {
                status: Some(409),
                ..
            }
        );
    if not_running {
        return Problem {
            causes: vec![error.to_string()],
            ..Problem::new(
                "agent-not-running",
                StatusCode::CONFLICT,
                format!(
                    "tenant {tenant}: its agent does not run; `tenantd start {tenant}` starts it"
                ),
            )
        };
    }
    Problem::of("exec-failed", StatusCode::BAD_GATEWAY, error)
}
