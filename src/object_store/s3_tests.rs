//! The requests that this client sends, against a small server in the same process; the last test
//! wants a real one, which `tests/appliance/s3.rs` has.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes as Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};

use super::*;
use crate::object_store::{RetryBudget, Retrying, Uploads, contract};

#[derive(Default)]
struct Server {
    objects: BTreeMap<String, Body>,
    /// Answers to give before behaving.
    failures: Vec<StatusCode>,
    requests: Vec<String>,
}

type Shared = Arc<Mutex<Server>>;

async fn serve() -> (Shared, S3Store) {
    let shared = Shared::default();
    let app = Router::new()
        .fallback(answer)
        .route("/bucket", axum::routing::get(list))
        .route("/bucket/", axum::routing::get(list))
        .route("/bucket/{*key}", axum::routing::any(object))
        .with_state(Arc::clone(&shared));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let settings = S3Settings {
        bucket: "bucket".to_owned(),
        prefix: "node/a".to_owned(),
        endpoint: format!("http://{address}").parse().unwrap(),
        region: "test-1".to_owned(),
        path_style: true,
        uploads: Uploads::default(),
        answer_within: S3Settings::ANSWER_WITHIN,
    };
    let keys = S3Keys {
        access_key: "id".into(),
        secret_key: "s3cr3t".into(),
    };
    let store = S3Store::new(&settings, &keys).unwrap();
    (shared, store)
}

async fn answer() -> StatusCode {
    StatusCode::IM_A_TEAPOT
}

