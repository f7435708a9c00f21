//! Whole hosts judged, healthy and sick.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use rstest::rstest;

use super::evidence::{Store, Swap};
use super::look::host::{Firewall, HostLook};
use super::look::os::{Image, Os};
use super::look::units::UnitsLook;
use super::*;
use crate::api::{StorageUsage, TenantUsage, Verdict};
use crate::front::{self, FrontReport};
use crate::host::space::{Inodes, Space};
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
        let fixes = result.fixes.iter().fold(String::new(), |fixes, fix| {
            fixes + &format!("\n    fix: {fix}")
        });
        format!(
            "{}: {:?}: {}{remedy}{fixes}\n",
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
        inodes: Some(Inodes {
            free: 50,
            total: 100,
        }),
        host: host(),
        units: UnitsLook {
            own_files: Ok(Vec::new()),
            drifted: Ok(Vec::new()),
            unknown: Ok(Vec::new()),
            leaked: Ok(Vec::new()),
            open_places: Ok(Vec::new()),
        },
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

/// A host as Fedora CoreOS is, with a reservation of the tenants' ids.
fn host() -> HostLook {
    let reserved = crate::node::subordinate_ids::LINE.to_owned();
    HostLook {
        kernel: Ok("6.17.7-300.fc43.x86_64".to_owned()),
        undelegated: Ok(BTreeMap::new()),
        subordinate_ids: ["/etc/subuid", "/etc/subgid"]
            .map(|path| (path.into(), Ok(reserved.clone()))),
        firewall: Ok(Firewall::Absent),
        clock_is_set: Ok(true),
        os: Ok(Os::Image(Image {
            version: Some("44.1".to_owned()),
            built: Some("2026-11-10T00:00:00Z".parse().unwrap()),
            ..Image::default()
        })),
        failed_units: Ok(Vec::new()),
        labels: Ok([(
            "/var/lib/tenantd/tenants/acme/state".to_owned(),
            "system_u:object_r:container_file_t:s0".to_owned(),
        )]
        .into()),
    }
}

/// What one check says.
fn one(evidence: &Evidence, name: &str) -> CheckResult {
    let mut results = judge(evidence).into_iter();
    results.find(|result| result.check == name).unwrap()
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
        assert_eq!(
            one(&at(interval), "backups").verdict,
            verdict,
            "{interval} s"
        );
    }
}

