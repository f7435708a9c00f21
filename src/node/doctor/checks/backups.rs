//! Backups: the store, what makes them by itself, how old they are, what restores have left.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::super::Evidence;
use super::super::check::{Check, Finding, failed, ok, unknown, warning};
use super::super::evidence::Store;
use super::super::fix::Fix;
use crate::protect;

/// The state from before a restore that is kept longer than this has been forgotten.
const LONG_KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);

pub const STORE: Check = Check::error(
    "store",
    "without the store nothing is backed up, and a lost host is lost",
    store,
);

pub const TIMER: Check = Check::error(
    "backup-timer",
    "without it no backup is made by itself",
    timer,
)
.fixable();

pub const DRILL_TIMER: Check = Check::warning(
    "drill-timer",
    "a backup from which nobody has ever restored may be none",
    drill_timer,
)
.fixable();

pub const SHUTDOWN: Check = Check::warning(
    "shutdown-backup",
    "what was written since the last backup is lost with the host",
    shutdown,
)
.fixable();

pub const BACKUPS: Check = Check::warning(
    "backups",
    "what was written since the last good backup is lost with the host",
    backups,
);

pub const OLD_STATES: Check = Check::warning(
    "old-states",
    "a state that a restore has replaced takes room until somebody decides",
    old_states,
);

fn store(evidence: &Evidence) -> Finding {
    match &evidence.store {
        Store::Answers(url) => ok(format!("{url} answers")),
        Store::NotAsked(why) => unknown(
            &format!("the store was not asked: {why}"),
            "start tenantd and run `tenantd doctor` again",
        ),
        Store::Fails(error) => failed(
            error,
            "check [store] in node.toml, its credentials and the network",
        ),
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
        .mended_by([enable("tenantd-backup.timer")])
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
        .mended_by([enable("tenantd-drill.timer")])
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
        .mended_by(missing.into_iter().map(enable))
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

fn enable(unit: &str) -> Fix {
    Fix::EnableUnit {
        unit: unit.to_owned(),
    }
}
