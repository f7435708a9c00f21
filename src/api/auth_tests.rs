//! The real guard before a router that has every route of the contract and answers for it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use axum::Router;
use axum::http::Method;
use axum::routing::{MethodFilter, on};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tower::ServiceExt as _;

use super::*;
use crate::access::{NewToken, RULES};
use crate::reconcile::asked;
use crate::state::{OperationId, OperationKind};

/// Method and path of all routes that there are, by the contract, and the contract itself.
fn contract() -> BTreeSet<(String, String)> {
    let document = serde_json::to_value(crate::api::openapi()).unwrap();
    let mut routes = BTreeSet::from([("GET".to_owned(), "/v1/openapi.json".to_owned())]);
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, what) in methods.as_object().unwrap() {
            if what.get("responses").is_some() {
                routes.insert((method.to_uppercase(), path.clone()));
            }
        }
    }
    routes
}

/// Says who asked, as a route hears it.
async fn reached(ConnectInfo(peer): ConnectInfo<Peer>, headers: HeaderMap, body: String) -> String {
    assert!(
        !headers.contains_key(header::AUTHORIZATION),
        "a route sees the token"
    );
    format!("{} {}", peer.actor(), body.len())
}

/// A router with a guard of its own, which has counted nothing yet.
fn router(database: &Database) -> Router {
    let mut router = Router::new();
    for (method, path) in contract() {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let filter = MethodFilter::try_from(method).unwrap();
        router = router.route(&path, on(filter, reached));
    }
    let guard = Guard::new(database.clone());
    router
        .fallback(crate::api::error::no_route)
        .layer(axum::middleware::from_fn_with_state(guard, super::guard))
}

const STRANGER: Peer = Peer::Remote {
    address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
};

/// A token that is good for an hour, or was for one.
async fn token(database: &Database, scope: &str, expired: bool) -> (SecretString, TokenRow) {
    let NewToken { text, hash } = NewToken::make().unwrap();
    let now = clock::now();
    let hour = SignedDuration::from_hours(1);
    let row = TokenRow {
        id: hash.id(),
        name: "phone".parse().unwrap(),
        scope: scope.parse().unwrap(),
        created_at: now - hour - hour,
        created_by: "root".to_owned(),
        expires_at: Some(if expired { now - hour } else { now + hour }),
        last_used: None,
    };
    if let Scope::Tenant(tenant) = &row.scope {
        let early = jiff::Timestamp::UNIX_EPOCH;
        let made = database.create_tenant(tenant.clone(), None, "root".to_owned(), early);
        made.await.unwrap();
    }
    database.create_token(hash, row.clone()).await.unwrap();
    (text, row)
}

fn request(method: &str, uri: &str, peer: Option<Peer>, token: Option<&SecretString>) -> Request {
    let mut request = Request::builder().method(method).uri(uri);
    if let Some(token) = token {
        let value = format!("Bearer {}", token.expose_secret());
        request = request.header(header::AUTHORIZATION, value);
    }
    let mut request = request.body(Body::empty()).unwrap();
    if let Some(peer) = peer {
        request.extensions_mut().insert(ConnectInfo(peer));
    }
    request
}

async fn status(router: &Router, request: Request) -> StatusCode {
    router.clone().oneshot(request).await.unwrap().status()
}

async fn text(response: Response) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// Whoever adds a route decides here who may ask for it.
#[test]
fn every_route_has_its_rule_and_every_rule_its_route() {
    let rules = RULES
        .iter()
        .map(|(method, path, ..)| ((*method).to_owned(), (*path).to_owned()));
    assert_eq!(rules.collect::<BTreeSet<_>>(), contract());
}

/// An operation of `tenant`, recorded.
async fn operation(database: &Database, tenant: &str) -> OperationId {
    let tenant = Some(tenant.parse().unwrap());
    let operation = asked(OperationKind::Start, tenant, json!({}), "root".to_owned());
    database
        .record_operations(vec![operation.clone()])
        .await
        .unwrap();
    operation.id
}

/// The table of all routes and scopes, as the guard answers: a change of it is a change of what people may do.
#[tokio::test]
async fn who_may_ask_for_what() {
    let database = Database::in_memory();
    let operations = [
        ("acme", operation(&database, "acme").await),
        ("other", operation(&database, "other").await),
    ];
    let mut columns = Vec::new();
    for (scope, about) in [
        ("admin", "other"),
        ("operator", "other"),
        ("read", "other"),
        ("tenant:acme", "acme"),
        ("tenant:acme", "other"),
    ] {
        let (token, _) = token(&database, scope, false).await;
        columns.push((scope, about, token, router(&database)));
    }
    let mut table = String::new();
    for (method, path) in contract() {
        let _ = write!(table, "{method:6} {path:50}");
        for (scope, about, token, router) in &columns {
            let (_, id) = operations
                .iter()
                .find(|(tenant, _)| tenant == about)
                .unwrap();
            let mut uri = path
                .replace("{tenant}", about)
                .replace("{name}", "API_KEY")
                .replace("{revision}", "1")
                .replace("{token}", "0123456789ab")
                .replace("{id}", &id.to_string());
            if path == "/v1/operations" {
                let _ = write!(uri, "?tenant={about}");
            }
            let told =
                match status(router, request(&method, &uri, Some(STRANGER), Some(token))).await {
                    StatusCode::OK if scope.starts_with("tenant:") => format!("{about} yes"),
                    StatusCode::OK => format!("{scope} yes"),
                    StatusCode::FORBIDDEN => "-".to_owned(),
                    other => panic!("{method} {uri} with {scope}: {other}"),
                };
            let _ = write!(table, " {told:12}");
        }
        table.truncate(table.trim_end().len());
        table.push('\n');
    }
    insta::assert_snapshot!(table);
}

