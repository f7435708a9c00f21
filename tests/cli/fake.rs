//! A daemon that answers what a test tells it to.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use assert_cmd::Command;
use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::runtime::Runtime;

/// A daemon on a socket of its own; ends with the value.
pub struct Fake {
    dir: TempDir,
    _runtime: Runtime,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    /// Serves `router` and remembers what it was asked.
    pub fn serving(router: Router) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = Runtime::new().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let router = router.layer(from_fn(move |request: Request, next: Next| {
            log.lock()
                .unwrap()
                .push(format!("{} {}", request.method(), request.uri()));
            next.run(request)
        }));
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(dir.path().join("api.sock")).unwrap()
        };
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self {
            dir,
            _runtime: runtime,
            asked,
        }
    }

    /// `tenantd` with these arguments, against this daemon.
    pub fn tenantd(&self, arguments: &[&str]) -> Command {
        let mut command = tenantd(arguments);
        command.env("TENANTD_SOCKET", self.socket());
        command
    }

    /// Where it listens.
    pub fn socket(&self) -> String {
        let path = self.dir.path().join("api.sock");
        path.to_str().unwrap().to_owned()
    }

    /// A file beside the socket.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Every request, as `GET /v1/tenants`.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// `tenantd` with these arguments and no daemon.
pub fn tenantd(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenantd"));
    command
        .args(arguments)
        .env("TENANTD_SOCKET", "/nonexistent/api.sock")
        .env_remove("COLUMNS")
        .env("TZ", "UTC");
    command
}

/// A problem as the daemon sends it.
pub fn problem(code: &str, status: u16, title: &str) -> Value {
    json!({ "code": code, "status": status, "title": title })
}

/// A refusal.
pub fn refuse(code: &str, status: u16, title: &str) -> Response {
    let kind = [("content-type", "application/problem+json")];
    let body = problem(code, status, title).to_string();
    let status = StatusCode::from_u16(status).unwrap();
    (status, kind, Bytes::from(body)).into_response()
}

/// An operation at a step, or at its end.
pub fn operation(id: u8, kind: &str, tenant: &str, status: &str) -> Value {
    json!({
        "id": id_of(id),
        "kind": kind,
        "tenant": tenant,
        "request": {},
        "actor": "root",
        "status": status,
        "step": null,
        "outcome": null,
        "started-at": "2026-05-04T12:00:00Z",
        "finished-at": (status != "running").then_some("2026-05-04T12:00:03.2Z"),
    })
}

/// The id of operation `id`.
pub fn id_of(id: u8) -> String {
    format!("01890000-0000-7000-8000-0000000000{id:02}")
}

/// Operations that go one step on with each question.
#[derive(Clone, Default)]
pub struct Stages(Arc<Mutex<HashMap<String, Vec<Value>>>>);

impl Stages {
    /// Gives operation `id` these answers, one after the other; the last stays.
    pub fn add(&self, id: u8, answers: Vec<Value>) {
        self.0.lock().unwrap().insert(id_of(id), answers);
    }

    /// The next answer for an operation.
    pub fn next(&self, id: &str) -> Value {
        let mut stages = self.0.lock().unwrap();
        let answers = stages.get_mut(id).unwrap();
        if answers.len() > 1 {
            answers.remove(0)
        } else {
            answers[0].clone()
        }
    }
}

/// `document` with `value` under `key`.
pub fn with(mut document: Value, key: &str, value: impl Into<Value>) -> Value {
    document[key] = value.into();
    document
}
