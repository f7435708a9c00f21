//! A full disk: what is asked fails as a whole, says what is full, and works once there is room.

use anyhow::ensure;

use crate::host::{Host, fake, fake_with, on_prepared_host, refused};

/// A data directory of 160 MiB, and a store beside it that is large enough.
const SMALL_DATA: &str = "mkdir -p /var/lib/tenantd /srv/store
    mount -t tmpfs -o size=160M,mode=0711 tmpfs /var/lib/tenantd
    head -c 30M /dev/urandom >/root/blob";

/// A store of 64 MiB.
const SMALL_STORE: &str = "mkdir -p /srv/store
    mount -t tmpfs -o size=64M,mode=0700 tmpfs /srv/store
    for number in 1 2 3; do head -c 20M /dev/urandom >/root/blob$number; done";

const STORE: [&str; 2] = ["--store", "dir:/srv/store"];

const ROOM: &str = "make room there and do the same again";

#[test]
fn with_a_full_data_disk_nothing_is_half_done() {
    on_prepared_host("full-data", SMALL_DATA, &STORE, |host| {
        host.apply(&fake("acme"))?;
        upload(host, "/root/blob")?;
        host.write("acme", "note", "first")?;
        host.tenantd(["backup", "acme"])?;
        host.write("acme", "note", "second")?;
        let run = host.run_of("acme")?;
        let files = files(host)?;

        // Not a byte is left: not even what is asked can be recorded.
        fill(host, "/var/lib/tenantd", 0)?;
        for output in attempts(host)? {
            refused(&output, 1, &["/var/lib/tenantd", ROOM])?;
        }
        stands(host, &run, &files)?;
        // The hourly backup needs no record.
        let unit = "tenantd-backup@acme.service";
        let hourly = host.machine.attempt(["systemctl", "start", unit])?;
        ensure!(!hourly.success(), "a backup succeeded on a full disk");
        let said = host.machine.journal(["--unit", unit])?;
        ensure!(
            said.contains("/var/lib/tenantd") && said.contains("No space left on device"),
            "{said}"
        );
        stands(host, &run, &files)?;
        // So full, tenantd ends and starts as ever.
        host.machine
            .run(["systemctl", "restart", "tenantd.service"])?;
        ensure!(host.state("acme")? == "running");
        stands(host, &run, &files)?;

        // A little room: enough to record, not enough to be safe.
        fill(host, "/var/lib/tenantd", 8)?;
        refused(
            &host.try_apply(&fake("beta"))?,
            1,
            &[
                "applying beta needs 16.0 MiB of room in /var/lib/tenantd, and ",
                " are free; make room",
            ],
        )?;
        stands(host, &run, &files)?;

        // Room for records, not for a snapshot of 30 MB: the agent is not even stopped.
        fill(host, "/var/lib/tenantd", 24)?;
        refused(
            &host.try_tenantd(["restore", "acme"])?,
            1,
            &[
                "restoring snapshot 1 of acme needs ",
                " of room in /var/lib/tenantd, and 2",
            ],
        )?;
        stands(host, &run, &files)?;
        // What cannot be known before ends in the middle, and is taken back.
        refused(
            &host.try_tenantd(["restore", "acme", "--to", "/var/lib/tenantd/beside"])?,
            1,
            &["nothing is left in the target", "No space left on device"],
        )?;
        stands(host, &run, &files)?;

        host.machine.run(["rm", "/var/lib/tenantd/filler"])?;
        for output in attempts(host)? {
            output.check()?;
        }
        host.expect("acme", "note", "second")?;
        ensure!(host.get("acme", "/env")?.contains("A=1"));
        ensure!(host.state("beta")? == "running");
        no_leftovers(host)
    });
}

#[test]
fn a_disk_that_fills_up_in_the_middle_of_an_apply_leaves_no_operation_open() {
    on_prepared_host("filling-data", SMALL_DATA, &STORE, |host| {
        host.apply(&fake("acme"))?;
        let slow = fake_with("acme", "env.FAKE_AGENT_MODE = \"slow-start:6\"");
        host.machine.write("/root/slow.toml", slow)?;
        host.machine.script(
            "systemd-run --quiet --unit=apply --property=RemainAfterExit=yes \
             tenantd apply /root/slow.toml",
        )?;
        let limit = std::time::Duration::from_mins(1);
        host.machine
            .wait_until("the new agent to start", limit, |_| {
                let shown = host.json(["status"])?;
                let step = shown["operations"][0]["step"].as_str().unwrap_or_default();
                Ok(match step {
                    // It was stopped for the clone of its state.
                    "start the agent" => Ok(()),
                    other => Err(other.to_owned()),
                })
            })?;
        fill(host, "/var/lib/tenantd", 0)?;
        host.machine.wait_until("the apply to end", limit, |_| {
            let state = host.property("apply.service", "SubState")?;
            Ok(if state == "running" {
                Err(state)
            } else {
                Ok(())
            })
        })?;
        // Whether its end could be recorded or not, the agent serves.
        host.get("acme", "/healthz")?;
        host.machine.run(["rm", "/var/lib/tenantd/filler"])?;

        // With room, the same works, and no operation is taken up a second time.
        host.machine.run(["tenantd", "apply", "/root/slow.toml"])?;
        ensure!(host.get("acme", "/env")?.contains("slow-start:6"));
        let run = host.run_of("acme")?;
        host.machine
            .run(["systemctl", "restart", "tenantd.service"])?;
        host.wait_for_state("acme", "running")?;
        ensure!(host.run_of("acme")? == run, "the agent was restarted");
        let log = host.machine.journal(["--unit", "tenantd.service"])?;
        ensure!(!log.contains("taking up an operation"), "{log}");
        no_leftovers(host)
    });
}

