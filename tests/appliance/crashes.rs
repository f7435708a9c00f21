//! tenantd and its helpers are killed at every point that matters; all ends as it was wanted.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tenantd::failpoint;

use crate::drill::{has_no_way_out, nothing_is_left};
use crate::host::{Host, LIMIT, RETRY_SOON, fake, fake_with, on_host};
use crate::quiesce::{is_released, quiesced_by_commands};

/// What passes a point, and so is cut short there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drill {
    /// A new tenant is applied.
    Apply,
    /// A tenant gets another revision.
    Update,
    /// A tenant gets a revision that never becomes healthy.
    BadUpdate,
    /// A tenant is stopped.
    Stop,
    /// A tenant is removed with its state.
    Remove,
    /// A tenant is removed, and can be reclaimed.
    Terminate,
    /// A tenant that was removed is reclaimed.
    Reclaim,
    /// A tenant that has failed is tried again.
    Retry,
    /// A tenant is backed up.
    Backup,
    /// A tenant is restored.
    Restore,
    /// The state from before a restore is put back.
    Undo,
    /// The state from before a restore is given up.
    Accept,
    /// A tenant is made from an archive.
    Import,
    /// A tenant's newest snapshot is drilled.
    Rehearsal,
    /// A secret gets a value.
    Secret,
    /// A tenant returns to an earlier release.
    Rollback,
    /// A revision turns out good on trial.
    Trial,
    /// A revision turns out bad on trial.
    BadTrial,
}

use Drill::{
    Accept, Apply, Backup, BadTrial, BadUpdate, Import, Reclaim, Rehearsal, Remove, Restore, Retry,
    Rollback, Secret, Stop, Terminate, Trial, Undo, Update,
};

/// Every point, and the operations that are cut short at it.
const TABLE: &[(&str, &[Drill])] = &[
    ("apply.current", &[Apply, Update]),
    ("apply.directories", &[Apply]),
    ("apply.good", &[Apply, Update]),
    ("apply.revision", &[Apply, Update]),
    ("apply.rolling-back", &[BadUpdate]),
    ("apply.row", &[Apply]),
    ("backup.after-commit-put", &[Backup]),
    ("backup.after-create-intent", &[Apply]),
    ("backup.after-create-put", &[Apply]),
    ("backup.after-create-texts-put", &[Apply]),
    ("backup.after-head", &[Backup]),
    ("backup.after-index", &[Backup]),
    ("backup.after-intent", &[Backup]),
    ("backup.after-pack-put", &[Backup]),
    ("backup.after-resume", &[Backup]),
    ("backup.after-tree-put", &[Backup]),
    ("backup.while-paused", &[Backup]),
    ("converge.agent-started", &[Apply, Update]),
    ("converge.step", &[Apply, Update, Stop, Remove, Restore]),
    ("drill.noted", &[Rehearsal]),
    ("drill.restored", &[Rehearsal]),
    ("drill.started", &[Rehearsal]),
    ("install.one-written", &[Apply, Update]),
    ("install.reloaded", &[Apply, Update, Remove]),
    ("install.written", &[Apply, Update, Remove]),
    ("operation.done", &[Apply, Stop, Remove, Backup, Restore]),
    ("operation.recorded", &[Apply, Stop, Backup, Restore]),
    ("operation.wanted", &[Stop, Remove]),
    ("reclaim.taken-back", &[Reclaim]),
    ("recover.counted", &[Retry]),
    ("remove.keys-gone", &[Remove]),
    ("release.cloned", &[Update]),
    ("release.exchanged", &[BadUpdate, Rollback, BadTrial]),
    ("release.held", &[Update, BadUpdate, Rollback]),
    ("release.moved", &[BadUpdate, Rollback]),
    ("release.noted", &[BadUpdate, Rollback]),
    ("release.taken", &[Update]),
    ("remove.erasing", &[Remove]),
    ("remove.state-gone", &[Remove]),
    ("remove.terminated", &[Terminate]),
    ("remove.units-gone", &[Remove, Terminate]),
    ("restore.after-directories", &[Restore]),
    ("restore.after-first-pack", &[Restore]),
    ("restore.before-metadata", &[Restore]),
    ("secret.forgetting", &[Secret]),
    ("secret.noted", &[Secret]),
    ("secret.stored", &[Secret]),
    ("rollback.current", &[BadUpdate, Rollback]),
    ("trial.begun", &[Trial]),
    ("trial.failed", &[BadTrial]),
    ("trial.promoted", &[Trial]),
    ("operation.restore-done", &[Restore]),
    ("protect.discarding", &[Accept]),
    ("protect.exchanged", &[Restore]),
    ("protect.imported", &[Import]),
    ("protect.kept-noted", &[Restore]),
    ("protect.quiesced", &[Backup]),
    ("operation.restore-ordered", &[Restore]),
    ("protect.restored", &[Restore]),
    ("protect.undo-noted", &[Undo]),
    ("protect.undone", &[Undo]),
];

