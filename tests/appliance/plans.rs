//! Plans: changed under an agent that runs on, shown while it runs, and refused where the host has too little.

use anyhow::ensure;

use crate::host::{Host, LIMIT, fake, fake_with, on_host, refused};

const JOURNAL: &str = "systemd-journald@tenant-foo-bar.service";

#[test]
fn another_plan_comes_into_force_without_a_restart_and_another_environment_with_one() {
    on_host("plans", |host| {
        host.apply(&fake("foo-bar"))?;
        host.write("foo-bar", "note", "kept")?;
        let run = host.run_of("foo-bar")?;
        let before = logged(host)?;
        ensure!(!before.is_empty(), "the agent has written nothing");

        // What would happen is said before, and happens.
        let pro = fake_with("foo-bar", "plan = \"pro\"");
        host.machine.write("/root/pro.toml", &pro)?;
        let told = host.tenantd(["apply", "--dry-run", "/root/pro.toml"])?;
        for line in [
            "changes memory from 2GiB to 3GiB",
            "changes log-size from 64MiB to 256MiB",
            "live: the agent runs on",
        ] {
            ensure!(told.stdout.contains(line), "{line:?} is not in {told:?}");
        }
        let told = host.tenantd(["apply", "/root/pro.toml"])?;
        ensure!(
            told.stdout
                .contains("foo-bar runs on with cpus from 0.5 to 1"),
            "{told:?}"
        );
        ensure!(host.run_of("foo-bar")? == run, "the agent was restarted");
        let shown = host.json(["show", "foo-bar"])?;
        ensure!(shown["plan"] == "pro" && shown["revision"] == 2, "{shown}");
        ensure!(shown["good-revision"] == 2, "{shown}");

        // The journal has its new size, and what it held.
        let started = host.property(JOURNAL, "ActiveEnterTimestampMonotonic")?;
        let log = host.machine.journal(["--namespace=tenant-foo-bar"])?;
        ensure!(log.contains("max 256M"), "{log}");
        ensure!(logged(host)?.starts_with(&before), "the log has lost lines");
        // What the agent writes from now on arrives.
        host.request("foo-bar", "/flood?lines=3", &["--request", "POST"])?
            .check()?;
        host.machine
            .wait_until("the agent's new lines", LIMIT, |_| {
                let log = logged(host)?;
                Ok(if log.contains("noise 000000002") {
                    Ok(())
                } else {
                    Err(log)
                })
            })?;

        // Nothing is left to do: not for a reload, and not for a daemon that starts.
        let diff = host.tenantd(["units", "foo-bar", "--diff"])?.stdout;
        ensure!(diff.is_empty(), "{diff}");
        let told = host.tenantd(["reload"])?.stdout;
        ensure!(!told.contains("repair"), "{told}");
        host.machine
            .run(["systemctl", "restart", "tenantd.service"])?;
        host.wait_for_state("foo-bar", "running")?;
        host.tenantd(["reload"])?;
        ensure!(host.run_of("foo-bar")? == run, "the agent was restarted");
        ensure!(host.property(JOURNAL, "ActiveEnterTimestampMonotonic")? == started);

        // And back, killed in the middle.
        host.arm("install.reloaded")?;
        let before = fake("foo-bar");
        drop(host.try_apply(&before)?);
        ensure!(host.was_hit()?, "the failpoint was not reached");
        host.machine.wait_until("revision 3", LIMIT, |_| {
            // While the daemon starts it does not answer.
            let shown = host.json(["show", "foo-bar"]).unwrap_or_default();
            Ok(if shown["good-revision"] == 3 {
                Ok(())
            } else {
                Err(shown.to_string())
            })
        })?;
        ensure!(host.run_of("foo-bar")? == run, "the agent was restarted");

        // What no kernel changes under a process.
        let other = fake_with("foo-bar", "env.A = \"1\"");
        host.machine.write("/root/other.toml", &other)?;
        let told = host.tenantd(["apply", "--dry-run", "/root/other.toml"])?;
        ensure!(
            told.stdout.contains("restarts the agent, for env"),
            "{told:?}"
        );
        host.apply(&other)?;
        ensure!(host.run_of("foo-bar")? != run, "the agent runs on");
        host.expect("foo-bar", "note", "kept")
    });
}

/// What the agent has written, as `logs` shows it.
fn logged(host: &Host<'_>) -> anyhow::Result<String> {
    Ok(host.tenantd(["logs", "foo-bar", "-n", "1000"])?.stdout)
}

#[test]
fn a_host_that_promises_too_much_refuses_before_anything_is_touched_and_top_shows_who_uses_it() {
    on_host("capacity", |host| {
        host.apply(&fake("acme"))?;
        // A warning is the default: the host of the tests has less than many plans.
        host.machine.script(
            "sed -i -e 's/^cpu-overcommit = .*/cpu-overcommit = 0.01/' \
                 -e 's/^on-overcommit = .*/on-overcommit = \"refuse\"/' /etc/tenantd/node.toml",
        )?;
        host.tenantd(["reload"])?;
        let files = host
            .machine
            .script("ls -R /etc/containers/systemd /var/lib/tenantd/tenants")?;
        refused(
            &host.try_apply(&fake("beta"))?,
            5,
            &[
                "beta would promise more than this host may",
                "plans promise 1.0 of cpu, and at most 0.0 may be promised",
                "[capacity]",
            ],
        )?;
        let after = host
            .machine
            .script("ls -R /etc/containers/systemd /var/lib/tenantd/tenants")?;
        ensure!(after.stdout == files.stdout, "{after:?}");
        // What does not grow is not held against anybody.
        host.apply(&fake_with("acme", "env.A = \"1\""))?;
        let status = host.tenantd(["status"])?.stdout;
        ensure!(status.contains("plans promise 0.5 of cpu"), "{status}");
        let doctor = host.json(["doctor"])?;
        let named = |name: &str| {
            let mut checks = doctor.as_array().into_iter().flatten();
            checks.find(|check| check["check"] == name).cloned()
        };
        for check in ["capacity", "storage-limits"] {
            let found = named(check).unwrap_or_default();
            ensure!(found["verdict"] == "warning", "{found}");
        }

        let top = host.tenantd(["top", "--once"])?.stdout;
        ensure!(top.starts_with("TENANT") && top.contains("acme"), "{top}");
        let top = host.json(["top", "acme", "--once"])?;
        let used = &top[0];
        ensure!(used["id"] == "acme" && used["state"] == "running", "{top}");
        ensure!(
            used["cpu-us"].as_u64().is_some_and(|time| time > 0),
            "{top}"
        );
        ensure!(used["cpu-percent"].is_number(), "{top}");
        ensure!(used["storage"]["limit-bytes"] == 10_u64 << 30, "{top}");
        ensure!(used["storage"]["kept"] == false, "{top}");
        refused(
            &host.try_tenantd(["top", "absent", "--once"])?,
            4,
            &["absent"],
        )
    });
}