#[tokio::test]
async fn without_a_good_token_nothing_is_told_not_even_what_there_is() {
    let database = Database::in_memory();
    let router = router(&database);
    let (good, row) = token(&database, "admin", false).await;
    let (expired, _) = token(&database, "admin", true).await;
    let unknown = NewToken::make().unwrap().text;
    let nonsense = "x".into();
    for uri in [
        "/v1/tenants",
        "/v1/version",
        "/v1/openapi.json",
        "/v1/nothing",
        "/",
    ] {
        for token in [None, Some(&expired), Some(&unknown), Some(&nonsense)] {
            let refused = router
                .clone()
                .oneshot(request("GET", uri, Some(STRANGER), token));
            let refused = refused.await.unwrap();
            assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{uri}");
            assert!(refused.headers().contains_key(header::WWW_AUTHENTICATE));
        }
    }
    let ask = || request("GET", "/v1/tenants", Some(STRANGER), Some(&good));
    assert_eq!(status(&router, ask()).await, StatusCode::OK);
    let lost = request("GET", "/v1/nothing", Some(STRANGER), Some(&good));
    assert_eq!(status(&router, lost).await, StatusCode::NOT_FOUND);

    let mut twice = ask();
    let other = HeaderValue::from_static("Bearer x");
    twice.headers_mut().append(header::AUTHORIZATION, other);
    assert_eq!(status(&router, twice).await, StatusCode::UNAUTHORIZED);

    database
        .revoke_token(row.id, "root".to_owned(), clock::now())
        .await
        .unwrap();
    assert_eq!(status(&router, ask()).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn over_the_unix_socket_nobody_needs_a_token_and_from_nowhere_nobody_comes() {
    let router = router(&Database::in_memory());
    let local = request(
        "GET",
        "/v1/tokens",
        Some(Peer::Local { uid: Some(0) }),
        None,
    );
    assert_eq!(status(&router, local).await, StatusCode::OK);
    let nowhere = request("GET", "/v1/version", None, None);
    assert_eq!(status(&router, nowhere).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_route_hears_who_holds_the_token_and_the_use_of_it_is_noted() {
    let database = Database::in_memory();
    let (token, row) = token(&database, "operator", false).await;
    let asked =
        request("POST", "/v1/apply", Some(STRANGER), Some(&token)).map(|_| Body::from("12345"));
    let answer = router(&database).oneshot(asked).await.unwrap();
    assert_eq!(text(answer).await, format!("token {} (phone) 5", row.id));
    assert!(database.tokens().await.unwrap()[0].last_used.is_some());
}

#[tokio::test]
async fn a_body_has_an_end() {
    let database = Database::in_memory();
    let (token, _) = token(&database, "operator", false).await;
    let long = Body::from(vec![b'x'; MAX_BODY + 1]);
    let asked = request("POST", "/v1/apply", Some(STRANGER), Some(&token)).map(|_| long);
    assert_eq!(
        status(&router(&database), asked).await,
        StatusCode::PAYLOAD_TOO_LARGE
    );
}

#[tokio::test]
async fn a_token_that_is_revoked_while_the_body_comes_does_nothing_any_more() {
    let database = Database::in_memory();
    let (token, row) = token(&database, "operator", false).await;
    let revoking = database.clone();
    let body = futures_util::stream::once(async move {
        revoking
            .revoke_token(row.id, "root".to_owned(), clock::now())
            .await
            .unwrap();
        Ok::<_, std::convert::Infallible>("12345")
    });
    let body = Body::from_stream(body);
    let asked = request("POST", "/v1/apply", Some(STRANGER), Some(&token)).map(|_| body);
    assert_eq!(
        status(&router(&database), asked).await,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn an_owner_is_not_let_in_by_another_spelling() {
    let database = Database::in_memory();
    let router = router(&database);
    let (token, _) = token(&database, "tenant:acme", false).await;
    for uri in [
        "/v1/tenants/%61cme",
        "/v1/tenants/acme%2f",
        "/v1/tenants/other%2f..%2facme/spec",
        "/v1/operations",
        "/v1/operations?tenant=other",
        "/v1/operations?tenant=acme&tenant=other",
        "/v1/operations?tenant=other&tenant=acme",
        "/v1/operations?ten%61nt=other",
        "/v1/operations/nonsense",
        "/v1/operations/00000000-0000-0000-0000-000000000000",
    ] {
        let asked = request("GET", uri, Some(STRANGER), Some(&token));
        assert_eq!(status(&router, asked).await, StatusCode::FORBIDDEN, "{uri}");
    }
}

#[tokio::test]
async fn an_owner_sees_no_operation_of_another_who_had_the_name_before() {
    let database = Database::in_memory();
    let before = operation(&database, "acme").await;
    let later = clock::now() + SignedDuration::from_hours(1);
    let made = database.create_tenant("acme".parse().unwrap(), None, "root".to_owned(), later);
    made.await.unwrap();
    let (token, _) = token(&database, "tenant:acme", false).await;
    let uri = format!("/v1/operations/{before}");
    let asked = request("GET", &uri, Some(STRANGER), Some(&token));
    assert_eq!(
        status(&router(&database), asked).await,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn who_asks_on_and_on_is_told_when_to_come_back() {
    let router = router(&Database::in_memory());
    // So many are served in no time, however slow this machine: far more come than may come in a second.
    for _ in 0..100_000 {
        let answer = router
            .clone()
            .oneshot(request("GET", "/", Some(STRANGER), None))
            .await
            .unwrap();
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            assert!(answer.headers().contains_key(header::RETRY_AFTER));
            return;
        }
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    }
    panic!("nobody was told to wait");
}
