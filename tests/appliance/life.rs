//! The main job: a tenant is applied, answers, is backed up and restored, is held, is removed.

use anyhow::ensure;

use crate::host::{fake, on_host, refused};

#[test]
fn a_tenant_is_applied_backed_up_restored_and_removed() {
    on_host("life", |host| {
        host.apply(&fake("foo-bar"))?;
        ensure!(host.state("foo-bar")? == "running");
        host.write("foo-bar", "note", "first")?;
        host.tenantd(["backup", "foo-bar"])?;
        host.write("foo-bar", "note", "second")?;
        host.tenantd(["restore", "foo-bar"])?;
        host.expect("foo-bar", "note", "first")?;

        // What was there is kept until told: put back, and put back again, and given up.
        let kept = host.json(["show", "foo-bar"])?["kept"].clone();
        ensure!(
            kept["bytes"].as_u64().is_some_and(|bytes| bytes > 0),
            "{kept}"
        );
        refused(
            &host.try_tenantd(["restore", "foo-bar"])?,
            5,
            &["--accept", "--undo"],
        )?;
        for note in ["second", "first"] {
            host.tenantd(["restore", "foo-bar", "--undo"])?;
            host.expect("foo-bar", "note", note)?;
        }
        host.tenantd(["restore", "foo-bar", "--accept"])?;
        ensure!(host.json(["show", "foo-bar"])?["kept"].is_null());

        // A store out of reach, or empty: what failed is reported as failed, and the agent runs.
        for (broken, said) in [
            (
                "touch",
                "tenant foo-bar was left as it is: the object store cannot be used",
            ),
            ("mkdir", "nothing was restored"),
        ] {
            host.machine.script(&format!(
                "mv /var/lib/tenantd/backups /var/lib/tenantd/away
                 {broken} /var/lib/tenantd/backups"
            ))?;
            let output = host.try_tenantd(["restore", "foo-bar"])?;
            ensure!(!output.success(), "{broken}: {output:?}");
            ensure!(output.stderr.contains(said), "{output:?}");
            host.expect("foo-bar", "note", "first")?;
            host.machine.script(
                "rm -r /var/lib/tenantd/backups
                 mv /var/lib/tenantd/away /var/lib/tenantd/backups",
            )?;
        }

        host.tenantd(["remove", "foo-bar"])?;
        let left = host.machine.script(
            r"ls -A /etc/containers/systemd/tenantd
               find /etc/systemd /run/netns -name '*foo*bar*'
               systemctl list-units --all --plain --no-legend '*foo*bar*'
               podman ps --all --quiet",
        )?;
        ensure!(left.trim().is_empty(), "left behind: {}", left.stdout);
        host.tenantd(["reclaim", "foo-bar"])?;
        host.expect("foo-bar", "note", "first")
    });
}

#[test]
fn a_restore_that_cannot_reach_the_store_says_so_and_the_agent_is_back() {
    on_host("away", |host| {
        host.apply(&fake("foo-bar"))?;
        host.write("foo-bar", "note", "first")?;
        host.tenantd(["backup", "foo-bar"])?;
        host.write("foo-bar", "note", "second")?;
        let (store, away) = ("/var/lib/tenantd/backups", "/var/lib/tenantd/away");
        host.machine.run(["mv", store, away])?;
        refused(
            &host.try_tenantd(["restore", "foo-bar"])?,
            1,
            &[
                "tenant foo-bar: nothing was restored and the state is as it was",
                store,
                "it is not there; check the store's URL and prefix",
            ],
        )?;
        ensure!(host.state("foo-bar")? == "running");
        host.expect("foo-bar", "note", "second")?;
        host.machine
            .script(&format!("rm -rf {store}; mv {away} {store}"))?;
        host.tenantd(["restore", "foo-bar"])?;
        host.expect("foo-bar", "note", "first")
    });
}

#[test]
fn a_user_looks_into_a_snapshot_takes_a_file_back_leaves_and_comes_again() {
    on_host("leaving", |host| {
        host.apply(&fake("foo-bar"))?;
        host.write("foo-bar", "note", "first")?;
        host.tenantd(["backup", "foo-bar"])?;
        host.write("foo-bar", "note", "second")?;

        let listing = host.json(["ls", "foo-bar", "data"])?;
        let files = listing["files"].as_array().cloned().unwrap_or_default();
        ensure!(
            files.iter().any(|file| file["path"] == "data/note"),
            "{listing}"
        );
        host.tenantd(["restore", "foo-bar", "--path", "data/note"])?;
        let state = "/var/lib/tenantd/tenants/foo-bar/state/data";
        ensure!(host.machine.read(&format!("{state}/note.restored-1"))? == "first");
        host.expect("foo-bar", "note", "second")?;
        refused(
            &host.try_tenantd(["restore", "foo-bar", "--path", "data/gone"])?,
            4,
            &["tenantd ls"],
        )?;

        host.tenantd(["verify", "foo-bar", "--full"])?;
        let checks = host.json(["show", "foo-bar"])?["checks"].clone();
        ensure!(checks["verify"]["outcome"] == "good", "{checks}");

        host.tenantd(["export", "foo-bar", "--file", "/root/foo-bar.tar.zst"])?;
        let names = host.machine.script("tar -tf /root/foo-bar.tar.zst")?;
        for name in ["tenant.toml", "state/data/note"] {
            ensure!(
                names.stdout.lines().any(|line| line == name),
                "{}",
                names.stdout
            );
        }
        refused(
            &host.try_tenantd(["import", "/root/foo-bar.tar.zst"])?,
            5,
            &["--as"],
        )?;
        host.tenantd(["import", "/root/foo-bar.tar.zst", "--as", "back-again"])?;
        host.expect("back-again", "note", "first")?;

        host.machine
            .script("for p in /var/lib/tenantd/backups/*/packs/*; do printf x >>$p; done")?;
        refused(&host.try_tenantd(["verify", "foo-bar"])?, 1, &["not whole"])?;
        let status = host.tenantd(["status"])?;
        ensure!(
            status
                .stdout
                .contains("the last verification of its backups failed"),
            "{}",
            status.stdout
        );
        Ok(())
    });
}