async fn object(
    State(server): State<Shared>,
    method: Method,
    Path(key): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let mut server = server.lock().unwrap();
    server.requests.push(format!("{method} {key}"));
    if let Some(status) = server.failures.pop() {
        let error = "<Error><Code>AccessDenied</Code><Message>not for you</Message></Error>";
        return (status, error).into_response();
    }
    assert!(
        headers["authorization"]
            .to_str()
            .unwrap()
            .starts_with("AWS4-HMAC-SHA256")
    );
    match method {
        Method::PUT => {
            server.objects.insert(key, body);
            StatusCode::OK.into_response()
        }
        Method::GET | Method::HEAD => match server.objects.get(&key) {
            None => StatusCode::NOT_FOUND.into_response(),
            Some(bytes) => match headers.get("range") {
                None => bytes.clone().into_response(),
                Some(range) => {
                    let end = range.to_str().unwrap().strip_prefix("bytes=0-").unwrap();
                    let end: usize = end.parse().unwrap();
                    let part = bytes.slice(..bytes.len().min(end + 1));
                    (StatusCode::PARTIAL_CONTENT, part).into_response()
                }
            },
        },
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

/// Lists one object per page, so that the client has to ask again.
async fn list(
    State(server): State<Shared>,
    Query(query): Query<BTreeMap<String, String>>,
) -> String {
    let mut server = server.lock().unwrap();
    server.requests.push("LIST".to_owned());
    let prefix = query.get("prefix").cloned().unwrap_or_default();
    let after = query.get("continuation-token").cloned().unwrap_or_default();
    let mut fitting = server
        .objects
        .iter()
        .filter(|(key, _)| key.starts_with(&prefix) && **key > after);
    let page = fitting.next();
    let more = fitting.next().is_some();
    let contents = page.map_or_else(String::new, |(key, bytes)| {
        format!(
            "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
             <ETag>x</ETag><Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>",
            bytes.len()
        )
    });
    let token = page.filter(|_| more).map_or_else(String::new, |(key, _)| {
        format!("<NextContinuationToken>{key}</NextContinuationToken>")
    });
    format!(
        "<ListBucketResult><Name>bucket</Name><Prefix>{prefix}</Prefix><MaxKeys>1</MaxKeys>\
         <IsTruncated>{more}</IsTruncated>{contents}{token}</ListBucketResult>"
    )
}

#[tokio::test]
async fn objects_are_put_read_found_and_listed() {
    let (server, store) = serve().await;
    store
        .put("p/packs/1", Bytes::from_static(b"one"))
        .await
        .unwrap();
    store
        .put("p/packs/2", Bytes::from_static(b"second"))
        .await
        .unwrap();
    store
        .put("p/trees/3", Bytes::from_static(b"3"))
        .await
        .unwrap();
    assert!(
        server
            .lock()
            .unwrap()
            .objects
            .contains_key("node/a/p/packs/1")
    );
    assert_eq!(store.get("p/packs/1", 3).await.unwrap(), "one");
    assert_eq!(store.get("p/packs/1", 100).await.unwrap(), "one");
    assert_eq!(store.head("p/packs/2").await.unwrap(), Some(6));
    assert_eq!(store.head("p/packs/9").await.unwrap(), None);
    let found = store.list("p/packs/").await.unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|object| (object.name.as_str(), object.size))
        .collect();
    assert_eq!(found, [("p/packs/1", 3), ("p/packs/2", 6)]);
}

#[tokio::test]
async fn errors_have_their_kind_and_say_where() {
    let (server, store) = serve().await;
    store.put("x", Bytes::from_static(b"four")).await.unwrap();
    let large = store.get("x", 3).await.unwrap_err();
    assert_eq!(large.kind, StoreErrorKind::TooLarge { limit: 3 });
    let missing = store.get("y", 3).await.unwrap_err();
    assert_eq!(missing.kind, StoreErrorKind::NotFound);
    assert!(
        missing
            .to_string()
            .contains("\"node/a/y\" in s3://bucket at http://"),
        "{missing}"
    );
    server.lock().unwrap().failures = vec![StatusCode::FORBIDDEN];
    let denied = store.put("x", Bytes::new()).await.unwrap_err();
    assert_eq!(denied.kind, StoreErrorKind::Denied);
    let text = format!("{denied:?} {store:?}");
    assert!(!text.contains("s3cr3t"), "{text}");
    assert_eq!(
        store.put("../x", Bytes::new()).await.unwrap_err().kind,
        StoreErrorKind::BadName
    );
}

#[tokio::test]
async fn an_ordinary_put_is_repeated_and_a_refusal_is_not() {
    let (server, store) = serve().await;
    let budget = RetryBudget {
        first: Duration::from_millis(1),
        longest: Duration::from_millis(2),
        total: Duration::from_secs(20),
    };
    let store = Retrying::new(store, budget);
    let slow_down = StatusCode::SERVICE_UNAVAILABLE;
    server.lock().unwrap().failures = vec![slow_down, slow_down, StatusCode::INTERNAL_SERVER_ERROR];
    store.put("x", Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(
        std::mem::take(&mut server.lock().unwrap().requests).len(),
        4
    );
    server.lock().unwrap().failures = vec![StatusCode::FORBIDDEN];
    assert!(store.put("x", Bytes::from_static(b"x")).await.is_err());
    assert_eq!(server.lock().unwrap().requests.len(), 1);
}

#[tokio::test]
async fn a_store_that_is_not_there_is_unavailable() {
    let (_, mut store) = serve().await;
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    store.courier.bucket.region = Region::Custom {
        region: "x".to_owned(),
        endpoint: format!("http://{address}"),
    };
    let error = store.put("x", Bytes::new()).await.unwrap_err();
    assert!(
        matches!(error.kind, StoreErrorKind::Unavailable { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_given_up() {
    let (_, mut store) = serve().await;
    // Its kernel accepts connections; nobody reads them.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    store.courier.bucket.region = Region::Custom {
        region: "x".to_owned(),
        endpoint: format!("http://{}", silent.local_addr().unwrap()),
    };
    store.courier.answer_within = Duration::from_millis(50);
    let put = store.put("x", Bytes::from_static(b"x")).await.map(drop);
    let get = store.get("x", 100).await.map(drop);
    let head = store.head("x").await.map(drop);
    let list = store.list("x/").await.map(drop);
    for outcome in [put, get, head, list] {
        let error = outcome.unwrap_err();
        assert_eq!(
            error.kind,
            StoreErrorKind::Unavailable { retry_after: None },
            "{error}"
        );
        let cause = error.source.unwrap().to_string();
        assert_eq!(cause, "no answer within 1 s");
    }
}

#[tokio::test]
async fn a_refusal_is_told_in_the_servers_words() {
    let (server, store) = serve().await;
    server.lock().unwrap().failures = vec![StatusCode::FORBIDDEN];
    let error = store.get("x", 100).await.unwrap_err();
    assert_eq!(
        error.source.unwrap().to_string(),
        "the store answered 403 AccessDenied: not for you"
    );
}

/// More than the thousand keys that a server puts into one page.
const SEVERAL_PAGES: usize = 1_050;

#[tokio::test]
#[ignore = "needs a real server: tests/appliance/s3.rs runs it"]
async fn a_real_server_keeps_what_a_store_promises() {
    let given = |name| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let settings = S3Settings {
        bucket: given("TENANTD_S3_BUCKET"),
        prefix: "contract".to_owned(),
        endpoint: given("TENANTD_S3_ENDPOINT").parse().unwrap(),
        region: given("TENANTD_S3_REGION"),
        path_style: true,
        uploads: Uploads::default(),
        answer_within: S3Settings::ANSWER_WITHIN,
    };
    let keys = S3Keys::parse(&given("TENANTD_S3_KEYS")).unwrap();
    let store = S3Store::new(&settings, &keys).unwrap();
    contract::holds(&store, SEVERAL_PAGES).await;
}
