//! Agents fail in every way that this machine can show: each is told apart, named, and answered as it should be.

use anyhow::ensure;
use serde_json::Value;

use crate::host::{Host, LIMIT, RETRY_SOON, fake, fake_with, on_host, refused};

#[test]
fn each_cause_of_a_failure_is_named_and_what_may_pass_is_tried_again() {
    on_host("causes", |host| {
        // A first start that fails.
        for (tenant, mode, cause) in [
            ("ends", "exit:3", "exit-code"),
            ("silent", "never-healthy", "start-timeout"),
        ] {
            let spec = fake_with(tenant, &format!("env.FAKE_AGENT_MODE = \"{mode}\""));
            let output = host.try_apply(&spec.replace("\"15s\"", "\"2s\""))?;
            ensure!(!output.success(), "{output:?}");
            is(host, tenant, "failed", cause)?;
        }
        // One that says that another start would change nothing is not started again.
        host.apply(&fake_with("fatal", "stop.fatal-exit-codes = [78]"))?;
        host.request("fatal", "/exit?code=78", &["--request", "POST"])?;
        host.wait_for_state("fatal", "failed")?;
        is(host, "fatal", "failed", "fatal-exit-code")?;

        // What it needs is missing: the image, the network namespace. Both come back, and it with them.
        host.machine.script(&format!(
            "printf '{RETRY_SOON}' >>/etc/tenantd/node.toml
             tenantd reload
             podman create --name copy localhost/fake-agent:1
             podman commit --quiet copy localhost/other:1
             podman rm copy"
        ))?;
        host.apply(&fake("lacks").replace("fake-agent:1", "other:1"))?;
        host.tenantd(["stop", "lacks"])?;
        host.machine.script(
            "podman save --quiet --output /var/tmp/other.tar localhost/other:1
             podman rmi --force localhost/other:1",
        )?;
        ensure!(!host.try_tenantd(["start", "lacks"])?.success());
        // systemd goes on trying: that it is `restarting` by now is as right as that it has failed.
        let shown = host.json(["show", "lacks"])?;
        ensure!(shown["cause"] == "image-missing", "{shown:#}");
        host.machine
            .script("podman load --quiet --input /var/tmp/other.tar")?;
        host.wait_for_state("lacks", "running")?;

        host.apply(&fake("needs"))?;
        host.tenantd(["stop", "needs"])?;
        host.machine.script(
            "systemctl stop tenantd-net@needs.service
             mkdir /run/netns/tenant-needs",
        )?;
        ensure!(!host.try_tenantd(["start", "needs"])?.success());
        is(host, "needs", "failed", "dependency")?;
        host.machine.run(["rmdir", "/run/netns/tenant-needs"])?;
        host.wait_for_state("needs", "running")?;
        host.get("needs", "/healthz")?;

        let fatal = host.json(["show", "fatal"])?;
        ensure!(
            fatal["state"] == "failed" && fatal["next-try"].is_null(),
            "{fatal}"
        );
        Ok(())
    });
}

#[test]
fn an_agent_in_a_crash_loop_is_given_up_by_systemd_and_has_a_next_try() {
    on_host("crash-loop", |host| {
        // So late that it stays planned while this looks at it.
        host.machine.script(
            "printf '\\n[failure]\\nretry-after = \"1h\"\\n' >>/etc/tenantd/node.toml
             tenantd reload",
        )?;
        let spec = fake_with("acme", "env.FAKE_AGENT_MODE = \"crash-after:8\"");
        host.apply(&spec)?;
        host.wait_for_state("acme", "failed")?;
        is(host, "acme", "failed", "crash-loop")?;
        host.machine.wait_until("a next try", LIMIT, |_| {
            let shown = host.json(["show", "acme"])?;
            Ok(if shown["next-try"].is_string() {
                Ok(())
            } else {
                Err(shown.to_string())
            })
        })?;
        let shown = host.tenantd(["show", "acme"])?;
        ensure!(shown.stdout.contains("Next try"), "{}", shown.stdout);
        // It is remembered, not counted anew by each tenantd.
        let planned = host.json(["show", "acme"])?["next-try"].clone();
        host.machine.run(["systemctl", "restart", "tenantd"])?;
        ensure!(host.json(["show", "acme"])?["next-try"] == planned);
        Ok(())
    });
}