#[test]
fn a_state_that_is_kept_for_long_is_complained_about() {
    let recent = Evidence {
        kept: kept("2026-11-20T12:00:00Z"),
        ..healthy()
    };
    let result = one(&recent, "old-states");
    assert_eq!(result.verdict, Verdict::Ok);
    assert_eq!(
        result.finding,
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

/// A host on which everything is wrong.
fn sick_host() -> HostLook {
    HostLook {
        kernel: Ok("5.18.0".to_owned()),
        undelegated: Ok([("tenant-acme.slice".to_owned(), vec!["memory".to_owned()])].into()),
        subordinate_ids: ["/etc/subuid", "/etc/subgid"]
            .map(|path| (path.into(), Ok(String::new()))),
        firewall: Ok(Firewall::Lets(["ssh".to_owned()].into())),
        clock_is_set: Ok(false),
        os: Ok(Os::Image(Image {
            version: Some("43.1".to_owned()),
            built: Some("2026-06-01T00:00:00Z".parse().unwrap()),
            ..Image::default()
        })),
        failed_units: Ok((0..10).map(|number| format!("u{number}.service")).collect()),
        labels: Ok([("/run/netns/tenant-acme".to_owned(), String::new())].into()),
    }
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
        inodes: Some(Inodes {
            free: 9,
            total: 100,
        }),
        host: sick_host(),
        units: UnitsLook {
            own_files: Ok(vec!["/etc/systemd/system/tenantd.service".to_owned()]),
            drifted: Ok(vec!["acme".to_owned()]),
            unknown: Ok(vec!["/etc/systemd/system/tenantd-miner.service".to_owned()]),
            leaked: Ok(vec!["gone".parse().unwrap()]),
            open_places: Ok(vec!["/var/lib/tenantd/keys".to_owned()]),
        },
        front: Some(FrontReport {
            mode: "caddy".to_owned(),
            faults: vec!["Caddy does not answer".to_owned()],
            ..front()
        }),
        secret_mounts: [("/run/tenantd/secrets/acme".to_owned(), false)].into(),
        store: Store::Fails("bucket not found".to_owned()),
        operator_keys_on_host: true,
        project_quotas: false,
        storage: vec![stored("acme", 80, false), stored("beta", 79, false)],
        commitments: Some(promised(9 << 30)),
        active_units: BTreeSet::new(),
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
    let results = judge(&sick);
    for (check, result) in CHECKS.iter().zip(&results) {
        let worst = match check.severity {
            Severity::Warning => Verdict::Warning,
            Severity::Error => Verdict::Failed,
        };
        assert!(
            result.verdict <= worst,
            "{}: {:?}",
            check.name,
            result.verdict
        );
        assert!(result.remedy.is_some() || result.verdict == Verdict::Ok);
        assert!(check.fixable || result.fixes.is_empty(), "{}", check.name);
    }
    let well: Vec<_> = results
        .iter()
        .filter(|result| result.verdict == Verdict::Ok)
        .map(|result| &*result.check)
        .collect();
    // What the other tests here provoke.
    assert_eq!(well, ["selinux"]);
    insta::assert_snapshot!(table(results));
}

/// The healthy host, but for what the change makes of it beneath.
fn with_host(change: impl FnOnce(&mut HostLook)) -> Evidence {
    let mut evidence = healthy();
    change(&mut evidence.host);
    evidence
}

fn image(change: impl FnOnce(&mut Image)) -> Evidence {
    let mut image = Image {
        version: Some("44.1".to_owned()),
        built: Some("2026-06-01T00:00:00Z".parse().unwrap()),
        ..Image::default()
    };
    change(&mut image);
    with_host(|host| host.os = Ok(Os::Image(image)))
}

#[rstest]
#[case::kernel_without_noswap("kernel", with_host(|host| host.kernel = Ok("6.1.0-40-amd64".to_owned())), Verdict::Warning)]
#[case::newest_old_kernel("kernel", with_host(|host| host.kernel = Ok("5.19".to_owned())), Verdict::Warning)]
#[case::first_good_kernel("kernel", with_host(|host| host.kernel = Ok("6.4-rc1".to_owned())), Verdict::Ok)]
#[case::strange_kernel("kernel", with_host(|host| host.kernel = Ok("plan9".to_owned())), Verdict::Unknown)]
#[case::packages("os-updates", with_host(|host| host.os = Ok(Os::Packages)), Verdict::Ok)]
#[case::old_image("os-updates", image(|_| {}), Verdict::Warning)]
#[case::old_image_with_a_next("os-updates", image(|image| image.staged = Some("44.2".to_owned())), Verdict::Ok)]
#[case::unlocked_image("os-updates", image(|image| image.unlocked = Some("hotfix".to_owned())), Verdict::Warning)]
#[case::permissive("selinux", Evidence { selinux: "permissive".to_owned(), ..healthy() }, Verdict::Warning)]
#[case::unlabelled("selinux-labels", with_host(|host| {
    host.labels = Ok([("/x".to_owned(), "system_u:object_r:unlabeled_t:s0".to_owned())].into());
}), Verdict::Warning)]
#[case::no_front_behind_a_firewall("firewall", with_host(|host| {
    host.firewall = Ok(Firewall::Lets(BTreeSet::new()));
}), Verdict::Ok)]
#[case::ids_of_another("subordinate-ids", with_host(|host| {
    host.subordinate_ids[0].1 = Ok("core:1879048192:65536\n".to_owned());
}), Verdict::Failed)]
#[case::inodes_without_number("inodes", Evidence { inodes: Some(Inodes { free: 0, total: 0 }), ..healthy() }, Verdict::Ok)]
fn a_case_of_its_own_is_judged(
    #[case] check: &str,
    #[case] evidence: Evidence,
    #[case] verdict: Verdict,
) {
    let result = one(&evidence, check);
    assert_eq!(result.verdict, verdict, "{result:?}");
}

#[test]
fn what_could_not_be_looked_at_is_not_taken_for_good() {
    fn no<T>() -> super::look::Look<T> {
        Err("it hung".to_owned())
    }
    let blind = Evidence {
        host: HostLook {
            kernel: no(),
            undelegated: no(),
            subordinate_ids: ["/etc/subuid", "/etc/subgid"].map(|path| (path.into(), no())),
            firewall: no(),
            clock_is_set: no(),
            os: no(),
            failed_units: no(),
            labels: no(),
        },
        units: UnitsLook {
            own_files: no(),
            drifted: no(),
            unknown: no(),
            leaked: no(),
            open_places: no(),
        },
        disk: None,
        inodes: None,
        front: None,
        commitments: None,
        ..healthy()
    };
    let unknown: Vec<_> = judge(&blind)
        .into_iter()
        .filter(|result| result.verdict != Verdict::Ok)
        .map(|result| {
            assert_eq!(result.verdict, Verdict::Unknown, "{result:?}");
            result.check
        })
        .collect();
    insta::assert_snapshot!(
        unknown.join(" "),
        @"kernel delegation subordinate-ids selinux-labels private firewall time-sync os-updates failed-units disk inodes capacity own-units drift unknown-units namespaces front"
    );
}

#[test]
fn names_are_stable_words_and_stand_once() {
    let mut seen = BTreeSet::new();
    for check in CHECKS {
        let is_good = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
        assert!(check.name.bytes().all(is_good), "{}", check.name);
        assert!(seen.insert(check.name), "{} stands twice", check.name);
        assert!(!check.reason.is_empty() && !check.reason.ends_with('.'));
    }
}

#[test]
fn a_limit_that_is_not_kept_is_named_where_the_others_are() {
    let evidence = Evidence {
        storage: vec![stored("acme", 1, false), stored("beta", 1, true)],
        ..healthy()
    };
    let result = one(&evidence, "storage-limits");
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
            (
                Verdict::Unknown,
                "not known: /var/lib/tenantd is not there".to_owned()
            ),
            (
                Verdict::Unknown,
                "not known: the store was not asked: its keys are elsewhere".to_owned()
            ),
        ]
    );
}
