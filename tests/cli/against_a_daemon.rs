//! Commands against a daemon: what they ask, what they show, how they end.

use std::sync::{Arc, Mutex};

use axum::extract::{Path, Query, Request};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use futures_util::{SinkExt, StreamExt};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tenantd::api::frames::{Frame, Frames, PROTOCOL};
use tokio_util::codec::Framed;

use crate::fake::{Fake, Stages, operation, problem, refuse, with};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn tenants() -> Value {
    let tenant = json!({
        "id": "acme", "state": "running", "reason": null, "wanted": "running",
        "template": "openclaw", "plan": "pro", "image": "localhost/openclaw:1", "revision": 3,
        "since": "2020-01-01T00:00:00Z", "last-backup": null, "unenforced": ["memory"],
        "a-field-of-a-later-version": true,
    });
    json!([tenant])
}

/// Serves `stages` under `/v1/operations/{id}`.
fn operations(stages: &Stages) -> Router {
    let stages = stages.clone();
    Router::new().route(
        "/v1/operations/{id}",
        get(move |Path(id): Path<String>| async move { Json(stages.next(&id)) }),
    )
}

#[test]
fn list_is_a_table_or_the_document_unchanged() {
    let fake = Fake::serving(Router::new().route("/v1/tenants", get(async || Json(tenants()))));
    let assert = fake.tenantd(&["list"]).assert().success();
    let table = text(&assert.get_output().stdout);
    assert!(table.starts_with("TENANT"), "{table}");
    assert!(table.contains("not limited: memory"), "{table}");
    assert!(!table.contains('\u{1b}'), "no colours into a pipe");

    let assert = fake.tenantd(&["list", "--json"]).assert().success();
    let printed: Value = serde_json::from_slice(&assert.get_output().stdout).unwrap();
    assert_eq!(printed, tenants());
}

#[test]
fn an_unknown_tenant_ends_with_4() {
    let router = Router::new().route(
        "/v1/tenants/{id}",
        get(async || refuse("tenant-unknown", 404, "there is no tenant acme")),
    );
    Fake::serving(router)
        .tenantd(&["show", "acme"])
        .assert()
        .code(4)
        .stderr("error: there is no tenant acme\n");
}

#[test]
fn an_answer_that_is_no_problem_document_is_shown_as_it_is() {
    let fake = Fake::serving(Router::new());
    let assert = fake.tenantd(&["list"]).assert().code(4);
    let said = text(&assert.get_output().stderr);
    assert!(
        said.contains("tenantd refused the request (404 Not Found)"),
        "{said}"
    );
}

/// `apply` of two specs: one tenant comes up, the other does not.
fn applying() -> (Fake, Arc<Mutex<Value>>) {
    let stages = Stages::default();
    let acme = |status| operation(1, "apply", "acme", status);
    stages.add(
        1,
        vec![
            with(acme("running"), "step", "checking the units"),
            with(acme("running"), "step", "starting the agent"),
            with(acme("succeeded"), "step", "starting the agent"),
        ],
    );
    let mut outcome = problem("not-healthy", 500, "tenant beta: the agent does not answer");
    outcome["log"] = json!(["listening on 1", "panic"]);
    stages.add(
        2,
        vec![with(
            operation(2, "apply", "beta", "failed"),
            "outcome",
            outcome,
        )],
    );
    let received = Arc::new(Mutex::new(Value::Null));
    let kept = Arc::clone(&received);
    let apply = post(move |Json(request): Json<Value>| async move {
        let dry = request["dry-run"] == true;
        *kept.lock().unwrap() = request;
        let plan = |tenant: &str, change: &str, operation: Option<Value>| {
            let operation = operation.filter(|_| !dry);
            json!({ "tenant": tenant, "change": change, "files": ["/etc/x"], "operation": operation })
        };
        Json(json!([
            plan(
                "acme",
                "create",
                Some(operation(1, "apply", "acme", "running"))
            ),
            plan(
                "beta",
                "update",
                Some(operation(2, "apply", "beta", "running"))
            ),
            plan("gamma", "none", None),
        ]))
    });
    let fake = Fake::serving(operations(&stages).route("/v1/apply", apply));
    (fake, received)
}

