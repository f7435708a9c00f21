//! Revisions that nobody has seen to be good: what is gone back to, what is not tried again, and what is kept to look into.

use anyhow::ensure;
use serde_json::Value;

use crate::crashes::{Drill, cut_short};
use crate::host::{Host, LIMIT, fake, fake_with, on_host, refused};

const TENANT: &str = "foo-bar";

/// One whose agent writes to the state and then never becomes healthy.
fn bad(tenant: &str) -> String {
    fake_with(tenant, "env.FAKE_AGENT_MODE = \"never-healthy\"").replace("\"15s\"", "\"1s\"")
}

/// The revision that runs and what it has.
fn runs(host: &Host<'_>, revision: u64, note: &str) -> anyhow::Result<()> {
    host.machine
        .wait_until(&format!("revision {revision} to run"), LIMIT, |_| {
            let shown = host.json(["show", TENANT])?;
            let is_up = shown["state"] == "running" && shown["revision"] == revision;
            Ok(if is_up {
                Ok(())
            } else {
                Err(shown.to_string())
            })
        })?;
    host.expect(TENANT, "note", note)
}

#[test]
fn what_was_never_seen_to_be_good_is_gone_back_from_and_what_only_is_on_trial_is_gone_back_to() {
    on_host("unproven", |host| {
        host.many_rollbacks()?;
        host.healthy_for("1h")?;
        host.apply(&fake(TENANT))?;
        host.write(TENANT, "note", "of 1")?;
        // The first is on trial still, and yet it is all there is to go back to.
        let output = host.try_apply(&bad(TENANT))?;
        refused(
            &output,
            7,
            &["revision 1 is back with the data that it had"],
        )?;
        runs(host, 1, "of 1")?;
        ensure!(host.json(["show", TENANT])?["trial"]["revision"] == 1);
        let attempt = host.json(["show", TENANT, "--operation", "last"])?;
        let probes = attempt["evidence"]["probes"].to_string();
        ensure!(probes.contains("127.0.0.1"), "the start probe: {attempt}");

        // Brought in while the tenant is held, it fails at its first start.
        host.tenantd(["stop", TENANT])?;
        host.apply(&bad(TENANT))?;
        let output = host.try_tenantd(["start", TENANT])?;
        refused(&output, 7, &["revision 3", "revision 1 is back"])?;
        runs(host, 1, "of 1")?;

        // An image that fails on trial is remembered.
        host.healthy_for("0s")?;
        host.tenantd(["restart", TENANT])?;
        ensure!(host.json(["show", TENANT])?["good-revision"] == 1);
        host.healthy_for("1h")?;
        host.machine.script(
            "podman create --name copy localhost/fake-agent:1
             podman commit --quiet copy localhost/other:1
             podman rm copy",
        )?;
        let other =
            fake_with(TENANT, "stop.fatal-exit-codes = [78]").replace("fake-agent:1", "other:1");
        host.apply(&other)?;
        host.request(TENANT, "/exit?code=78", &["--request", "POST"])?;
        runs(host, 1, "of 1")?;
        refused(
            &host.try_apply(&other)?,
            5,
            &["failed as revision", "--force"],
        )?;

        a_file_that_failed_is_not_tried_until_it_changes(host)?;
        a_removal_that_is_done_twice_erases_nothing(host)
    });
}

/// Nobody asked for an erasure: what was there before a tenant that never ran stays, however often it is removed.
fn a_removal_that_is_done_twice_erases_nothing(host: &Host<'_>) -> anyhow::Result<()> {
    ensure!(!host.try_apply(&bad("never"))?.success());
    let (state, keys) = (
        "/var/lib/tenantd/tenants/never/state/data",
        "/var/lib/tenantd/repositories/never/repository.json",
    );
    cut_short(host, Drill::Terminate, "operation.done", "never", || {
        host.try_tenantd(["remove", "never"])
    })?;
    ensure!(host.try_tenantd(["show", "never"])?.code == Some(4));
    host.machine.run(["ls", state, keys])?;
    Ok(())
}

fn a_file_that_failed_is_not_tried_until_it_changes(host: &Host<'_>) -> anyhow::Result<()> {
    let path = "/etc/tenantd/tenants.d/filed.toml";
    host.machine.write(path, bad("filed"))?;
    ensure!(!host.try_tenantd(["reload"])?.success());
    let revisions = || {
        let history = host.json(["history", "filed"])?;
        anyhow::Ok(history.as_array().map_or(0, Vec::len))
    };
    let made = revisions()?;
    let output = host.tenantd(["reload"])?;
    ensure!(output.stdout.contains("failed before"), "{}", output.stdout);
    ensure!(revisions()? == made, "it was tried again");
    host.machine.write(path, fake("filed"))?;
    host.tenantd(["reload"])?;
    let shown: Value = host.json(["show", "filed"])?;
    ensure!(shown["state"] == "running", "{shown}");
    Ok(())
}
