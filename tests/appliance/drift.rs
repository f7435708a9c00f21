//! What is changed by hand is put right, and the agent does not notice.

use anyhow::ensure;

use crate::host::{Host, LIMIT, fake, on_host};

const QUADLET: &str = "/etc/containers/systemd/tenantd/foo-bar/tenant-foo-bar.container";
const SLICE: &str = "/etc/systemd/system/tenant-foo\\x2dbar.slice";
const LINK: &str = "/etc/systemd/system/sockets.target.wants/tenantd-ingress@foo\\x2dbar.socket";
const JOURNAL: &str = "/etc/systemd/journald@tenant-foo-bar.conf";
const SERVICE: &str = "tenant-foo-bar.service";

#[test]
fn units_edited_or_deleted_by_hand_are_put_right_without_a_restart() {
    on_host("drift", |host| {
        host.apply(&fake("foo-bar"))?;
        host.write("foo-bar", "note", "kept")?;
        let running = running(host)?;
        ensure!(differences(host)?.is_empty());

        // An edit, which systemd has taken in.
        host.machine.script(&format!(
            "sed -i 's/^Description=.*/Description=Edited/' '{QUADLET}'
             echo 'TasksMax=7' >>'{SLICE}'
             systemctl daemon-reload"
        ))?;
        ensure!(host.property(SERVICE, "Description")? == "Edited");
        let diff = differences(host)?;
        for line in [
            "-Description=Edited",
            "+Description=Agent of tenant foo-bar",
            "-TasksMax=7",
            QUADLET,
            SLICE,
        ] {
            ensure!(diff.contains(line), "{line:?} is not in {diff}");
        }
        // The command ends when it is done, and says so.
        let told = host.tenantd(["reload"])?.stdout;
        ensure!(told.contains("repair  put right in "), "{told}");
        ensure!(differences(host)?.is_empty(), "reload did not wait");
        is_put_right(host)?;
        ensure!(self::running(host)? == running, "the agent was restarted");

        // Deleted files, which systemd has forgotten.
        host.machine.script(&format!(
            "rm '{QUADLET}' '{SLICE}' '{LINK}' '{JOURNAL}'
             systemctl daemon-reload"
        ))?;
        ensure!(differences(host)?.contains("--- /dev/null"));
        // Who sends a signal finds in the log what came of it.
        host.machine
            .run(["systemctl", "reload", "tenantd.service"])?;
        host.machine
            .wait_until("the outcome in the log", LIMIT, |machine| {
                let log = machine.journal(["--unit=tenantd.service"])?;
                let told = log.contains("reload: 1 changed, none failed");
                Ok(if told { Ok(()) } else { Err(log) })
            })?;
        is_put_right(host)?;
        ensure!(self::running(host)? == running, "the agent was restarted");

        // An edit while tenantd is away is found when it comes back, and one that systemd
        // has not taken in is gone without a trace.
        host.machine.script(&format!(
            "systemctl stop tenantd.service
             sed -i 's/^Description=.*/Description=Edited/' '{QUADLET}'"
        ))?;
        host.start_daemon()?;
        is_put_right(host)?;
        ensure!(self::running(host)? == running, "the agent was restarted");
        ensure!(host.state("foo-bar")? == "running");
        host.expect("foo-bar", "note", "kept")
    });
}

/// Which run of which process the agent is.
fn running(host: &Host<'_>) -> anyhow::Result<(String, String)> {
    let property = |name| host.property(SERVICE, name);
    ensure!(property("ActiveState")? == "active");
    Ok((property("MainPID")?, property("InvocationID")?))
}

fn differences(host: &Host<'_>) -> anyhow::Result<String> {
    Ok(host.tenantd(["units", "foo-bar", "--diff"])?.stdout)
}

/// Waits until files are as rendered, and systemd has them.
fn is_put_right(host: &Host<'_>) -> anyhow::Result<()> {
    host.machine
        .wait_until("the units to be put right", LIMIT, |_| {
            let diff = differences(host)?;
            let description = host.property(SERVICE, "Description")?;
            let stale = host.property(SERVICE, "NeedDaemonReload")?;
            let is_right =
                diff.is_empty() && description == "Agent of tenant foo-bar" && stale == "no";
            Ok(if is_right {
                Ok(())
            } else {
                Err(format!("{description}, reload {stale}, {diff}"))
            })
        })?;
    for file in [QUADLET, SLICE, JOURNAL] {
        host.machine.run(["test", "-f", file])?;
    }
    host.machine.run(["test", "-L", LINK])?;
    Ok(())
}
