//! Ingress doors: they answer for an agent that does not, and keep a held tenant down.

use anyhow::ensure;

use crate::host::{Host, fake, on_host};

/// Clients at once before a door.
const CROWD: usize = 100;

#[test]
fn a_door_stays_open_before_a_broken_agent() {
    on_host("doors-broken", |host| {
        // Clients wait as long as a start may take.
        let spec = fake("foo-bar").replace("timeout = \"15s\"", "timeout = \"6s\"");
        host.apply(&spec)?;
        host.apply(&fake("bystander"))?;

        // An agent that runs and is never healthy, before a door that does not know it yet.
        healthy(host, false)?;
        host.machine
            .run(["systemctl", "stop", "tenantd-ingress@foo\\x2dbar.service"])?;
        everybody_is_refused(host)?;
        healthy(host, true)?;
        ensure!(host.get("foo-bar", "/starts")?.trim() == "1");

        // An agent that crashes, and then at every start: it cannot write its state.
        host.machine
            .run(["chown", "0:0", &format!("{STATE}/starts")])?;
        host.machine
            .run(["chmod", "0600", &format!("{STATE}/starts")])?;
        // Its answer never comes.
        host.request("foo-bar", "/crash", &["--request", "POST"])?;
        everybody_is_refused(host)?;
        host.wait_for_state("foo-bar", "failed")?;
        everybody_is_refused(host)?;

        // Repaired, it is served through the same socket.
        host.machine
            .run(["chown", "1000:1000", &format!("{STATE}/starts")])?;
        host.tenantd(["start", "foo-bar"])?;
        host.get("foo-bar", "/healthz")?;
        host.get("bystander", "/healthz")?;
        ensure!(host.get("bystander", "/starts")?.trim() == "1");
        Ok(())
    });
}

const STATE: &str = "/var/lib/tenantd/tenants/foo-bar/state/data";

/// Tells the agent behind its door's back how to be.
fn healthy(host: &Host<'_>, set: bool) -> anyhow::Result<()> {
    let url = format!("http://127.0.0.1:8080/healthy?set={set}");
    let argv = [
        "nsenter",
        "--net=/run/netns/tenant-foo-bar",
        "curl",
        "--silent",
        "--fail-with-body",
        "--request",
        "POST",
        &url,
    ];
    host.machine.run(argv)?;
    Ok(())
}

/// A crowd comes; each gets its own complete answer, and the socket goes on listening.
fn everybody_is_refused(host: &Host<'_>) -> anyhow::Result<()> {
    let answers = host.machine.script(&format!(
        r"seq {CROWD} | xargs --max-procs={CROWD} --replace curl --silent --max-time 60 \
            --output /dev/null --write-out '%{{http_code}}\n' \
            --unix-socket /run/tenantd/ingress/foo-bar.sock http://tenant/"
    ))?;
    let refused = answers.stdout.lines().filter(|code| *code == "503").count();
    ensure!(refused == CROWD, "{}", answers.stdout);
    let socket = "tenantd-ingress@foo\\x2dbar.socket";
    ensure!(host.property(socket, "ActiveState")? == "active");
    Ok(())
}

#[test]
fn a_held_tenant_stays_down_through_requests_and_a_reboot() {
    on_host("doors-held", |host| {
        for tenant in ["stopped", "unpaid", "free"] {
            host.apply(&fake(tenant))?;
        }
        host.tenantd(["stop", "stopped"])?;
        host.tenantd(["suspend", "unpaid", "--reason", "billing"])?;
        both_are_down(host)?;

        host.machine.reboot()?;
        host.get("free", "/healthz")?;
        host.wait_for_state("free", "running")?;
        both_are_down(host)?;

        // Only what ends a hold ends it: start a stop, resume a suspension.
        for verb in ["start", "restart"] {
            let refused = host.try_tenantd([verb, "unpaid"])?;
            ensure!(refused.code == Some(5), "{refused:?}");
            ensure!(
                refused
                    .stderr
                    .contains("tenant unpaid is suspended (billing); `tenantd resume unpaid`"),
                "{refused:?}"
            );
        }
        both_are_down(host)?;
        host.tenantd(["start", "stopped"])?;
        host.tenantd(["resume", "unpaid"])?;
        for tenant in ["stopped", "unpaid"] {
            host.get(tenant, "/healthz")?;
            ensure!(host.state(tenant)? == "running");
            ensure!(host.get(tenant, "/starts")?.trim() == "2", "{tenant}");
        }
        Ok(())
    });
}

/// Requests and requests of systemd are refused, and no agent comes up by them.
fn both_are_down(host: &Host<'_>) -> anyhow::Result<()> {
    for (tenant, state, told) in [
        ("stopped", "stopped", "This agent is stopped on purpose.\n"),
        (
            "unpaid",
            "suspended",
            "This agent is suspended; its operator can say more.\n",
        ),
    ] {
        let service = format!("tenant-{tenant}.service");
        let refused = host.request(tenant, "/healthz", &["--include"])?;
        ensure!(
            refused.stdout.starts_with("HTTP/1.1 503 ")
                && refused.stdout.contains(told)
                && !refused.stdout.contains("billing"),
            "{refused:?}"
        );
        host.machine.attempt(["systemctl", "start", &service])?;
        ensure!(host.property(&service, "ActiveState")? == "inactive");
        ensure!(host.state(tenant)? == state);
        let socket = format!("tenantd-ingress@{tenant}.socket");
        ensure!(host.property(&socket, "ActiveState")? == "active");
    }
    Ok(())
}
