//! Fixed documents for the tests of what is printed.

use jiff::Timestamp;
use serde_json::json;

use crate::api::{HistoryLine, StorageUsage, TenantDetail, TenantSummary, TransitionLine, Usage};
use crate::protect::{CheckOutcome, Checked, Checks};
use crate::state::{Operation, OperationId, OperationKind, OperationStatus, Wanted};

/// The time now, in all samples.
pub fn now() -> Timestamp {
    at("2026-05-04T12:00:00Z")
}

/// A time.
pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// An operation that ended well.
pub fn succeeded(tenant: &str) -> Operation {
    Operation {
        id: OperationId::nil(),
        kind: OperationKind::Apply,
        tenant: Some(tenant.parse().unwrap()),
        request: json!({}),
        actor: "root".to_owned(),
        status: OperationStatus::Succeeded,
        step: Some("asking the agent".to_owned()),
        progress: None,
        outcome: Some(json!({ "tenant": tenant, "revision": 3 })),
        started_at: at("2026-05-04T11:57:00Z"),
        finished_at: Some(at("2026-05-04T11:57:03.2Z")),
    }
}

/// An operation that failed.
pub fn failed(tenant: &str) -> Operation {
    Operation {
        status: OperationStatus::Failed,
        outcome: Some(json!({
            "code": "not-healthy", "status": 500,
            "title": format!("tenant {tenant}: the agent does not answer"),
        })),
        ..succeeded(tenant)
    }
}

/// A tenant that runs.
pub fn running(id: &str) -> TenantSummary {
    TenantSummary {
        id: id.to_owned(),
        state: "running".to_owned(),
        reason: None,
        cause: None,
        next_try: None,
        breaker_open_since: None,
        erase_at: None,
        wanted: Wanted::Running,
        template: Some("openclaw".to_owned()),
        plan: Some("pro".to_owned()),
        image: Some("localhost/openclaw:1".to_owned()),
        revision: Some(3),
        since: at("2026-05-04T11:57:00Z"),
        last_backup: Some(at("2026-05-04T09:30:00Z")),
        kept: None,
        sleep: None,
        releases: vec![],
        trial: None,
        checks: Checks {
            verify: Some(Checked {
                at: at("2026-05-03T12:00:00Z"),
                snapshot: 11,
                outcome: CheckOutcome::Good,
                detail: "2 of 40 packs and parts of trees downloaded".to_owned(),
            }),
            drill: None,
        },
        storage: Some(StorageUsage {
            used_bytes: Some(2 << 30),
            limit_bytes: 25 << 30,
            kept: true,
            at: Some(now()),
        }),
        unenforced: vec![],
    }
}

/// All of a tenant that runs.
pub fn detail() -> TenantDetail {
    TenantDetail {
        summary: running("acme"),
        good_revision: Some(2),
        source: Some("/etc/tenantd/tenants.d/acme.toml".to_owned()),
        image_id: Some("sha256:0f1e".to_owned()),
        ingress_socket: "/run/tenantd/ingress/acme.sock".to_owned(),
        state_directory: "/var/lib/tenantd/tenants/acme/state".to_owned(),
        first_uid: 0x7000_0000,
        units: [
            ("tenant-acme.service", "active (running)"),
            ("tenantd-ingress@acme.socket", "active (listening)"),
        ]
        .map(|(unit, state)| (unit.to_owned(), state.to_owned()))
        .into(),
        usage: Some(Usage {
            memory_bytes: Some(316 << 20),
            cpu_nanoseconds: Some(12_500_000_000),
            pids: Some(23),
        }),
        container_ending: Some("it ended with exit code 1".to_owned()),
        operations: vec![succeeded("acme"), failed("acme")],
        history: vec![HistoryLine {
            at: at("2026-05-04T11:57:00Z"),
            actor: "root".to_owned(),
            action: "wanted: running".to_owned(),
            detail: None,
        }],
        transitions: vec![
            TransitionLine {
                at: at("2026-05-04T11:57:03Z"),
                actor: "tenantd".to_owned(),
                edge: "ready".to_owned(),
                from: "restarting".to_owned(),
                to: "running".to_owned(),
                cause: None,
                reason: None,
            },
            TransitionLine {
                at: at("2026-05-04T11:57:01Z"),
                actor: "tenantd".to_owned(),
                edge: "restart".to_owned(),
                from: "running".to_owned(),
                to: "restarting".to_owned(),
                cause: Some("unhealthy".to_owned()),
                reason: Some("3 live probes in a row failed".to_owned()),
            },
        ],
    }
}
