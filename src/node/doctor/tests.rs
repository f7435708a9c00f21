//! Whole hosts judged, healthy and sick.

use super::*;
use crate::api::{StorageUsage, TenantUsage};
use crate::front::{self, FrontReport};
use crate::node::capacity::{Amounts, CapacitySettings, Commitment, commitments};
use crate::node::{BackupSettings, FrontSettings};
use crate::protect::Kept;
use crate::tenant::Period;

/// Findings as a person would note them, for snapshots.
pub(super) fn table(results: Vec<CheckResult>) -> String {
    let rows = results.into_iter().map(|result| {
        let remedy = result
            .remedy
            .map(|remedy| format!(" -> {remedy}"))
            .unwrap_or_default();
        format!(
            "{}: {:?}: {}{remedy}\n",
            result.check, result.verdict, result.finding
        )
    });
    rows.collect()
}

/// A tenant whose state holds so much of a hundred.
fn stored(id: &str, used: u64, kept: bool) -> TenantUsage {
    TenantUsage {
        id: id.to_owned(),
        storage: Some(StorageUsage {
            used_bytes: Some(used),
            limit_bytes: 100,
            kept,
            at: None,
        }),
        ..TenantUsage::default()
    }
}

/// What is promised of a host with 8 GiB of memory.
fn promised(memory: u64) -> [Commitment; 3] {
    let has = Amounts {
        memory: 8 << 30,
        cpu_millis: 4000,
        storage: 100 << 30,
    };
    let promised = Amounts {
        memory,
        cpu_millis: 3500,
        storage: 30 << 30,
    };
    commitments(&CapacitySettings::default(), has, promised)
}

fn front() -> FrontReport {
    let sites = front::sites(None, []);
    front::report(
        &FrontSettings::default(),
        &sites,
        front::Facts::default(),
        Timestamp::UNIX_EPOCH,
    )
}

fn healthy() -> Evidence {
    Evidence {
        now: "2026-11-21T12:00:00Z".parse().unwrap(),
        daemon: Ok(()),
        settings: Ok(()),
        systemd: Some(257),
        podman: Ok("5.4.2".to_owned()),
        cgroup_v2: true,
        missing_controllers: Vec::new(),
        absent_tools: Vec::new(),
        swap: Swap::Safe("/dev/zram0".to_owned()),
        secret_mounts: [("/run/tenantd/secrets/acme".to_owned(), true)].into(),
        selinux: "enforcing".to_owned(),
        reflink: true,
        disk: Some(Space {
            free: 50,
            total: 100,
        }),
        store: Store::Answers("dir:/var/lib/tenantd/backups".to_owned()),
        operator_keys_on_host: false,
        active_units: [
            "tenantd-backup.timer",
            "tenantd-drill.timer",
            "tenantd-prestop-backup.service",
            "tenantd-final-backup.service",
        ]
        .map(str::to_owned)
        .into(),
        project_quotas: true,
        storage: vec![stored("acme", 79, true)],
        commitments: Some(promised(7 << 30)),
        front: Some(front()),
        last_backups: [(
            "acme".to_owned(),
            Some("2026-11-21T11:00:00Z".parse().unwrap()),
        )]
        .into(),
        backup: BackupSettings::default(),
        kept: BTreeMap::new(),
    }
}

fn kept(since: &str) -> BTreeMap<String, Kept> {
    let kept = Kept {
        since: since.parse().unwrap(),
        bytes: 3 << 30,
    };
    [("acme".to_owned(), kept)].into()
}

#[test]
fn a_backup_is_late_by_its_own_interval() {
    let at = |interval: u32| Evidence {
        backup: BackupSettings {
            interval: Period::from_seconds(interval),
        },
        last_backups: [(
            "acme".to_owned(),
            Some("2026-11-21T10:00:00Z".parse().unwrap()),
        )]
        .into(),
        ..healthy()
    };
    for (interval, verdict) in [
        (300, Verdict::Warning),
        (3600, Verdict::Ok),
        (86_400, Verdict::Ok),
    ] {
        assert_eq!(backups(&at(interval)).0, verdict, "{interval} s");
    }
}

#[test]
fn a_state_that_is_kept_for_long_is_complained_about() {
    let recent = Evidence {
        kept: kept("2026-11-20T12:00:00Z"),
        ..healthy()
    };
    let (verdict, finding, _) = old_states(&recent);
    assert_eq!(verdict, Verdict::Ok);
    assert_eq!(
        finding,
        "states from before a restore are kept: acme: 3072 MiB, for 1 days"
    );
}

#[test]
fn a_healthy_host_has_no_complaint() {
    let results = judge(&healthy());
    assert!(
        results.iter().all(|result| result.verdict == Verdict::Ok),
        "{results:?}"
    );
}

#[test]
fn every_fault_has_a_finding_and_a_remedy() {
    let sick = Evidence {
        daemon: Err("nobody listens at /run/tenantd/api.sock".to_owned()),
        settings: Err("/etc/tenantd/node.toml is missing".to_owned()),
        systemd: Some(254),
        podman: Err("cannot reach Podman".to_owned()),
        cgroup_v2: false,
        missing_controllers: vec!["cpu".to_owned(), "memory".to_owned()],
        absent_tools: vec!["/usr/bin/systemd-analyze".to_owned()],
        swap: Swap::Plain("/dev/vda2".to_owned()),
        reflink: false,
        disk: Some(Space {
            free: 5,
            total: 100,
        }),
        store: Store::Fails("bucket not found".to_owned()),
        operator_keys_on_host: true,
        project_quotas: false,
        storage: vec![stored("acme", 80, false), stored("beta", 79, false)],
        commitments: Some(promised(9 << 30)),
        active_units: std::collections::BTreeSet::new(),
        last_backups: [
            (
                "acme".to_owned(),
                Some("2026-11-21T09:00:00Z".parse().unwrap()),
            ),
            ("beta".to_owned(), None),
        ]
        .into(),
        kept: kept("2026-11-01T12:00:00Z"),
        ..healthy()
    };
    insta::assert_snapshot!(table(judge(&sick)));
}

#[test]
fn a_limit_that_is_not_kept_is_named_where_the_others_are() {
    let one = Evidence {
        storage: vec![stored("acme", 1, false), stored("beta", 1, true)],
        ..healthy()
    };
    let result = judge(&one)
        .into_iter()
        .find(|result| result.check == "storage-limits")
        .unwrap();
    assert_eq!(result.verdict, Verdict::Warning);
    assert_eq!(result.finding, "storage limit not kept: acme");
    // An instance's name is not the tenant's: a dash would be a slash.
    let remedy = result.remedy.unwrap();
    assert!(
        remedy.contains("`tenantd restart`") && !remedy.contains("systemctl start"),
        "{remedy}"
    );
}

#[test]
fn what_could_not_be_asked_is_said_and_fails_nothing() {
    let unknown = Evidence {
        disk: None,
        store: Store::NotAsked("its keys are elsewhere"),
        ..healthy()
    };
    let told: Vec<_> = judge(&unknown)
        .into_iter()
        .filter(|result| result.verdict != Verdict::Ok)
        .map(|result| (result.verdict, result.finding))
        .collect();
    assert_eq!(
        told,
        [
            (Verdict::Warning, "/var/lib/tenantd is not there".to_owned()),
            (
                Verdict::Warning,
                "the store was not asked: its keys are elsewhere".to_owned()
            ),
        ]
    );
}