#[test]
fn an_agent_that_stops_answering_is_restarted_and_a_held_one_is_left_alone() {
    on_host("live", |host| {
        let live = "probes.live.path = \"/healthz\"\nprobes.live.interval = \"5s\"\nprobes.live.timeout = \"2s\"";
        host.apply(&fake_with("acme", live))?;
        host.apply(&fake_with("held", live))?;
        host.tenantd(["stop", "held"])?;
        let run = host.run_of("acme")?;
        host.request("acme", "/healthy?set=false", &["--request", "POST"])?
            .check()?;
        host.machine.wait_until("another run", LIMIT, |_| {
            let now = host.run_of("acme")?;
            Ok(if now == run { Err(now) } else { Ok(()) })
        })?;
        host.wait_for_state("acme", "running")?;
        let shown = host.json(["show", "acme"])?;
        let restart = transition(&shown, "restart");
        ensure!(
            restart["cause"] == "unhealthy" && restart["actor"] == "tenantd",
            "{shown}"
        );
        ensure!(host.state("held")? == "stopped");
        ensure!(host.property("tenant-held.service", "ActiveState")? == "inactive");
        Ok(())
    });
}

#[test]
fn an_image_that_failed_is_not_tried_again_and_three_rollbacks_open_the_breaker() {
    on_host("breaker", |host| {
        host.machine.script(
            "podman create --name copy localhost/fake-agent:1
             podman commit --quiet --change 'ENV FAKE_AGENT_MODE=never-healthy' copy localhost/bad:1
             podman rm copy",
        )?;
        host.apply(&fake("acme"))?;
        let quick = |spec: String| spec.replace("\"15s\"", "\"1s\"");
        let bad = quick(fake("acme").replace("fake-agent:1", "bad:1"));
        let output = host.try_apply(&bad)?;
        ensure!(output.stderr.contains("revision 1 is back"), "{output:?}");
        let run = host.run_of("acme")?;
        refused(
            &host.try_apply(&bad)?,
            5,
            &["failed as revision 2", "--force"],
        )?;
        ensure!(host.run_of("acme")? == run, "it was tried again");
        // Another spec with the image that works is no matter of the image.
        for edition in ["2", "3"] {
            let mode =
                format!("env.FAKE_AGENT_MODE = \"never-healthy\"\nenv.EDITION = \"{edition}\"");
            let output = host.try_apply(&quick(fake_with("acme", &mode)))?;
            ensure!(output.stderr.contains("revision 1 is back"), "{output:?}");
        }
        let good = fake_with("acme", "env.EDITION = \"4\"");
        refused(
            &host.try_apply(&good)?,
            5,
            &["breaker open, 3 rollbacks since"],
        )?;
        ensure!(host.json(["show", "acme"])?["breaker-open-since"].is_string());
        let force = ["tenantd", "apply", "--force", "-"].map(str::to_owned);
        host.machine
            .attempt_with(force, good.as_bytes(), LIMIT)?
            .check()?;
        ensure!(host.json(["show", "acme"])?["breaker-open-since"].is_null());
        ensure!(host.get("acme", "/env")?.contains("EDITION=4\n"));
        Ok(())
    });
}

/// Makes sure that a tenant stands there, for that cause.
fn is(host: &Host<'_>, tenant: &str, state: &str, cause: &str) -> anyhow::Result<()> {
    let shown = host.json(["show", tenant])?;
    ensure!(
        shown["state"] == state && shown["cause"] == cause,
        "{shown:#}"
    );
    Ok(())
}

/// The newest transition by this edge.
fn transition(shown: &Value, edge: &str) -> Value {
    let transitions = shown["transitions"].as_array().into_iter().flatten();
    let mut by_edge = transitions.filter(|line| line["edge"] == edge);
    by_edge.next().cloned().unwrap_or_default()
}
