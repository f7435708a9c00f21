//! A tenant ends: it can be reclaimed as it was, until its retention is over or it is purged; then nothing is left of it.

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::host::{Host, LIMIT, fake, fake_with, on_host, refused};

/// A plan whose retention is over at once.
const HASTY: &str = r#"name = "hasty"
description = "for tests: erased as soon as it is removed"

[limits]
cpus = 0.5
memory = "512MiB"
storage = "1GiB"
pids = 256
io-weight = 100
log-size = "16MiB"
log-retention = "1d"
egress = "1GiB"
retention = "1s"
"#;

#[test]
fn a_removed_tenant_is_reclaimed_as_it_was() {
    on_host("reclaim", |host| {
        host.apply(&fake("foo-bar"))?;
        host.apply(&fake_with("foo-bar", "env.EDITION = \"2\""))?;
        host.write("foo-bar", "note", "kept")?;
        host.tenantd(["suspend", "foo-bar", "--reason", "billing"])?;
        let (digest, before) = (digest(host)?, host.json(["show", "foo-bar"])?);

        let removed = host.tenantd(["remove", "foo-bar"])?;
        ensure!(
            removed.stderr.contains("tenantd reclaim foo-bar"),
            "{removed:?}"
        );
        ensure!(row(host, &["list"])?.is_none(), "it is listed");
        let shown = row(host, &["list", "--all"])?.context("it is not listed with --all")?;
        ensure!(
            shown["state"] == "terminated" && shown["erase-at"].is_string(),
            "{shown}"
        );
        // Only what ends it, one way or the other, is not refused.
        refused(
            &host.try_apply(&fake("foo-bar"))?,
            5,
            &["tenantd reclaim foo-bar", "--purge"],
        )?;
        for verb in [
            "start", "stop", "restart", "suspend", "resume", "backup", "restore", "remove",
        ] {
            let output = host.try_tenantd([verb, "foo-bar"])?;
            refused(&output, 5, &["is terminated and will be erased after"])?;
        }

        host.machine.run(["systemctl", "restart", "tenantd"])?;
        host.tenantd(["reclaim", "foo-bar"])?;
        let after = host.json(["show", "foo-bar"])?;
        for key in [
            "state",
            "reason",
            "wanted",
            "revision",
            "image-id",
            "first-uid",
        ] {
            ensure!(
                after[key] == before[key],
                "{key}: {} is {}",
                before[key],
                after[key]
            );
        }
        ensure!(self::digest(host)? == digest, "its state is another");
        refused(
            &host.try_tenantd(["reclaim", "foo-bar"])?,
            5,
            &["nothing to reclaim"],
        )?;
        host.tenantd(["resume", "foo-bar"])?;
        host.expect("foo-bar", "note", "kept")?;
        ensure!(host.get("foo-bar", "/env")?.contains("EDITION=2\n"));

        let edges: Vec<_> = after["transitions"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|line| line["edge"].as_str())
            .collect();
        ensure!(
            edges.starts_with(&["suspend", "reclaim", "terminate", "suspend"]),
            "{edges:?}"
        );
        Ok(())
    });
}

#[test]
fn when_its_retention_is_over_nothing_is_left_of_a_tenant() {
    on_host("erased", |host| {
        host.machine
            .write("/etc/tenantd/plans.d/hasty.toml", HASTY)?;
        host.tenantd(["reload"])?;
        let begun: usize = keys_in_store(host)?;
        for tenant in ["x-over", "x-purged", "x-away"] {
            host.apply(&fake_with(tenant, "").replace("image", "plan = \"hasty\"\nimage"))?;
            host.write(tenant, "note", "secret")?;
            host.tenantd(["backup", tenant])?;
        }
        ensure!(keys_in_store(host)? == begun + 3);

        host.tenantd(["remove", "x-over"])?;
        host.machine.wait_until("it to be erased", LIMIT, |_| {
            Ok(match host.try_tenantd(["show", "x-over"])?.code {
                Some(4) => Ok(()),
                code => Err(format!("{code:?}")),
            })
        })?;
        host.tenantd(["remove", "x-purged", "--purge", "--yes"])?;
        ensure!(
            keys_in_store(host)? == begun + 1,
            "their keys are still there"
        );

        // A store that is out of reach: the tenant is gone, and the rest is remembered and done later.
        host.machine.run([
            "mv",
            "/var/lib/tenantd/backups",
            "/var/lib/tenantd/elsewhere",
        ])?;
        let output = host.tenantd(["remove", "x-away", "--purge", "--yes"])?;
        ensure!(output.stderr.contains("erasure pending"), "{output:?}");
        ensure!(
            host.tenantd(["status"])?
                .stdout
                .contains("x-away: erasure pending since")
        );
        host.machine.script(
            "rm -rf /var/lib/tenantd/backups
             mv /var/lib/tenantd/elsewhere /var/lib/tenantd/backups
             systemctl restart tenantd",
        )?;
        host.machine
            .wait_until("the keys to be erased", LIMIT, |_| {
                Ok(match keys_in_store(host) {
                    Ok(count) if count == begun => Ok(()),
                    other => Err(format!("{other:?}")),
                })
            })?;
        ensure!(!host.tenantd(["status"])?.stdout.contains("erasure pending"));

        for tenant in ["x-over", "x-purged", "x-away"] {
            let escaped = tenant.replace('-', "?x2d");
            let left = host.machine.script(&format!(
                r"find /etc/systemd /etc/containers /run/netns /run/tenantd /var/lib/tenantd/tenants \
                       /var/lib/tenantd/repositories /var/log/journal /run/log/journal \
                       '(' -name '*{tenant}*' -o -name '*{escaped}*' ')'
                  systemctl list-units --all --plain --no-legend '*{tenant}*' '*{escaped}*'"
            ))?;
            ensure!(left.trim().is_empty(), "left behind: {}", left.stdout);
        }
        // The name is free, and means somebody new.
        host.apply(&fake("x-purged"))?;
        ensure!(
            host.request("x-purged", "/read?name=note", &[])?.code != Some(0),
            "the old state is back"
        );
        Ok(())
    });
}

/// How many repositories of the store can be read by whoever has the identity.
fn keys_in_store(host: &Host<'_>) -> anyhow::Result<usize> {
    let found = host
        .machine
        .script("{ find /var/lib/tenantd/backups -path '*keys*' -type f || true; } | wc -l")?;
    Ok(found.trim().parse()?)
}

/// Over names, modes and content of all state of foo-bar.
fn digest(host: &Host<'_>) -> anyhow::Result<String> {
    let script = "cd /var/lib/tenantd/tenants/foo-bar
                  tar -cf - --sort=name --numeric-owner state cache | sha256sum";
    Ok(host.machine.script(script)?.stdout)
}

/// The row of foo-bar in a list.
fn row(host: &Host<'_>, command: &[&str]) -> anyhow::Result<Option<Value>> {
    let list = match command {
        ["list"] => host.json(["list"])?,
        _ => host.json(["list", "--all"])?,
    };
    let rows = list.as_array().cloned().unwrap_or_default();
    Ok(rows.into_iter().find(|row| row["id"] == "foo-bar"))
}