/// Points that need no tenant that runs: `tests/repository/crash.rs` drills them, `protect::trust_tests` the last one,
/// `gateway::egress::crash_tests` those of an egress door, `protect::trust_tests::rebuild` those of a rebuilt node, and
/// `first_boot`, `front` and `wake` those of theirs.
const IN_OTHER_TESTS: &[&str] = &[
    "adopt.emptied",
    "bootstrap.enabled",
    "bootstrap.node-back",
    "bootstrap.secrets-gone",
    "bootstrap.set-up",
    "bootstrap.tenants-back",
    "egress.counted",
    "egress.named",
    "front.kept",
    "front.linked",
    "front.loaded",
    "wildcard.presented",
    "wildcard.stored",
    "node.adopted",
    "node.placed",
    "node.restoring",
    "protect.adopted",
    "sleep.closed",
    "sleep.frozen",
    "sleep.stopping",
    "sleep.thawed",
    "heartbeat.recorded",
    "heartbeat.stored",
    "keys.wrapped",
    "keys.noted",
    "keys.erasing",
];

/// The points at which an operation is cut short.
pub fn points(drill: Drill) -> impl Iterator<Item = &'static str> {
    TABLE
        .iter()
        .filter(move |(_, drills)| drills.contains(&drill))
        .map(|&(point, _)| point)
}

#[test]
fn every_point_of_the_source_is_drilled() {
    for (point, drills) in TABLE {
        println!("{point}: {drills:?}");
        assert!(!drills.is_empty(), "{point}");
    }
    let here = TABLE.iter().map(|(point, _)| point);
    let drilled: BTreeSet<_> = here.chain(IN_OTHER_TESTS).collect();
    assert_eq!(drilled, failpoint::ALL.iter().collect());
    assert_eq!(TABLE.len() + IN_OTHER_TESTS.len(), failpoint::ALL.len());
}

#[test]
fn a_tenant_is_applied_and_removed_although_tenantd_is_killed_at_every_point() {
    on_host("killed-applying", |host| {
        let mut tenants = Vec::new();
        for (number, point) in points(Apply).enumerate() {
            let tenant = format!("new-{number:02}");
            cut_short(host, Apply, point, &tenant, || {
                host.try_apply(&fake(&tenant))
            })?;
            ends_as(host, &tenant, "running", 1).with_context(|| format!("{point} in an apply"))?;
            host.write(&tenant, "note", point)?;
            tenants.push(tenant);
        }
        for point in points(Remove) {
            let tenant = tenants
                .pop()
                .context("more points in a removal than in an apply")?;
            cut_short(host, Remove, point, &tenant, || {
                host.try_tenantd(["remove", &tenant, "--purge", "--yes"])
            })?;
            is_gone(host, &tenant).with_context(|| format!("{point} in a removal"))?;
        }
        // The others did not notice.
        for tenant in &tenants {
            ensure!(host.state(tenant)? == "running", "{tenant}");
            ensure!(
                host.get(tenant, "/starts")? == "1\n",
                "{tenant} was started again"
            );
        }
        Ok(())
    });
}

