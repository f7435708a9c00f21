//! Drills: a snapshot comes to life beside its tenant, what is wrong with it is named, and nothing of it stays.

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::host::{Host, LIMIT, fake, fake_with, on_host, refused};

/// Where the operator keeps the identity.
const IDENTITY: &str = "/root/identity.txt";

/// Makes sure that nothing of any drill is left.
pub fn nothing_is_left(host: &Host<'_>) -> anyhow::Result<()> {
    let left = host.machine.script(
        "find /run/netns /run/systemd/system /var/lib/tenantd/drill -name 'drill-*' -o -path '*/drill/*' 2>/dev/null || true
         podman ps --all --format '{{.Names}}' --filter name=drill-
         systemctl list-units --all --plain --no-legend 'drill-*'
         grep -o '/run/netns/drill-[^ ]*' /proc/self/mounts || true",
    )?;
    ensure!(left.trim().is_empty(), "a drill leaves {}", left.stdout);
    Ok(())
}

/// Makes sure that the scratch agent of `acme`, which a killed drill has left running, is cut off from everything.
pub fn has_no_way_out(host: &Host<'_>) -> anyhow::Result<()> {
    let devices = host
        .machine
        .script("nsenter --net=/run/netns/drill-acme cut -d: -f1 /proc/net/dev | tail -n +3")?;
    ensure!(devices.trim() == "lo", "{}", devices.stdout);
    let mounts = host.machine.script(
        "podman inspect drill-acme --format '{{range .Mounts}}{{.Source}} {{end}}'
         podman inspect drill-acme --format '{{.State.CgroupPath}}'",
    )?;
    ensure!(
        mounts
            .stdout
            .contains("/var/lib/tenantd/drill/acme/state/data"),
        "{}",
        mounts.stdout
    );
    ensure!(!mounts.stdout.contains("/run/"), "{}", mounts.stdout);
    ensure!(!mounts.stdout.contains("tenants/"), "{}", mounts.stdout);
    ensure!(
        mounts
            .stdout
            .contains("tenantd-backup.slice/drill-acme.service"),
        "{}",
        mounts.stdout
    );
    Ok(())
}

/// What `show` says of the last drill.
fn remembered(host: &Host<'_>, tenant: &str) -> anyhow::Result<Value> {
    Ok(host.json(["show", tenant])?["checks"]["drill"].take())
}

/// A database of 200 KiB in the fake agent's state, made by the machine's own Python.
fn database(host: &Host<'_>, tenant: &str, then: &str) -> anyhow::Result<()> {
    let path = format!("/var/lib/tenantd/tenants/{tenant}/state/data/notes.db");
    let script = format!(
        "import sqlite3\n\
         path = '{path}'\n\
         db = sqlite3.connect(path)\n\
         db.execute('CREATE TABLE IF NOT EXISTS note (id INTEGER PRIMARY KEY, text TEXT)')\n\
         db.executemany('INSERT INTO note (text) VALUES (?)', [(('%d ' % i) * 40,) for i in range(1000)])\n\
         db.commit()\n\
         db.close()\n\
         {then}\n"
    );
    let python = ["python3", "-"].map(str::to_owned);
    host.machine
        .attempt_with(python, script.as_bytes(), LIMIT)?
        .check()?;
    Ok(())
}

#[test]
fn a_drill_brings_a_good_snapshot_to_life_and_names_what_is_broken_in_another() {
    on_host("drill", |host| {
        for tenant in ["acme", "foo-bar"] {
            host.apply(&fake(tenant))?;
            host.write(tenant, "note", "as it was")?;
            database(host, tenant, "")?;
        }
        let damage = "with open(path, 'r+b') as file:\n    file.seek(40960)\n    file.write(b'\\xa5' * 8192)";
        database(host, "foo-bar", damage)?;
        host.tenantd(["backup"])?;
        host.write("acme", "note", "newer")?;
        let runs = ["acme", "foo-bar"].map(|tenant| host.run_of(tenant));

        let drilled = host.json(["drill", "acme"])?;
        let acme = &drilled[0];
        ensure!(acme["outcome"] == "good", "{drilled:#}");
        ensure!(acme["databases"]["sound"] == 1, "{drilled:#}");
        ensure!(acme["ready-after-ms"].is_u64(), "{drilled:#}");
        nothing_is_left(host)?;
        ensure!(remembered(host, "acme")?["outcome"] == "good");

        // All of them: the good one again, the other one with what is wrong.
        let output = host.try_tenantd(["drill"])?;
        refused(&output, 1, &["1 of 2 drills are not good"])?;
        ensure!(output.stdout.contains("data/notes.db: "), "{output:?}");
        nothing_is_left(host)?;
        let checked = remembered(host, "foo-bar")?;
        ensure!(checked["outcome"] == "faulty", "{checked}");
        let detail = checked["detail"].as_str().context("no detail")?;
        ensure!(detail.starts_with("data/notes.db: "), "{detail}");
        let list = host.tenantd(["list"])?.stdout;
        ensure!(
            list.contains("the last drill of its backups failed"),
            "{list}"
        );

        // The tenants themselves saw nothing of it.
        for (tenant, run) in ["acme", "foo-bar"].into_iter().zip(runs) {
            ensure!(host.run_of(tenant)? == run?, "{tenant} was started again");
            ensure!(host.get(tenant, "/starts")? == "1\n");
        }
        host.expect("acme", "note", "newer")
    });
}

