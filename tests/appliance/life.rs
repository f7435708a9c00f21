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
            r#"ls -A /etc/containers/systemd/tenantd
               find /etc/systemd /run/netns -name '*foo*bar*'
               systemctl list-units --all --plain --no-legend '*foo*bar*'
               podman ps --all --quiet"#,
        )?;
        ensure!(left.trim().is_empty(), "left behind: {}", left.stdout);
        host.apply(&fake("foo-bar"))?;
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