#[test]
fn a_tenant_is_changed_although_tenantd_is_killed_at_every_point() {
    on_host("killed-changing", |host| {
        host.many_rollbacks()?;
        host.apply(&fake("acme"))?;
        host.write("acme", "note", "kept")?;
        let mut revision = 1;
        for point in points(Update) {
            revision += 1;
            let spec = fake_with("acme", &format!("env.EDITION = \"{revision}\""));
            cut_short(host, Update, point, "acme", || host.try_apply(&spec))?;
            ends_as(host, "acme", "running", revision)
                .with_context(|| format!("{point} in an update"))?;
            let environment = host.get("acme", "/env")?;
            ensure!(
                environment.contains(&format!("EDITION={revision}\n")),
                "{environment}"
            );
            host.expect("acme", "note", "kept")?;
        }
        for point in points(BadUpdate) {
            let bad = fake_with("acme", "env.FAKE_AGENT_MODE = \"never-healthy\"")
                .replace("\"15s\"", "\"1s\"");
            cut_short(host, BadUpdate, point, "acme", || host.try_apply(&bad))?;
            ends_as(host, "acme", "running", revision)
                .with_context(|| format!("{point} in a bad update"))?;
            let environment = host.get("acme", "/env")?;
            ensure!(
                environment.contains(&format!("EDITION={revision}\n")),
                "{environment}"
            );
            host.expect("acme", "note", "kept")?;
        }
        for point in points(Stop) {
            cut_short(host, Stop, point, "acme", || {
                host.try_tenantd(["stop", "acme"])
            })?;
            ends_as(host, "acme", "stopped", revision)
                .with_context(|| format!("{point} in a stop"))?;
            ensure!(host.property("tenant-acme.service", "ActiveState")? == "inactive");
            host.tenantd(["start", "acme"])?;
            host.expect("acme", "note", "kept")?;
        }
        Ok(())
    });
}

#[test]
fn a_tenant_ends_and_comes_back_although_tenantd_is_killed_at_every_point() {
    on_host("killed-ending", |host| {
        host.apply(&fake("acme"))?;
        host.write("acme", "note", "kept")?;
        let back = |point: &str| {
            ends_as(host, "acme", "running", 1).with_context(|| format!("{point} in an ending"))?;
            host.expect("acme", "note", "kept")
        };
        for point in points(Terminate) {
            cut_short(host, Terminate, point, "acme", || {
                host.try_tenantd(["remove", "acme"])
            })?;
            is_terminated(host, "acme").with_context(|| format!("{point} in a removal"))?;
            host.tenantd(["reclaim", "acme"])?;
            back(point)?;
        }
        for point in points(Reclaim) {
            host.tenantd(["remove", "acme"])?;
            cut_short(host, Reclaim, point, "acme", || {
                host.try_tenantd(["reclaim", "acme"])
            })?;
            back(point)?;
        }
        // What it needs cannot be made: it fails, and is tried again by itself.
        host.machine.script(&format!(
            "printf '{RETRY_SOON}' >>/etc/tenantd/node.toml
             tenantd reload"
        ))?;
        for point in points(Retry) {
            host.tenantd(["stop", "acme"])?;
            host.machine.script(
                "systemctl stop tenantd-net@acme.service
                 mkdir /run/netns/tenant-acme",
            )?;
            cut_short(host, Retry, point, "acme", || {
                let output = host.try_tenantd(["start", "acme"])?;
                let hit = |_: &_| {
                    Ok(if host.was_hit()? {
                        Ok(())
                    } else {
                        Err("not hit".to_owned())
                    })
                };
                host.machine.wait_until("the next try", LIMIT, hit)?;
                Ok(output)
            })?;
            host.machine.script("rmdir /run/netns/tenant-acme")?;
            host.wait_for_state("acme", "running")?;
            back(point)?;
        }
        Ok(())
    });
}

fn is_terminated(host: &Host<'_>, tenant: &str) -> anyhow::Result<()> {
    let shown = host.json(["show", tenant])?;
    ensure!(shown["state"] == "terminated", "{shown}");
    ensure!(shown["erase-at"].is_string(), "{shown}");
    ensure!(host.property(&format!("tenant-{tenant}.service"), "LoadState")? == "not-found");
    Ok(())
}