#[test]
fn a_drill_that_is_asked_to_end_removes_what_it_made() {
    on_host("drill-ended", |host| {
        host.apply(&fake_with("acme", "env.FAKE_AGENT_MODE = \"slow-start:8\""))?;
        host.tenantd(["backup", "acme"])?;
        let run = host.run_of("acme")?;
        let ended = host.machine.script(
            "tenantd drill acme 2>&1 & drill=$!
             until systemctl --quiet is-active drill-acme.service; do kill -0 $drill; sleep 0.1; done
             tenantd drill acme 2>&1 && exit 1
             kill -TERM $drill
             wait $drill || echo ended with $?",
        )?;
        ensure!(
            ended.stdout.contains("another drill is at work"),
            "{}",
            ended.stdout
        );
        ensure!(
            ended.stdout.contains("what it had made is removed"),
            "{}",
            ended.stdout
        );
        ensure!(ended.stdout.contains("ended with 1\n"), "{}", ended.stdout);
        nothing_is_left(host)?;
        ensure!(host.run_of("acme")? == run);
        ensure!(remembered(host, "acme")?.is_null());
        Ok(())
    });
}

#[test]
fn a_drill_says_that_an_agent_does_not_come_up_and_the_monthly_one_what_it_lacks() {
    on_host("drill-monthly", |host| {
        host.apply(&fake("acme"))?;
        host.tenantd(["backup", "acme"])?;
        host.machine
            .script("systemd-analyze verify tenantd-drill.timer")?;
        host.machine
            .run(["systemctl", "start", "tenantd-drill.service"])?;
        let good = remembered(host, "acme")?;
        ensure!(good["outcome"] == "good", "{good}");
        nothing_is_left(host)?;

        // The snapshot of an agent that cannot start from it: its counter is a directory.
        let state = "/var/lib/tenantd/tenants/acme/state/data";
        host.machine.script(&format!(
            "mv {state}/starts {state}/starts.kept; mkdir {state}/starts"
        ))?;
        host.tenantd(["backup", "acme"])?;
        host.machine.script(&format!(
            "rmdir {state}/starts; mv {state}/starts.kept {state}/starts"
        ))?;
        let output = host.try_tenantd(["drill", "acme"])?;
        refused(&output, 1, &["1 of 1 drills"])?;
        ensure!(
            output.stdout.contains("journalctl -u drill-acme.service"),
            "{output:?}"
        );
        nothing_is_left(host)?;
        let faulty = remembered(host, "acme")?;
        ensure!(faulty["outcome"] == "faulty", "{faulty}");

        // Without an identity, the command says so and the timer's unit changes nothing that was found.
        host.machine
            .run(["mv", "/var/lib/tenantd/keys/identity.txt", IDENTITY])?;
        let output = host.try_tenantd(["drill", "acme"])?;
        refused(&output, 1, &["no identity is on this host"])?;
        host.machine
            .run(["systemctl", "start", "tenantd-drill.service"])?;
        ensure!(remembered(host, "acme")? == faulty);
        host.apply(&fake("foo-bar"))?;
        host.machine
            .run(["systemctl", "start", "tenantd-drill.service"])?;
        let skipped = remembered(host, "foo-bar")?;
        ensure!(skipped["outcome"] == "skipped", "{skipped}");
        ensure!(
            skipped["detail"]
                .as_str()
                .is_some_and(|why| why.contains("no identity"))
        );

        host.tenantd(["backup", "acme"])?;
        host.tenantd(["drill", "acme", "--identity", IDENTITY])?;
        ensure!(remembered(host, "acme")?["outcome"] == "good");
        nothing_is_left(host)
    });
}
