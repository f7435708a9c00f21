//! What a host's own ends and beginnings do to tenants: reboot, power cut, power off, lost state.
//!
//! No machine here has a network but its loopback, so every boot is one without a network.

use anyhow::{Context as _, ensure};

use crate::host::{Host, LIMIT, fake, on_host};

/// How long after the start of the boot a tenant that has its state may take to run.
const UP: u64 = 20_000_000;

const DATA: &str = "/var/lib/tenantd/tenants/acme/state/data";

/// With this, tenantd does not start, whoever asks.
const FORBIDDEN: &str = "/etc/systemd/system/tenantd.service.d/forbidden.conf";

#[test]
fn tenants_come_back_from_a_reboot_and_from_a_power_cut_without_tenantd() {
    on_host("reboot", |host| {
        for tenant in ["acme", "foo-bar"] {
            host.apply(&fake(tenant))?;
            host.write(tenant, "note", tenant)?;
        }

        // A reboot.
        host.machine.reboot()?;
        up_in_time(host, &["acme", "foo-bar"])?;

        // A reboot of a host whose tenantd cannot start.
        forbid_tenantd(host)?;
        host.machine.reboot()?;
        ensure!(host.property("tenantd.service", "ActiveState")? == "inactive");
        up_in_time(host, &["acme", "foo-bar"])?;

        // A power cut, and tenantd still cannot start.
        host.write("acme", "note", "written right before the power cut")?;
        host.machine.kill()?;
        host.machine.boot()?;
        ensure!(host.property("tenantd.service", "ActiveState")? == "inactive");
        up_in_time(host, &["acme", "foo-bar"])?;
        host.expect("acme", "note", "written right before the power cut")?;

        // With tenantd back, it sees what runs and touches none of it.
        let before = host.property("tenant-acme.service", "MainPID")?;
        host.machine.run(["rm", FORBIDDEN])?;
        host.machine.run(["systemctl", "daemon-reload"])?;
        host.start_daemon()?;
        host.wait_for_state("acme", "running")?;
        host.wait_for_state("foo-bar", "running")?;
        ensure!(host.property("tenant-acme.service", "MainPID")? == before);
        host.tenantd(["backup"])?;
        Ok(())
    });
}

#[test]
fn a_power_cut_in_the_middle_of_an_apply_ends_as_wanted() {
    on_host("power-cut", |host| {
        host.apply(&fake("acme"))?;
        host.write("acme", "note", "kept")?;
        host.machine.write("/var/tmp/late.toml", fake("late"))?;
        host.machine
            .script("tenantd apply /var/tmp/late.toml >/dev/null 2>&1 &")?;
        let installed = "/etc/containers/systemd/tenantd/late/tenant-late.container";
        host.machine.wait_for(["test", "-e", installed], LIMIT)?;
        host.machine.kill()?;
        host.machine.boot()?;
        host.wait_for_state("acme", "running")?;
        host.wait_for_state("late", "running")?;
        host.expect("acme", "note", "kept")?;
        ensure!(host.get("late", "/healthz")? == "ok\n");
        Ok(())
    });
}

#[test]
fn the_final_backup_of_a_stopping_host_holds_the_last_write() {
    on_host("poweroff", |host| {
        host.apply(&fake("acme"))?;
        host.tenantd(["backup", "acme"])?;
        let before = newest(host)?;

        host.write("acme", "note", "written right before the end")?;
        host.machine.poweroff()?;
        host.machine.boot()?;
        host.wait_for_state("acme", "running")?;

        let after = newest(host)?;
        ensure!(after > before, "snapshot {after} is the newest, as before");
        let restored = "/var/tmp/final";
        host.tenantd(["restore", "acme", "--to", restored])?;
        let note = host.machine.read(&format!("{restored}/data/note"))?;
        ensure!(note == "written right before the end", "{note:?}");
        // The agent writes this when it is told to end: only a backup after that has it.
        let ended = host
            .machine
            .read(&format!("{restored}/data/last-shutdown"))?;
        ensure!(ended == "1\n", "{ended:?}");
        let owner =
            host.machine
                .run(["stat", "--format=%u:%g", &format!("{restored}/data/note")])?;
        ensure!(owner.trim() == "1000:1000", "{}", owner.stdout);
        Ok(())
    });
}