#[test]
fn a_backup_that_is_killed_at_any_point_is_made_good_by_the_next() {
    on_host("killed-backup", |host| {
        host.apply(&fake_with("acme", &quiesced_by_commands()))?;
        host.tenantd(["backup", "acme"])?;
        let agent = host.property("tenant-acme.service", "MainPID")?;
        for point in points(Backup) {
            host.write("acme", "note", point)?;
            cut_short(host, Backup, point, "acme", || {
                host.try_tenantd(["backup", "acme"])
            })?;
            settled(host)?;
            not_frozen(host).with_context(|| format!("{point} in a backup"))?;
            is_released(host).with_context(|| format!("{point} in a backup"))?;

            host.tenantd(["backup", "acme"])
                .with_context(|| format!("after {point}"))?;
            host.tenantd(["restore", "acme", "--to", "/var/tmp/beside"])
                .with_context(|| format!("after {point}"))?;
            let note = host.machine.read("/var/tmp/beside/data/note")?;
            ensure!(note == point, "after {point} the snapshot holds {note}");
            host.machine.run(["rm", "-r", "/var/tmp/beside"])?;

            ensure!(
                host.property("tenant-acme.service", "MainPID")? == agent,
                "{point}"
            );
            host.expect("acme", "note", point)?;
        }
        Ok(())
    });
}

#[test]
fn a_restore_that_is_killed_at_any_point_ends_with_the_snapshot_running() {
    on_host("killed-restore", |host| {
        host.apply(&fake("acme"))?;
        host.write("acme", "note", "in the snapshot")?;
        host.tenantd(["backup", "acme"])?;
        for point in points(Restore) {
            host.write("acme", "note", "newer")?;
            cut_short(host, Restore, point, "acme", || {
                host.try_tenantd(["restore", "acme"])
            })?;
            ends_as(host, "acme", "running", 1).with_context(|| format!("{point} in a restore"))?;
            host.expect("acme", "note", "in the snapshot")
                .with_context(|| format!("{point} in a restore"))?;
            let left = host.machine.script(
                "ls -d /var/lib/tenantd/tenants/acme/{restoring,replaced} \
                 /run/tenantd/restore/acme 2>/dev/null || true",
            )?;
            ensure!(left.trim().is_empty(), "{point} leaves {}", left.stdout);
            let kept = "/var/lib/tenantd/tenants/acme/before-restore/data/note";
            ensure!(
                host.machine.read(kept)? == "newer",
                "{point} loses the old state"
            );
            host.tenantd(["restore", "acme", "--accept"])?;
        }
        Ok(())
    });
}

#[test]
fn what_becomes_of_the_old_state_is_done_although_tenantd_is_killed_at_every_point() {
    on_host("killed-undo", |host| {
        host.apply(&fake("acme"))?;
        host.write("acme", "note", "in the snapshot")?;
        host.tenantd(["backup", "acme"])?;
        host.write("acme", "note", "newer")?;
        host.tenantd(["restore", "acme"])?;
        let mut notes = ["newer", "in the snapshot"].into_iter().cycle();
        for (point, note) in points(Undo).zip(&mut notes) {
            cut_short(host, Undo, point, "acme", || {
                host.try_tenantd(["restore", "acme", "--undo"])
            })?;
            ends_as(host, "acme", "running", 1).with_context(|| format!("{point} in an undo"))?;
            host.expect("acme", "note", note)
                .with_context(|| format!("{point} in an undo"))?;
        }
        for point in points(Accept) {
            cut_short(host, Accept, point, "acme", || {
                host.try_tenantd(["restore", "acme", "--accept"])
            })?;
            ends_as(host, "acme", "running", 1)?;
            let left = host.machine.script(
                "ls -d /var/lib/tenantd/tenants/acme/{before-restore,discarding}* 2>/dev/null || true",
            )?;
            ensure!(left.trim().is_empty(), "{point} leaves {}", left.stdout);
        }
        Ok(())
    });
}

#[test]
fn an_import_that_is_killed_is_done_by_asking_again() {
    on_host("killed-import", |host| {
        host.apply(&fake("acme"))?;
        host.write("acme", "note", "carried over")?;
        host.tenantd(["backup", "acme"])?;
        let file = "/root/acme.tar.zst";
        host.tenantd(["export", "acme", "--file", file])?;
        for (number, point) in points(Import).enumerate() {
            let tenant = format!("copy-{number}");
            let import = ["import", file, "--as", &tenant];
            cut_short(host, Import, point, &tenant, || host.try_tenantd(import))?;
            host.tenantd(import)?;
            ends_as(host, &tenant, "running", 1)
                .with_context(|| format!("{point} in an import"))?;
            host.expect(&tenant, "note", "carried over")?;
        }
        Ok(())
    });
}

