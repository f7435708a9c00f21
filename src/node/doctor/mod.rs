//! The doctor: what the host should be, what it is, and what to do about the difference.
//! Looking is in `evidence`; judging is pure and here, one record per check.

mod evidence;
mod plans;
mod store;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::NodeSettings;
use super::fitness::OLDEST_SYSTEMD;
use crate::api::{CheckResult, Verdict};
use crate::host::space::Space;
use crate::host::systemd::Systemd;
use crate::layout::Layout;
use crate::protect;
use crate::reconcile::Engine;
use crate::tenant::TenantState;

pub use evidence::{Evidence, Store, Swap, Witnesses};

/// The state from before a restore that is kept longer than this has been forgotten.
const LONG_KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Free share of the data disk below which backups and restores are at risk.
const FREE_PERCENT: u64 = 10;

/// What a check says: how it went, what was found, what to do.
type Finding = (Verdict, String, Option<&'static str>);

/// One check.
struct Check {
    name: &'static str,
    judge: fn(&Evidence) -> Finding,
}

/// Every check, in the order of what depends on what.
const CHECKS: &[Check] = &[
    Check {
        name: "daemon",
        judge: daemon,
    },
    Check {
        name: "settings",
        judge: settings,
    },
    Check {
        name: "systemd",
        judge: systemd,
    },
    Check {
        name: "podman",
        judge: podman,
    },
    Check {
        name: "cgroup",
        judge: cgroup,
    },
    Check {
        name: "limits",
        judge: limits,
    },
    Check {
        name: "generator",
        judge: generator,
    },
    Check {
        name: "swap",
        judge: swap,
    },
    Check {
        name: "secrets",
        judge: secrets,
    },
    Check {
        name: "selinux",
        judge: selinux,
    },
    Check {
        name: "reflink",
        judge: reflink,
    },
    Check {
        name: "disk",
        judge: disk,
    },
    Check {
        name: "storage-limits",
        judge: plans::kept,
    },
    Check {
        name: "storage",
        judge: plans::storage,
    },
    Check {
        name: "capacity",
        judge: plans::capacity,
    },
    Check {
        name: "front",
        judge: front,
    },
    Check {
        name: "store",
        judge: store,
    },
    Check {
        name: "operator-keys",
        judge: operator_keys,
    },
    Check {
        name: "backup-timer",
        judge: timer,
    },
    Check {
        name: "drill-timer",
        judge: drill_timer,
    },
    Check {
        name: "shutdown-backup",
        judge: shutdown,
    },
    Check {
        name: "backups",
        judge: backups,
    },
    Check {
        name: "old-states",
        judge: old_states,
    },
];

/// Looks at the host and judges what is found.
pub async fn examine(engine: &Engine) -> Vec<CheckResult> {
    let tenants = engine.database.tenants().await.unwrap_or_default();
    let witnesses = Witnesses {
        layout: engine.layout.clone(),
        daemon: Ok(()),
        systemd: Some(engine.systemd.clone()),
        settings: Ok(engine.settings()),
        tenants: tenants
            .into_iter()
            .filter(|row| row.state != TenantState::Terminated)
            .map(|row| row.id)
            .collect(),
        storage: engine
            .usage_report(None)
            .await
            .map_or_else(|_| Vec::new(), |report| report.tenants),
        commitments: engine.commitments().await.ok(),
        front: engine.front_report().await.ok(),
    };
    judge(&evidence::gather(&witnesses).await)
}

/// As [`examine`], in a process of its own while the daemon does not answer; `why` says how
/// that showed. Needs root to see everything.
pub async fn examine_alone(
    layout: &Layout,
    settings: Result<NodeSettings, String>,
    why: String,
) -> Vec<CheckResult> {
    let witnesses = Witnesses {
        layout: layout.clone(),
        daemon: Err(why),
        systemd: Systemd::connect().await.ok(),
        settings: settings.map(Arc::new),
        tenants: protect::tenants(layout),
        storage: Vec::new(),
        commitments: None,
        front: None,
    };
    judge(&evidence::gather(&witnesses).await)
}

/// Finds out what the object store and its key can do, with an object of the doctor's own.
pub async fn examine_store(settings: &NodeSettings) -> Vec<CheckResult> {
    store::judge(&protect::examine_store(&settings.store).await)
}

/// Judges the evidence.
fn judge(evidence: &Evidence) -> Vec<CheckResult> {
    let results = CHECKS.iter().map(|check| {
        let (verdict, finding, remedy) = (check.judge)(evidence);
        CheckResult {
            check: check.name.to_owned(),
            verdict,
            finding,
            remedy: remedy.map(str::to_owned),
        }
    });
    results.collect()
}

fn ok(finding: impl Into<String>) -> Finding {
    (Verdict::Ok, finding.into(), None)
}

fn warning(finding: impl Into<String>, remedy: &'static str) -> Finding {
    (Verdict::Warning, finding.into(), Some(remedy))
}

fn failed(finding: impl Into<String>, remedy: &'static str) -> Finding {
    (Verdict::Failed, finding.into(), Some(remedy))
}

fn daemon(evidence: &Evidence) -> Finding {
    match &evidence.daemon {
        Ok(()) => ok("tenantd runs"),
        Err(why) => failed(
            format!("tenantd is not running: {why}"),
            "systemctl start tenantd; journalctl -u tenantd tells why it ended",
        ),
    }
}

fn front(evidence: &Evidence) -> Finding {
    let Some(front) = &evidence.front else {
        return warning("not looked at", "start tenantd: it knows the hosts");
    };
    let warnings = front.warnings();
    match (warnings.is_empty(), front.mode.as_str(), front.hosts.len()) {
        (true, "none", _) => ok("none: tenants are reached by their sockets and loopback ports"),
        (true, mode, hosts) => ok(format!("{mode}, {hosts} hosts")),
        (false, ..) if !front.serves => failed(
            warnings.join("; "),
            "`tenantd front` shows how each host is; journalctl -u tenantd-front tells what Caddy wrote",
        ),
        (false, ..) => warning(
            warnings.join("; "),
            "`tenantd front` shows how each host is",
        ),
    }
}

fn settings(evidence: &Evidence) -> Finding {
    match &evidence.settings {
        Ok(()) => ok("node.toml can be read"),
        Err(why) => failed(why, "run `tenantd init` on a new node, else mend node.toml"),
    }
}

fn systemd(evidence: &Evidence) -> Finding {
    match evidence.systemd {
        Some(version) if version >= OLDEST_SYSTEMD => ok(format!("systemd {version}")),
        Some(version) => failed(
            format!("systemd {version}"),
            "update to systemd 255 or later",
        ),
        None => failed("systemd does not answer", "boot this host with systemd"),
    }
}

fn podman(evidence: &Evidence) -> Finding {
    match &evidence.podman {
        Ok(version) => ok(format!("Podman {version}")),
        Err(error) => failed(error, "install Podman 5.4 or later and start podman.socket"),
    }
}

fn cgroup(evidence: &Evidence) -> Finding {
    if evidence.cgroup_v2 {
        ok("cgroup v2")
    } else {
        failed("cgroup v1", "boot with systemd.unified_cgroup_hierarchy=1")
    }
}

fn limits(evidence: &Evidence) -> Finding {
    if evidence.missing_controllers.is_empty() {
        return ok("every limit of the plans is enforced");
    }
    let missing = evidence.missing_controllers.join(", ");
    warning(
        format!("no {missing} controller: those limits of the plans are not enforced"),
        "run on a host whose kernel gives systemd these cgroup controllers",
    )
}

fn generator(evidence: &Evidence) -> Finding {
    if evidence.absent_tools.is_empty() {
        ok("the unit generator and the verifier are there")
    } else {
        failed(
            format!("not found: {}", evidence.absent_tools.join(", ")),
            "install Podman with Quadlet, and systemd-analyze",
        )
    }
}

fn swap(evidence: &Evidence) -> Finding {
    match &evidence.swap {
        Swap::None => ok("no swap"),
        Swap::Safe(device) => ok(format!("swap on {device} does not keep what it holds")),
        Swap::Plain(device) => failed(
            format!("swap on {device} keeps tenants' secrets in plain text"),
            "use zram, or swap encrypted with a random key per boot (crypttab option `swap`)",
        ),
    }
}

fn secrets(evidence: &Evidence) -> Finding {
    let mounts = &evidence.secret_mounts;
    let unsafe_mounts = mounts.iter().filter(|(_, stays)| !**stays);
    let unsafe_mounts: Vec<_> = unsafe_mounts.map(|(path, _)| path.as_str()).collect();
    if unsafe_mounts.is_empty() {
        return ok(format!(
            "decrypted secrets of {} agents are in memory that is never swapped out",
            mounts.len()
        ));
    }
    failed(
        format!("{} could be written to swap", unsafe_mounts.join(", ")),
        "something else has mounted it: unmount it, and `tenantd restart` those tenants",
    )
}

fn selinux(evidence: &Evidence) -> Finding {
    ok(format!("SELinux is {}", evidence.selinux))
}

fn reflink(evidence: &Evidence) -> Finding {
    if evidence.reflink {
        ok("/var/lib/tenantd can clone files: backups pause agents for an instant only")
    } else {
        warning(
            "/var/lib/tenantd cannot clone files: backups copy what changed while the agent is paused",
            "put /var/lib/tenantd on XFS or btrfs",
        )
    }
}

fn disk(evidence: &Evidence) -> Finding {
    let Some(Space { free, total }) = evidence.disk else {
        return warning(
            "/var/lib/tenantd is not there",
            "`tenantd init` makes it; is its disk mounted?",
        );
    };
    let percent = (free * 100).checked_div(total).unwrap_or(0);
    let finding = format!("{percent} % of the disk of /var/lib/tenantd is free");
    if percent >= FREE_PERCENT {
        ok(finding)
    } else {
        warning(finding, "make room: a full disk stops agents and restores")
    }
}

fn store(evidence: &Evidence) -> Finding {
    match &evidence.store {
        Store::Answers(url) => ok(format!("{url} answers")),
        Store::NotAsked(why) => warning(
            format!("the store was not asked: {why}"),
            "start tenantd and run `tenantd doctor` again",
        ),
        Store::Fails(error) => failed(
            error,
            "check [store] in node.toml, its credentials and the network",
        ),
    }
}

fn operator_keys(evidence: &Evidence) -> Finding {
    if evidence.operator_keys_on_host {
        warning(
            "the operator's keys are on this host: whoever takes it can read and forge all backups",
            crate::node::OPERATOR_KEYS_REMEDY,
        )
    } else {
        ok("the operator's keys are not on this host")
    }
}

fn timer(evidence: &Evidence) -> Finding {
    if evidence.active_units.contains("tenantd-backup.timer") {
        ok(format!(
            "backups are made every {}",
            evidence.backup.interval
        ))
    } else {
        failed(
            "tenantd-backup.timer does not run: no backup is made by itself",
            "systemctl enable --now tenantd-backup.timer",
        )
    }
}

fn drill_timer(evidence: &Evidence) -> Finding {
    if evidence.active_units.contains("tenantd-drill.timer") {
        ok("backups are brought to life in a drill every month")
    } else {
        warning(
            "tenantd-drill.timer does not run: nobody finds out whether an agent can live from its backup",
            "systemctl enable --now tenantd-drill.timer",
        )
    }
}

fn shutdown(evidence: &Evidence) -> Finding {
    let units = [
        "tenantd-prestop-backup.service",
        "tenantd-final-backup.service",
    ];
    let missing: Vec<_> = units
        .into_iter()
        .filter(|unit| !evidence.active_units.contains(*unit))
        .collect();
    if missing.is_empty() {
        ok("a last backup is made when the host stops")
    } else {
        warning(
            format!("not active: {}", missing.join(", ")),
            "systemctl enable --now tenantd-prestop-backup tenantd-final-backup",
        )
    }
}

fn backups(evidence: &Evidence) -> Finding {
    let late_after = evidence.backup.late_after();
    let stale = stale(&evidence.last_backups, evidence.now, late_after);
    if stale.is_empty() {
        ok("every tenant's last good backup is recent")
    } else {
        warning(
            format!("no recent good backup of {}", stale.join(", ")),
            "tenantd backup, and see what it says",
        )
    }
}

fn stale(
    last: &BTreeMap<String, Option<Timestamp>>,
    now: Timestamp,
    age: SignedDuration,
) -> Vec<&str> {
    let is_stale = |at: &Option<Timestamp>| at.is_none_or(|at| now.duration_since(at) > age);
    last.iter()
        .filter(|(_, at)| is_stale(at))
        .map(|(tenant, _)| tenant.as_str())
        .collect()
}

fn old_states(evidence: &Evidence) -> Finding {
    let told = |(tenant, kept): (&String, &protect::Kept)| {
        let days = evidence.now.duration_since(kept.since).as_hours() / 24;
        let size = kept.bytes.div_ceil(1 << 20);
        format!("{tenant}: {size} MiB, for {days} days")
    };
    let all: Vec<String> = evidence.kept.iter().map(told).collect();
    let finding = format!("states from before a restore are kept: {}", all.join("; "));
    let is_long = |kept: &protect::Kept| evidence.now.duration_since(kept.since) > LONG_KEPT;
    if all.is_empty() {
        ok("no state from before a restore takes room")
    } else if evidence.kept.values().any(is_long) {
        warning(
            finding,
            "`tenantd restore T --accept` removes one, `--undo` puts it back",
        )
    } else {
        ok(finding)
    }
}

#[cfg(test)]
mod tests;
