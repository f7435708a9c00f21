//! API tokens: make one, list them, revoke one. A token's text is in one answer, once.

use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::{NewToken, Scope, TokenId, TokenName};
use crate::api::Problem;
use crate::api::auth::Peer;
use crate::api::error::ApiResult;
use crate::host::clock;
use crate::reconcile::Engine;
use crate::state::TokenRow;
use crate::tenant::Period;

/// More tokens than this nobody has an eye on.
const MOST: usize = 1000;

/// The routes of this file.
pub fn router() -> OpenApiRouter<Arc<Engine>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(revoke))
}

/// A token: everything but its text, which nobody has but its holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct TokenDetail {
    /// By what it is revoked, and what stands for it in histories.
    #[schema(value_type = String)]
    pub id: TokenId,
    /// What people call it.
    #[schema(value_type = String)]
    pub name: TokenName,
    /// What it is for: `admin`, `operator`, `read` or `tenant:ID`.
    #[schema(value_type = String)]
    pub scope: Scope,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// From when it is no good; never when none.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to within an hour.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used: Option<Timestamp>,
}

impl From<TokenRow> for TokenDetail {
    fn from(row: TokenRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            scope: row.scope,
            created_at: row.created_at,
            created_by: row.created_by,
            expires_at: row.expires_at,
            last_used: row.last_used,
        }
    }
}

/// What token to make.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TokenRequest {
    /// What people call it.
    #[schema(value_type = String)]
    pub name: TokenName,
    /// What it is for: `admin`, `operator`, `read` or `tenant:ID`.
    #[schema(value_type = String)]
    pub scope: Scope,
    /// How long it is good, for example `90d`; for ever when none.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub expires: Option<Period>,
}

/// A new token.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct TokenMade {
    /// Its text. It is kept nowhere and cannot be asked for again.
    pub token: String,
    /// The rest of it.
    #[serde(flatten)]
    pub detail: TokenDetail,
}

/// List tokens; never their texts.
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens",
    responses((status = 200, body = Vec<TokenDetail>)))]
async fn list(State(engine): State<Arc<Engine>>) -> ApiResult<Json<Vec<TokenDetail>>> {
    let tokens = engine.database.tokens().await?;
    Ok(Json(tokens.into_iter().map(TokenDetail::from).collect()))
}

/// Make a token. Its text is in this answer and nowhere else.
#[utoipa::path(post, path = "/v1/tokens", tag = "tokens", request_body = TokenRequest,
    responses((status = 201, body = TokenMade), (status = 400, body = Problem),
              (status = 409, body = Problem)))]
async fn create(
    State(engine): State<Arc<Engine>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Json(request): Json<TokenRequest>,
) -> ApiResult<impl IntoResponse> {
    if engine.database.tokens().await?.len() >= MOST {
        let title = format!("there are {MOST} tokens; revoke some with `tenantd token revoke`");
        return Err(Problem::new("too-many-tokens", StatusCode::CONFLICT, title).into());
    }
    let NewToken { text, hash } = NewToken::make().map_err(|error| {
        Problem::of(
            "no-random-numbers",
            StatusCode::INTERNAL_SERVER_ERROR,
            &error,
        )
    })?;
    let now = clock::now();
    let good_for = |period: Period| SignedDuration::from_secs(period.seconds().into());
    let row = TokenRow {
        id: hash.id(),
        name: request.name,
        scope: request.scope,
        created_at: now,
        created_by: peer.actor(),
        // A period is at most 136 years long.
        expires_at: request
            .expires
            .and_then(|period| now.checked_add(good_for(period)).ok()),
        last_used: None,
    };
    // It refuses one for a tenant that is not there.
    engine.database.create_token(hash, row.clone()).await?;
    let made = TokenMade {
        token: text.expose_secret().to_owned(),
        detail: row.into(),
    };
    let no_store = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok((StatusCode::CREATED, [no_store], Json(made)))
}

/// Revoke a token; it is no good from then on.
#[utoipa::path(delete, path = "/v1/tokens/{token}", tag = "tokens",
    params(("token" = String, Path)),
    responses((status = 200, body = TokenDetail), (status = 404, body = Problem)))]
async fn revoke(
    State(engine): State<Arc<Engine>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(token): Path<TokenId>,
) -> ApiResult<Json<TokenDetail>> {
    let revoked = engine
        .database
        .revoke_token(token.clone(), peer.actor(), clock::now())
        .await?;
    let revoked = revoked.ok_or_else(|| {
        Problem::new(
            "token-unknown",
            StatusCode::NOT_FOUND,
            format!("there is no token {token}; `tenantd token list` shows those there are"),
        )
    })?;
    Ok(Json(revoked.into()))
}