#[test]
fn a_start_without_state_is_a_restore_first() {
    on_host("empty-state", |host| {
        host.apply(&fake("acme"))?;
        host.write("acme", "note", "precious")?;
        host.tenantd(["backup", "acme"])?;

        // Stopped by the operator, with tenantd.
        host.tenantd(["stop", "acme"])?;
        lose_state(host)?;
        host.tenantd(["start", "acme"])?;
        host.expect("acme", "note", "precious")?;
        // The snapshot knows of one start. An agent that had begun without state would count anew.
        host.expect("acme", "starts", "2\n")?;

        // Found at boot, without tenantd. By a power cut: a clean end would back up what is there,
        // which is nothing.
        forbid_tenantd(host)?;
        host.machine.run(["systemctl", "stop", "tenantd.service"])?;
        host.machine
            .run(["systemctl", "stop", "tenant-acme.service"])?;
        lose_state(host)?;
        host.machine.run(["sync"])?;
        host.machine.kill()?;
        host.machine.boot()?;
        up_in_time(host, &["acme"])?;
        host.expect("acme", "note", "precious")?;
        host.expect("acme", "starts", "2\n")?;
        Ok(())
    });
}

/// Has no boot from here on start tenantd.
fn forbid_tenantd(host: &Host<'_>) -> anyhow::Result<()> {
    host.machine
        .write(FORBIDDEN, "[Unit]\nConditionPathExists=!/\n")?;
    host.machine.run(["systemctl", "daemon-reload"])?;
    Ok(())
}

/// Empties the state's mounts of a tenant that does not run.
fn lose_state(host: &Host<'_>) -> anyhow::Result<()> {
    ensure!(host.property("tenant-acme.service", "ActiveState")? != "active");
    host.machine.script(&format!(
        "find {DATA} -mindepth 1 -delete; test -z \"$(ls -A {DATA})\""
    ))?;
    Ok(())
}

/// The number of the newest snapshot of acme.
fn newest(host: &Host<'_>) -> anyhow::Result<u64> {
    let snapshots = host.json(["snapshots", "acme"])?;
    let numbers = snapshots
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| row["snapshot"].as_u64());
    numbers.max().flatten().context("acme has no snapshot")
}

/// Waits until every tenant answers with its own data; then judges by systemd's clock whether
/// each was up in time, and by its log whether all units kept their order.
fn up_in_time(host: &Host<'_>, tenants: &[&str]) -> anyhow::Result<()> {
    let boot: u64 = host
        .machine
        .run([
            "systemctl",
            "show",
            "--value",
            "--property=UserspaceTimestampMonotonic",
        ])?
        .trim()
        .parse()?;
    for tenant in tenants {
        let unit = format!("tenant-{tenant}.service");
        host.machine
            .wait_for(["systemctl", "is-active", &unit], LIMIT)?;
        let active: u64 = host
            .property(&unit, "ActiveEnterTimestampMonotonic")?
            .parse()?;
        let took = active.saturating_sub(boot);
        ensure!(
            took <= UP,
            "{tenant} was up {} ms after the boot",
            took / 1000
        );
        ensure!(
            host.get(tenant, "/healthz")? == "ok\n",
            "{tenant} does not answer"
        );
        ensure!(!host.get(tenant, "/read?name=note")?.is_empty());
    }
    // Of this boot, and of the end of the one before.
    let log = host
        .machine
        .run(["journalctl", "--no-pager", "--output=cat"])?
        .stdout;
    let cycle = log.lines().find(|line| line.contains("ordering cycle"));
    ensure!(cycle.is_none(), "{cycle:?}");
    Ok(())
}