#[test]
fn with_a_full_store_only_backups_fail() {
    on_prepared_host("full-store", SMALL_STORE, &STORE, |host| {
        host.apply(&fake("acme"))?;
        upload(host, "/root/blob1")?;
        host.write("acme", "note", "first")?;
        host.tenantd(["backup"])?;
        upload(host, "/root/blob2")?;
        host.write("acme", "note", "second")?;
        fill(host, "/srv/store", 0)?;
        let files = files(host)?;
        let run = host.run_of("acme")?;

        let full = "no space or over the account's cap; make room: No space left on device";
        refused(
            &host.try_tenantd(["backup", "acme"])?,
            1,
            &[
                "the backup of tenant acme failed",
                "storing /srv/store/",
                full,
            ],
        )?;
        // Of all, each that failed is named.
        refused(
            &host.try_tenantd(["backup"])?,
            1,
            &[
                "the backup of tenant acme failed",
                "the backup of the node failed",
                full,
            ],
        )?;
        stands(host, &run, &files)?;
        ensure!(snapshots(host)? == 1);

        // What is there can be read, and a tenant needs no store to change.
        host.tenantd(["restore", "acme"])?;
        host.expect("acme", "note", "first")?;
        host.apply(&fake_with("acme", "env.A = \"1\""))?;
        host.apply(&fake("beta"))?;

        host.machine.run(["rm", "/srv/store/filler"])?;
        upload(host, "/root/blob3")?;
        host.tenantd(["backup"])?;
        ensure!(snapshots(host)? == 2);
        no_leftovers(host)
    });
}

/// Fills a file system, but for so many MiB.
fn fill(host: &Host<'_>, directory: &str, but: u32) -> anyhow::Result<()> {
    host.machine.script(&format!(
        "cd {directory}
         rm -f filler
         head -c 1G /dev/zero >filler 2>/dev/null || truncate --size=-{but}M filler"
    ))?;
    Ok(())
}

/// Has the agent write a large file into its state.
fn upload(host: &Host<'_>, file: &str) -> anyhow::Result<()> {
    let data = format!("@{file}");
    host.request("acme", "/write?name=blob", &["--data-binary", &data])?
        .check()?;
    Ok(())
}

/// What an operator may ask for, in an order in which all of it works when there is room.
fn attempts(host: &Host<'_>) -> anyhow::Result<[xtask::machine::Output; 4]> {
    Ok([
        host.try_apply(&fake_with("acme", "env.A = \"1\""))?,
        host.try_apply(&fake("beta"))?,
        host.try_tenantd(["backup", "acme"])?,
        host.try_tenantd(["restore", "acme"])?,
    ])
}

/// All files below the data directory, but for the database's own and the node's staged snapshot,
/// which is kept from one backup to the next.
fn files(host: &Host<'_>) -> anyhow::Result<String> {
    let found = host.machine.script(
        "find /var/lib/tenantd ! -name 'state.db-*' ! -name filler \
              ! -path '*/node-snapshot*' ! -path '*/.node*' | sort",
    )?;
    Ok(found.stdout)
}

/// The agent runs on as it did, answers, and nothing is left of what failed.
fn stands(host: &Host<'_>, run: &str, before: &str) -> anyhow::Result<()> {
    ensure!(host.run_of("acme")? == run, "the agent was restarted");
    host.expect("acme", "note", "second")?;
    let frozen = host.machine.run(["ls", "-A", "/run/tenantd/frozen"])?;
    ensure!(frozen.trim().is_empty(), "frozen: {}", frozen.stdout);
    let after = files(host)?;
    ensure!(after == before, "before:\n{before}\nafter:\n{after}");
    ensure!(
        host.tenantd(["units", "acme", "--diff"])?.stdout.is_empty(),
        "the installed units differ"
    );
    Ok(())
}

fn snapshots(host: &Host<'_>) -> anyhow::Result<usize> {
    let list = host.json(["snapshots", "acme"])?;
    Ok(list.as_array().map_or(0, Vec::len))
}

/// Whatever is written under another name first has got its name, or is gone.
fn no_leftovers(host: &Host<'_>) -> anyhow::Result<()> {
    let left = host.machine.script(
        r"find /var/lib/tenantd /srv/store /etc/containers/systemd /etc/systemd -name '*.tmp' \
               -o -name '*.new' -o -name '.tmp-*' -o -name clone -o -name restoring \
               -o -name replaced -o -name intent",
    )?;
    ensure!(left.trim().is_empty(), "left behind: {}", left.stdout);
    Ok(())
}