#[test]
fn what_a_drill_that_is_killed_leaves_is_removed() {
    on_host("killed-drill", |host| {
        host.apply(&fake("acme"))?;
        host.tenantd(["backup", "acme"])?;
        let run = host.run_of("acme")?;
        for point in points(Rehearsal) {
            let drill = || host.try_tenantd(["drill", "acme"]);
            cut_short(host, Rehearsal, point, "acme", drill)?;
            let left = host.machine.script("ls -A /var/lib/tenantd/drill")?;
            ensure!(!left.trim().is_empty(), "{point} leaves nothing");
            if point == "drill.started" {
                has_no_way_out(host)?;
            }
            // A tenantd that starts sees to it.
            host.machine.run(["systemctl", "restart", "tenantd"])?;
            host.machine
                .wait_until("the drill's remains to go", LIMIT, |machine| {
                    let left = machine.attempt(["ls", "-A", "/var/lib/tenantd/drill"])?;
                    Ok(if left.code == Some(0) && left.trim().is_empty() {
                        Ok(())
                    } else {
                        Err(format!("{left:?}"))
                    })
                })?;
            nothing_is_left(host).with_context(|| format!("{point} in a drill"))?;
            // And so does the next drill.
            cut_short(host, Rehearsal, point, "acme", drill)?;
            host.tenantd(["drill", "acme"])
                .with_context(|| format!("after {point}"))?;
            nothing_is_left(host).with_context(|| format!("{point} before a drill"))?;
        }
        ensure!(host.run_of("acme")? == run, "the agent was started again");
        Ok(())
    });
}

#[test]
fn a_secret_that_is_set_while_tenantd_is_killed_is_whole_or_absent() {
    on_host("killed-secret", |host| {
        for point in points(Secret) {
            let name = point.replace('.', "_");
            let set = |value: &str| {
                let argv = ["tenantd", "secret", "set", "acme", &name, "-"].map(str::to_owned);
                host.machine.attempt_with(argv, value.as_bytes(), LIMIT)
            };
            cut_short(host, Secret, point, "acme", || set("cut short"))?;
            let list = host.json(["secret", "list", "acme"])?;
            let there = list
                .as_array()
                .is_some_and(|rows| rows.iter().any(|row| row["name"] == name));
            if there {
                let value = host.tenantd(["secret", "reveal", "acme", &name])?;
                ensure!(value.stdout == "cut short", "{point}: {}", value.stdout);
            }
            ensure!(there != (point == "secret.noted"), "{point}: {list}");
            set("whole")?.check()?;
            let value = host.tenantd(["secret", "reveal", "acme", &name])?;
            ensure!(value.stdout == "whole", "{point}: {}", value.stdout);
        }
        Ok(())
    });
}

#[test]
fn an_idle_tenantd_that_is_killed_is_back_and_right_within_two_seconds() {
    on_host("killed-idle", |host| {
        for tenant in ["acme", "foo-bar", "held"] {
            host.apply(&fake(tenant))?;
        }
        host.tenantd(["stop", "held"])?;
        let agents = agents(host)?;
        let pid = host.property("tenantd.service", "MainPID")?;
        let list = host.json(["list"])?;

        let killed = Instant::now();
        host.machine.run(["kill", "-KILL", &pid])?;
        let limit = Duration::from_secs(2);
        host.machine.wait_until("the same list", limit, |_| {
            let found = host.json(["list"]).map_err(|error| format!("{error:#}"));
            Ok(found.and_then(|found| {
                if found == list {
                    Ok(())
                } else {
                    Err(found.to_string())
                }
            }))
        })?;
        let took = killed.elapsed();
        ensure!(took <= limit, "it took {} ms", took.as_millis());
        ensure!(host.property("tenantd.service", "MainPID")? != pid);
        ensure!(self::agents(host)? == agents, "an agent was touched");
        Ok(())
    });
}

