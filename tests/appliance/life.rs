//! The main job: a tenant is applied, answers, is backed up and restored, is held, is removed.

use anyhow::ensure;

use crate::host::{fake, on_host};

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