#[test]
fn apply_follows_all_operations_and_ends_with_what_failed() {
    let (fake, received) = applying();
    let a = fake.file("a.toml", "one");
    let b = fake.file("b.toml", "two");
    let arguments = [
        "apply",
        b.to_str().unwrap(),
        a.to_str().unwrap(),
        "-m",
        "why",
    ];
    let assert = fake.tenantd(&arguments).assert().code(7);
    let output = assert.get_output();
    insta::assert_snapshot!(text(&output.stdout), @r"
    TENANT  CHANGE  RESULT
    acme    create  applied in 3.2 s
    beta    update  failed after 3.2 s
    gamma   none    as it should be
    3 tenants: 1 applied, 1 unchanged, 1 failed
    ");
    // The two tenants' lines mix as they come; each one's own are in order.
    let said = text(&output.stderr);
    let of = |tenant: &str| {
        let lines = said.lines().filter(|line| line.starts_with(tenant));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        of("acme"),
        [
            "acme: checking the units",
            "acme: starting the agent",
            "acme: applied in 3.2 s"
        ]
    );
    assert_eq!(of("beta"), ["beta: failed after 3.2 s"]);
    let (_, report) = said.split_at(said.find("error").unwrap());
    insta::assert_snapshot!(report, @r"
    error: tenant beta: the agent does not answer
      its last log lines:
      | listening on 1
      | panic
    1 of 3 failed
    ");
    let received = received.lock().unwrap();
    let texts: Vec<_> = received["documents"].as_array().unwrap().iter().collect();
    assert_eq!(
        (&texts[0]["text"], &texts[1]["text"]),
        (&json!("two"), &json!("one"))
    );
    assert_eq!(received["message"], "why");
    let asked = fake.asked();
    assert!(
        asked
            .iter()
            .any(|one| one.ends_with("?wait=30s&after-step=checking%20the%20units")),
        "{asked:?}"
    );
}

#[test]
fn a_dry_run_follows_nothing() {
    let (fake, received) = applying();
    let assert = fake
        .tenantd(&["apply", "--dry-run", "-"])
        .write_stdin("from a pipe")
        .assert()
        .success()
        .stderr("");
    insta::assert_snapshot!(text(&assert.get_output().stdout), @r"
    acme would be created
      writes /etc/x
    beta would be updated
      writes /etc/x
    gamma would not change
      writes /etc/x
    ");
    assert_eq!(fake.asked(), ["POST /v1/apply"]);
    let received = received.lock().unwrap();
    assert_eq!(received["documents"][0]["name"], "standard input");
    assert_eq!(received["documents"][0]["text"], "from a pipe");
}

#[test]
fn an_invalid_spec_ends_with_3_and_shows_each_fault() {
    let apply = post(async || {
        let mut problem = problem("spec-invalid", 400, "1 of the documents given is not valid");
        problem["faults"] = json!(["a.toml:1:1: unknown key `imgae`; did you mean `image`?"]);
        (axum::http::StatusCode::BAD_REQUEST, Json(problem))
    });
    let fake = Fake::serving(Router::new().route("/v1/apply", apply));
    let path = fake.file("a.toml", "imgae = 1");
    let assert = fake
        .tenantd(&["apply", path.to_str().unwrap()])
        .assert()
        .code(3);
    insta::assert_snapshot!(text(&assert.get_output().stderr), @r"
    error: 1 of the documents given is not valid
      a.toml:1:1: unknown key `imgae`; did you mean `image`?
    ");
}

#[test]
fn one_refusal_does_not_keep_the_other_tenants() {
    let stages = Stages::default();
    stages.add(1, vec![operation(1, "stop", "acme", "succeeded")]);
    let stop = post(async |Path(tenant): Path<String>| -> Response {
        if tenant == "acme" {
            Json(operation(1, "stop", "acme", "running")).into_response()
        } else {
            refuse(
                "tenant-suspended",
                409,
                "tenant beta is suspended (billing)",
            )
        }
    });
    let fake = Fake::serving(operations(&stages).route("/v1/tenants/{id}/stop", stop));
    let assert = fake.tenantd(&["stop", "beta", "acme"]).assert().code(5);
    insta::assert_snapshot!(text(&assert.get_output().stderr), @r"
    acme: stopped in 3.2 s
    error: tenant beta is suspended (billing)
    1 of 2 failed
    ");
}

#[test]
fn suspend_sends_its_reason_and_remove_its_purge() {
    let stages = Stages::default();
    stages.add(1, vec![operation(1, "suspend", "acme", "succeeded")]);
    stages.add(2, vec![operation(2, "remove", "acme", "succeeded")]);
    let suspend = post(async |Json(request): Json<Value>| -> Response {
        assert_eq!(request, json!({ "reason": "billing" }));
        Json(operation(1, "suspend", "acme", "running")).into_response()
    });
    let remove = delete(async |Query(query): Query<Vec<(String, String)>>| {
        let said = [("purge", "true"), ("keep_backups", "false")];
        assert_eq!(
            query,
            said.map(|(key, value)| (key.to_owned(), value.to_owned()))
        );
        Json(operation(2, "remove", "acme", "running"))
    });
    let router = operations(&stages)
        .route("/v1/tenants/acme/suspend", suspend)
        .route("/v1/tenants/acme", remove);
    let fake = Fake::serving(router);
    fake.tenantd(&["suspend", "acme", "--reason", "billing"])
        .assert()
        .success()
        .stderr("acme: suspended in 3.2 s\n");
    fake.tenantd(&["remove", "acme", "--purge", "--yes"])
        .assert()
        .success()
        .stderr("acme: removed in 3.2 s\n");
}

#[test]
fn a_failed_check_ends_with_1() {
    let checks = json!([
        { "check": "systemd", "verdict": "ok", "finding": "257", "remedy": null },
        { "check": "swap", "verdict": "failed", "finding": "not encrypted", "remedy": "use zram" },
    ]);
    let fake = Fake::serving(Router::new().route("/v1/doctor", get(async || Json(checks))));
    let assert = fake.tenantd(&["doctor"]).assert().code(1);
    insta::assert_snapshot!(text(&assert.get_output().stdout), @r"
    ok       systemd  257
    failed   swap     not encrypted
                      remedy: use zram
    ");
}

#[test]
fn what_a_key_could_do_to_the_store_is_told_with_what_to_do() {
    let checks = json!([{
        "check": "key", "verdict": "warning", "finding": "this key could destroy history",
        "remedy": "give this host another",
    }]);
    let router = Router::new().route("/v1/doctor/store", post(async || Json(checks)));
    let fake = Fake::serving(router);
    let assert = fake.tenantd(&["doctor", "--store"]).assert().success();
    insta::assert_snapshot!(text(&assert.get_output().stdout), @r"
    warning  key  this key could destroy history
                  remedy: give this host another
    ");
}

#[test]
fn a_log_is_printed_line_by_line() {
    const LINES: &str = concat!(
        r#"{"at":"2026-05-04T11:57:00Z","message":"one","priority":6}"#,
        "\n",
        r#"{"at":"2026-05-04T11:57:01.9Z","message":"two","priority":null}"#,
        "\n"
    );
    let fake = Fake::serving(Router::new().route("/v1/tenants/acme/logs", get(async || LINES)));
    fake.tenantd(&["logs", "acme", "-n", "2"])
        .assert()
        .success()
        .stdout("2026-05-04 11:57:00 one\n2026-05-04 11:57:01 two\n");
    fake.tenantd(&["logs", "acme", "--json"])
        .assert()
        .success()
        .stdout(LINES);
    assert_eq!(
        fake.asked()[0],
        "GET /v1/tenants/acme/logs?lines=2&follow=false"
    );
}

/// Answers with its input, then with the command on standard error, then with code 42.
async fn echo(mut request: Request) -> Response {
    let upgrade = hyper::upgrade::on(&mut request);
    let body = axum::body::to_bytes(request.into_body(), 4096).await;
    let order: Value = serde_json::from_slice(&body.unwrap()).unwrap();
    tokio::spawn(async move {
        let connection = TokioIo::new(upgrade.await.unwrap());
        let mut frames = Framed::new(connection, Frames);
        if order["interactive"] == true {
            while let Some(Ok(Frame::Stdin(bytes))) = frames.next().await {
                frames.send(Frame::Stdout(bytes)).await.unwrap();
            }
        }
        let command = order["command"].to_string();
        frames.send(Frame::Stderr(command.into())).await.unwrap();
        frames.send(Frame::Exit(42)).await.unwrap();
    });
    let headers = [("connection", "upgrade"), ("upgrade", PROTOCOL)];
    (axum::http::StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

#[test]
fn exec_carries_pipes_and_passes_the_code_on() {
    let fake = Fake::serving(Router::new().route("/v1/tenants/acme/exec", post(echo)));
    fake.tenantd(&["exec", "-i", "acme", "--", "cat", "-n"])
        .write_stdin("a line\nand another")
        .assert()
        .code(42)
        .stdout("a line\nand another")
        .stderr(r#"["cat","-n"]"#);
    // Without -i, input is left alone.
    fake.tenantd(&["exec", "acme", "--", "true"])
        .write_stdin("unread")
        .assert()
        .code(42)
        .stdout("");
}

#[test]
fn exec_carries_more_than_fits_a_frame() {
    let fake = Fake::serving(Router::new().route("/v1/tenants/acme/exec", post(echo)));
    let long = vec![b'x'; 300_000];
    fake.tenantd(&["exec", "-i", "acme", "--", "cat"])
        .write_stdin(long.clone())
        .assert()
        .code(42)
        .stdout(long);
}

#[test]
fn exec_in_an_agent_that_does_not_run_ends_with_5() {
    let refused = post(async || refuse("agent-not-running", 409, "tenant acme: it does not run"));
    let fake = Fake::serving(Router::new().route("/v1/tenants/acme/exec", refused));
    fake.tenantd(&["exec", "acme", "--", "true"])
        .assert()
        .code(5)
        .stderr("error: tenant acme: it does not run\n");
}

#[test]
fn reload_reports_specs_that_are_not_valid() {
    let report = json!({
        "plans": [],
        "problems": [problem("spec-invalid", 400, "acme.toml is not valid")],
    });
    let fake = Fake::serving(Router::new().route("/v1/reload", post(async || Json(report))));
    fake.tenantd(&["reload"])
        .assert()
        .code(3)
        .stderr("error: acme.toml is not valid\n");
}
