//! The HTTP API, on a Unix socket and where asked for over TCP: routes, authentication, events, `OpenAPI`.
//! It translates requests into operations and never touches the host itself.

mod auth;
mod egress;
mod error;
mod evidence;
pub mod frames;
mod owner;
mod patience;
mod precondition;
mod problem;
mod resources;
mod routes;
pub mod server;
mod sleep;
mod spending;
pub mod tcp;
mod tls;
mod usage;

use std::sync::Arc;

use axum::Router;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

pub use egress::{EgressAddress, EgressDecision, EgressFigures, EgressReport, EgressVerdict};
pub use evidence::{Evidence, JobEvidence, JournalLine, ProbeAttempt};
pub use problem::Problem;
pub use resources::*;
pub use routes::exec::{ExecRequest, Terminal};
pub use routes::front::SnippetText;
pub use routes::logs::LogLine;
pub use routes::node::{ReloadReport, Version};
pub use routes::secrets::{SecretChange, SecretDetail, SecretRevealed, SecretVersionDetail};
pub use routes::sleep::SleepAnswer;
pub use routes::tokens::{TokenDetail, TokenMade, TokenRequest};
pub use sleep::{SleepSummary, SleepTier};
pub use spending::{SpendingLimits, SpendingLine, SpendingReport};
pub use usage::{Promised, StorageUsage, TenantUsage, UsageReport};

use crate::reconcile::Engine;

#[derive(OpenApi)]
#[openapi(info(
    title = "tenantd",
    description = "One AI agent per tenant under systemd and Podman, backed up and restored. \
                   What takes long answers 202 with an operation; errors are \
                   application/problem+json with a stable code.",
    license(name = "Apache-2.0")
))]
struct Contract;

fn routes() -> OpenApiRouter<Arc<Engine>> {
    OpenApiRouter::with_openapi(Contract::openapi())
        .merge(routes::tenants::router())
        .merge(routes::usage::router())
        .merge(routes::egress::router())
        .merge(routes::spending::router())
        .merge(routes::revisions::router())
        .merge(routes::secrets::router())
        .merge(routes::logs::router())
        .merge(routes::exec::router())
        .merge(routes::sleep::router())
        .merge(routes::front::router())
        .merge(routes::backups::router())
        .merge(routes::operations::router())
        .merge(routes::node::router())
        .merge(routes::catalog::router())
        .merge(routes::tokens::router())
}

/// The router of all routes, behind the guard that knows who may ask for what.
pub fn router(engine: Arc<Engine>) -> Router {
    let (router, document) = routes().split_for_parts();
    let document = Arc::new(document);
    let guard = auth::Guard::new(engine.database.clone());
    router
        .route(
            "/v1/openapi.json",
            axum::routing::get(move || {
                let document = Arc::clone(&document);
                async move { axum::Json((*document).clone()) }
            }),
        )
        .fallback(error::no_route)
        .layer(axum::middleware::from_fn_with_state(guard, auth::guard))
        .with_state(engine)
}

/// The `OpenAPI` document, as committed under `docs/`.
pub fn openapi() -> utoipa::openapi::OpenApi {
    routes().split_for_parts().1
}

#[cfg(test)]
mod tests {
    /// `TENANTD_REGENERATE=1 cargo test --lib contract` writes the file anew.
    #[test]
    fn the_committed_contract_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
        let mut text = super::openapi().to_pretty_json().unwrap();
        text.push('\n');
        if std::env::var_os("TENANTD_REGENERATE").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap();
        assert!(committed == text, "{path} is not current");
    }
}
