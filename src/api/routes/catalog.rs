//! Templates and plans, whole and with where they come from.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::CatalogEntry;
use crate::reconcile::Engine;

/// The routes of this file.
pub fn router() -> OpenApiRouter<Arc<Engine>> {
    OpenApiRouter::new()
        .routes(routes!(templates))
        .routes(routes!(plans))
}

/// List templates.
#[utoipa::path(get, path = "/v1/templates", tag = "catalog",
    responses((status = 200, body = Vec<CatalogEntry>)))]
async fn templates(State(engine): State<Arc<Engine>>) -> Json<Vec<CatalogEntry>> {
    let catalog = engine.catalog();
    let entries = catalog.templates().map(|template| CatalogEntry {
        name: template.name.clone(),
        description: template.description.clone(),
        text: catalog
            .template_text(&template.name)
            .unwrap_or_default()
            .to_owned(),
    });
    Json(entries.collect())
}

/// List plans.
#[utoipa::path(get, path = "/v1/plans", tag = "catalog",
    responses((status = 200, body = Vec<CatalogEntry>)))]
async fn plans(State(engine): State<Arc<Engine>>) -> Json<Vec<CatalogEntry>> {
    let catalog = engine.catalog();
    let entries = catalog.plans().map(|plan| CatalogEntry {
        name: plan.name.clone(),
        description: plan.description.clone(),
        text: catalog.plan_text(&plan.name).unwrap_or_default().to_owned(),
    });
    Json(entries.collect())
}
