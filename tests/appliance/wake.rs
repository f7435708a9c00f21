//! Tenants that sleep: frozen when they are idle, stopped when they have been for long, and there for whoever comes.

use anyhow::ensure;

use crate::host::{Host, fake_with, on_host};

/// The tenant's units have its dash escaped.
const DOOR: &str = "tenantd-ingress@foo\\x2dbar.service";
const AGENT: &str = "tenant-foo-bar.service";

/// A tenant that sleeps after seconds, with more of `[sleep]` and the rest.
fn sleeper(more: &str) -> String {
    fake_with("foo-bar", &format!("sleep.after = \"2s\"\n{more}"))
}

/// Whether the kernel lets none of the agent's processes run.
fn is_still(host: &Host<'_>) -> anyhow::Result<bool> {
    let events = host
        .machine
        .script("cat /sys/fs/cgroup/tenant.slice/tenant-foo\\\\x2dbar.slice/tenant-foo-bar.service/libpod-payload-*/cgroup.events")?;
    Ok(events.stdout.contains("frozen 1"))
}

fn starts(host: &Host<'_>) -> anyhow::Result<String> {
    Ok(host.get("foo-bar", "/starts")?.trim().to_owned())
}

#[test]
fn an_agent_sleeps_when_it_is_idle_and_is_there_for_whoever_comes() {
    on_host("wake-frozen", |host| {
        host.apply(&sleeper("wake = \"on-demand\""))?;
        let run = host.run_of("foo-bar")?;
        host.wait_for_state("foo-bar", "frozen")?;
        ensure!(is_still(host)?);

        // A probe wakes nobody, and neither does a backup.
        let probed = host.request("foo-bar", "/healthz", &["--include"])?;
        ensure!(probed.stdout.starts_with("HTTP/1.1 503 "), "{probed:?}");
        host.tenantd(["backup", "foo-bar"])?;
        ensure!(is_still(host)? && host.state("foo-bar")? == "frozen");

        // Whoever wants the agent has it, the same one, as it was.
        ensure!(starts(host)? == "1" && host.run_of("foo-bar")? == run);
        ensure!(!is_still(host)?);

        // Nobody who dies leaves it frozen for ever: its door, the sleep service, and that one in the middle of it.
        for unit in [DOOR, "tenantd-sleep.service"] {
            host.wait_for_state("foo-bar", "frozen")?;
            host.machine
                .run(["systemctl", "kill", "--signal=KILL", unit])?;
            ensure!(starts(host)? == "1", "{unit}");
        }
        for failpoint in ["sleep.closed", "sleep.frozen", "sleep.thawed"] {
            host.arm(failpoint)?;
            ensure!(starts(host)? == "1");
            host.wait_for_state("foo-bar", "frozen")?;
            ensure!(starts(host)? == "1", "{failpoint}");
            ensure!(host.was_hit()?, "{failpoint}");
        }

        // An operator, and without the daemon.
        host.machine.run(["systemctl", "stop", "tenantd.service"])?;
        host.tenantd(["sleep", "foo-bar"])?;
        ensure!(is_still(host)?);
        host.tenantd(["wake", "foo-bar"])?;
        ensure!(!is_still(host)?);
        host.tenantd(["sleep", "foo-bar"])?;
        ensure!(starts(host)? == "1" && host.run_of("foo-bar")? == run);
        host.start_daemon()?;

        // Frozen, it is held and stopped cleanly, and comes back.
        host.tenantd(["sleep", "foo-bar"])?;
        host.tenantd(["stop", "foo-bar"])?;
        ensure!(host.state("foo-bar")? == "stopped");
        let held = host.request("foo-bar", "/starts", &["--include"])?;
        ensure!(held.stdout.starts_with("HTTP/1.1 503 "), "{held:?}");
        ensure!(host.try_tenantd(["wake", "foo-bar"])?.code == Some(5));
        host.tenantd(["start", "foo-bar"])?;
        ensure!(starts(host)? == "2");
        let ended = host
            .machine
            .read("/var/lib/tenantd/tenants/foo-bar/state/data/last-shutdown")?;
        ensure!(ended.trim() == "1", "{ended}");

        // Frozen, it is updated, and removed.
        host.tenantd(["sleep", "foo-bar"])?;
        host.apply(&sleeper("wake = \"on-demand\"\nenv.NEW = \"1\""))?;
        ensure!(starts(host)? == "3");
        host.tenantd(["sleep", "foo-bar"])?;
        host.tenantd(["remove", "foo-bar"])?;
        ensure!(host.property(AGENT, "ActiveState")? == "inactive");
        Ok(())
    });
}

#[test]
fn an_agent_that_has_slept_for_long_is_stopped_and_starts_for_whoever_comes() {
    on_host("wake-stopped", |host| {
        let stops = "sleep.stop-after = \"1s\"\n";
        host.arm("sleep.stopping")?;
        host.apply(&sleeper(&format!("{stops}wake = \"on-demand\"")))?;
        host.wait_for_state("foo-bar", "asleep")?;
        ensure!(host.was_hit()?, "sleep.stopping");
        ensure!(host.property(AGENT, "ActiveState")? == "inactive");
        // Drift repair leaves it asleep, and a backup too.
        host.tenantd(["reload"])?;
        host.tenantd(["backup", "foo-bar"])?;
        let probed = host.request("foo-bar", "/", &["--head"])?;
        ensure!(probed.stdout.starts_with("HTTP/1.1 503 "), "{probed:?}");
        ensure!(host.state("foo-bar")? == "asleep");

        // A crowd comes: one start, and everybody is answered.
        let answers = host.machine.script(
            r"seq 50 | xargs --max-procs=50 --replace curl --silent --max-time 60 \
                --output /dev/null --write-out '%{http_code}\n' \
                --unix-socket /run/tenantd/ingress/foo-bar.sock http://tenant/starts",
        )?;
        let served = answers.stdout.lines().filter(|code| *code == "200").count();
        ensure!(served == 50, "{}", answers.stdout);
        ensure!(starts(host)? == "2");

        // A host that starts leaves it asleep too.
        host.wait_for_state("foo-bar", "asleep")?;
        host.machine.reboot()?;
        host.wait_for_state("foo-bar", "asleep")?;
        ensure!(starts(host)? == "3");

        // At regular times, by systemd's timer.
        host.apply(&sleeper(&format!(
            "{stops}wake = \"scheduled\"\nsleep.every = \"1min\""
        )))?;
        let timer = "tenantd-wake@foo\\x2dbar.timer";
        ensure!(host.property(timer, "ActiveState")? == "active");
        let rule = host.property(timer, "TimersMonotonic")?;
        ensure!(rule.contains("OnUnitInactiveUSec=1min"), "{rule}");
        host.wait_for_state("foo-bar", "asleep")?;
        let before = host.run_of("foo-bar")?;
        host.machine
            .run(["systemctl", "start", "tenantd-wake@foo\\x2dbar.service"])?;
        host.wait_for_state("foo-bar", "running")?;
        ensure!(host.run_of("foo-bar")? != before);

        // Always on, it is up and stays up.
        host.apply(&sleeper(""))?;
        ensure!(host.property(timer, "ActiveState")? == "inactive");
        ensure!(host.state("foo-bar")? == "running");
        ensure!(host.try_tenantd(["sleep", "foo-bar"])?.code == Some(5));
        Ok(())
    });
}
