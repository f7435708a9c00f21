//! A host is lost with all its disks; what is left is the operator's keys and the object store.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::host::{Host, fake, fake_with, on_host};

/// Saves the keys, which an operator has elsewhere, and the program.
const SAVE: &str = r"
    mkdir -p /var/tmp/operator
    cp -a /var/lib/tenantd/keys/root.key /var/lib/tenantd/keys/identity.txt /var/tmp/operator/
    chmod 600 /var/tmp/operator/*
    ssh-keygen -y -f /var/tmp/operator/root.key >/var/tmp/operator/root.pub
    grep -oE 'age1[0-9a-z]+' /etc/tenantd/node.toml | head -n 1 >/var/tmp/operator/recipient
    systemctl stop tenantd.service
    cp /usr/local/bin/tenantd /var/tmp/tenantd
";

/// Another machine, as empty as one can be that is the same.
const LOSE: &str = r"
    /run/repository/packaging/install.sh --uninstall --purge
    ls -d /var/lib/tenantd /etc/tenantd /run/netns/tenant* >&2 && exit 1
    podman ps --all --quiet | grep . >&2 && exit 1
    systemctl list-units --plain --no-legend 'tenant-*' 'tenantd-*@*' '*@tenant-*' | grep . >&2 && exit 1
    find /etc/systemd /etc/containers -name '*tenant*' | grep . >&2 && exit 1
    true
";

#[test]
fn a_lost_host_is_rebuilt_from_the_operators_keys_and_the_store() {
    on_host("lost-host", |host| {
        // Three tenants: one updated once, one stopped, one suspended.
        for tenant in ["acme", "foo-bar", "backup"] {
            host.apply(&fake(tenant))?;
            host.write(tenant, "note", &format!("of {tenant}"))?;
        }
        host.apply(&fake_with("acme", "env.EDITION = \"second\""))?;
        host.tenantd(["stop", "foo-bar"])?;
        host.tenantd(["suspend", "backup", "--reason", "billing"])?;
        host.tenantd(["backup"])?;
        let (rows, snapshots) = (tenants(host)?, newest(host)?);
        ensure!(rows["acme"]["revision"] == 2, "{rows:?}");
        ensure!(
            snapshots.len() == 4,
            "three tenants and the node: {snapshots:?}"
        );

        save_keys(host)?;
        host.machine
            .run(["cp", "-a", "/var/lib/tenantd/backups", "/var/tmp/backups"])?;
        rebuild(host, &[], || {
            let put_back = "mkdir -p /var/lib/tenantd; mv /var/tmp/backups /var/lib/tenantd/";
            host.machine.script(put_back)?;
            Ok(())
        })?;

        host.wait_for_state("acme", "running")?;
        host.expect("acme", "note", "of acme")?;
        ensure!(host.get("acme", "/env")?.contains("EDITION=second"));
        let found = tenants(host)?;
        ensure!(found.keys().eq(rows.keys()), "{found:?}");
        for (tenant, row) in &rows {
            for field in ["state", "wanted", "revision", "image"] {
                let (found, was) = (&found[tenant][field], &row[field]);
                ensure!(found == was, "{tenant}: {field} was {was} and is {found}");
            }
        }

        // All of them have their state, held or not, and need the identity no more.
        for tenant in rows.keys() {
            let note = format!("/var/lib/tenantd/tenants/{tenant}/state/data/note");
            ensure!(host.machine.read(&note)? == format!("of {tenant}"));
        }
        let orders = host.machine.script("ls -A /run/tenantd/restore")?.stdout;
        ensure!(orders.is_empty(), "orders are left: {orders}");

        // Held tenants are down, and have their data when they are let go.
        for (tenant, verb) in [("foo-bar", "start"), ("backup", "resume")] {
            let unit = format!("tenant-{tenant}.service");
            ensure!(
                host.property(&unit, "ActiveState")? == "inactive",
                "{tenant} is not held"
            );
            host.tenantd([verb, tenant])?;
            host.expect(tenant, "note", &format!("of {tenant}"))?;
        }

        // Backups go on where they ended.
        for tenant in ["acme", "foo-bar", "backup"] {
            host.write(tenant, "note", &format!("new of {tenant}"))?;
        }
        host.tenantd(["backup"])?;
        let continued = newest(host)?;
        for (tenant, number) in &snapshots {
            let new = continued.get(tenant);
            ensure!(
                new > Some(number),
                "{tenant}: {new:?} does not continue {number}"
            );
        }
        let identity = "/var/tmp/operator/identity.txt";
        host.tenantd([
            "restore",
            "acme",
            "--to",
            "/var/tmp/beside",
            "--identity",
            identity,
        ])?;
        ensure!(host.machine.read("/var/tmp/beside/data/note")? == "new of acme");
        Ok(())
    });
}

/// Stops the daemon and saves what an operator has elsewhere.
pub fn save_keys(host: &Host<'_>) -> anyhow::Result<()> {
    host.machine.script(SAVE)?;
    Ok(())
}

/// Loses the host, sets up another one with the operator's keys and these options of `init`, and
/// brings all back. The root key and the identity stay with the operator.
pub fn rebuild(
    host: &Host<'_>,
    options: &[String],
    put_store_back: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    host.machine.script(LOSE)?;
    host.machine.run([
        "/run/repository/packaging/install.sh",
        "--binary",
        "/var/tmp/tenantd",
    ])?;
    put_store_back()?;
    let recipient = host.machine.read("/var/tmp/operator/recipient")?;
    let keys = [
        "--root-key",
        "/var/tmp/operator/root.pub",
        "--recipient",
        recipient.trim(),
    ];
    let options: Vec<_> = keys
        .map(str::to_owned)
        .into_iter()
        .chain(options.iter().cloned())
        .collect();
    let shown = host.init("new-host", &options)?;
    certify(host, &shown.stdout)?;
    host.start_daemon()?;
    host.tenantd([
        "restore",
        "--node",
        "--identity",
        "/var/tmp/operator/identity.txt",
    ])?;
    Ok(())
}

/// Signs the node's statement the way that `init` has just said, as the operator would.
fn certify(host: &Host<'_>, shown: &str) -> anyhow::Result<()> {
    let said = |start: &str| {
        let found = shown
            .lines()
            .map(str::trim)
            .find(|line| line.starts_with(start));
        found.with_context(|| format!("init does not say `{start} …`: {shown}"))
    };
    let sign = said("ssh-keygen -Y sign")?.replace("ROOT", "/var/tmp/operator/root.key");
    let install = said("tenantd init --certificate")?;
    host.machine.script(&format!("{sign}\n{install}"))?;
    Ok(())
}

/// The rows of `list`, by tenant.
fn tenants(host: &Host<'_>) -> anyhow::Result<BTreeMap<String, Value>> {
    let list = host.json(["list"])?;
    let rows = list.as_array().cloned().unwrap_or_default();
    Ok(rows
        .into_iter()
        .map(|row| (row["id"].as_str().unwrap_or_default().to_owned(), row))
        .collect())
}

/// The newest snapshot's number of every tenant and of the node.
fn newest(host: &Host<'_>) -> anyhow::Result<BTreeMap<String, u64>> {
    let list = host.json(["snapshots"])?;
    let mut newest = BTreeMap::new();
    for row in list.as_array().into_iter().flatten() {
        let tenant = row["tenant"]
            .as_str()
            .context("a snapshot without tenant")?;
        let number = row["snapshot"]
            .as_u64()
            .context("a snapshot without number")?;
        let highest = newest.entry(tenant.to_owned()).or_insert(number);
        *highest = number.max(*highest);
    }
    Ok(newest)
}