/// The processes of all agents.
fn agents(host: &Host<'_>) -> anyhow::Result<Vec<String>> {
    let units = ["acme", "foo-bar", "held"].map(|tenant| format!("tenant-{tenant}.service"));
    units
        .iter()
        .map(|unit| host.property(unit, "MainPID"))
        .collect()
}

/// Runs an operation that is killed at a point, and makes sure that it was; tenantd must come
/// back by itself.
pub fn cut_short(
    host: &Host<'_>,
    drill: Drill,
    point: &str,
    tenant: &str,
    operation: impl FnOnce() -> anyhow::Result<xtask::machine::Output>,
) -> anyhow::Result<()> {
    // Each drill is a crash of its own, not one of a series that systemd slows down.
    host.machine.run(["systemctl", "reset-failed"])?;
    host.arm(point)?;
    let begin = Instant::now();
    let output = operation()?;
    ensure!(
        host.was_hit()?,
        "{point} is not on the way of {drill:?}, which ended with {:?}: {}{}",
        output.code,
        output.stdout,
        output.stderr
    );
    settled(host).with_context(|| format!("{drill:?} of {tenant} cut short at {point}"))?;
    println!(
        "{drill:?} cut short at {point}: {} ms",
        begin.elapsed().as_millis()
    );
    Ok(())
}

/// Waits until tenantd answers and no operation is at work.
fn settled(host: &Host<'_>) -> anyhow::Result<()> {
    host.machine
        .wait_until("tenantd to have nothing to do", LIMIT, |_| {
            Ok(match host.json(["status"]) {
                Ok(status) if status["operations"].as_array().is_some_and(Vec::is_empty) => Ok(()),
                Ok(status) => Err(status.to_string()),
                Err(error) => Err(format!("{error:#}")),
            })
        })
}

/// Makes sure that a tenant stands there with that revision, answers when it runs, and that
/// nothing is frozen.
pub fn ends_as(host: &Host<'_>, tenant: &str, state: &str, revision: u64) -> anyhow::Result<()> {
    let detail = host.json(["show", tenant])?;
    ensure!(
        detail["state"] == state && detail["revision"] == revision,
        "{tenant} is not {state} with revision {revision}: {detail}"
    );
    if state == "running" {
        ensure!(
            host.get(tenant, "/healthz")? == "ok\n",
            "{tenant} does not answer"
        );
        ensure!(detail["good-revision"] == revision, "{detail}");
    }
    let differing = host.tenantd(["units", tenant, "--diff"])?;
    ensure!(differing.trim().is_empty(), "{}", differing.stdout);
    not_frozen(host)
}

/// Waits until no agent is frozen: whoever thaws after a crash is started by it.
pub fn not_frozen(host: &Host<'_>) -> anyhow::Result<()> {
    let look = r"
        ls -A /run/tenantd/frozen
        find /sys/fs/cgroup -path '*tenant*' -name cgroup.freeze -exec grep -l 1 {} +
        true
    ";
    host.machine.wait_until(
        "all agents to be thawed",
        Duration::from_secs(5),
        |machine| {
            let frozen = machine.attempt(["sh", "-c", look])?.stdout;
            Ok(if frozen.is_empty() {
                Ok(())
            } else {
                Err(frozen)
            })
        },
    )
}

/// Makes sure that nothing of a tenant is left.
fn is_gone(host: &Host<'_>, tenant: &str) -> anyhow::Result<()> {
    let list = host.json(["list"])?;
    let listed = list
        .as_array()
        .into_iter()
        .flatten()
        .any(|row| row["id"] == tenant);
    ensure!(!listed, "{list}");
    let escaped = tenant.replace('-', "?x2d");
    let left = host.machine.script(&format!(
        r"find /etc/containers/systemd /etc/systemd /run/netns /run/tenantd/ingress \
               /run/tenantd/frozen /var/lib/tenantd/tenants -name '*{tenant}*' -o -name '*{escaped}*'
          systemctl list-units --all --plain --no-legend '*{tenant}*' '*{escaped}*'
          podman ps --all --format '{{{{.Names}}}}' --filter name={tenant}"
    ))?;
    ensure!(left.trim().is_empty(), "left behind: {}", left.stdout);
    not_frozen(host)
}
