//! Tenants side by side reach nobody, and their agents have no more rights than they need.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};

use crate::host::{Host, fake, fake_with, on_host};

/// An id with a dash, whose units systemd escapes.
const DASHED: &str = "foo-bar";
/// An id that must not meet `tenantd-backup.service`.
const BACKUP: &str = "backup";

/// Where something of the host listens, on every address.
const HOST_PORT: u16 = 8000;

#[test]
fn tenants_side_by_side_reach_nobody_and_have_no_rights() {
    on_host("isolation", |host| {
        host.apply(&fake(DASHED))?;
        let elsewhere = fake_with(BACKUP, "env.FAKE_AGENT_LISTEN = \"127.0.0.1:9090\"")
            .replace("ingress.port = 8080", "ingress.port = 9090");
        host.apply(&elsewhere)?;
        for tenant in [DASHED, BACKUP] {
            host.write(tenant, "note", tenant)?;
        }

        nobody_is_reached(host)?;
        for (tenant, other) in [(DASHED, BACKUP), (BACKUP, DASHED)] {
            state_is_private(host, tenant, other)?;
            no_rights(host, tenant)?;
        }
        names_do_not_meet(host)
    });
}

/// Neither the other, nor the host, nor what is outside.
fn nobody_is_reached(host: &Host<'_>) -> anyhow::Result<()> {
    // An address that a tenant could reach if it had any way out; systemd itself listens.
    host.machine.write(
        "/run/systemd/system/hello.socket",
        format!("[Socket]\nListenStream=0.0.0.0:{HOST_PORT}\nAccept=yes\n"),
    )?;
    host.machine.write(
        "/run/systemd/system/hello@.service",
        "[Service]\nExecStart=/bin/echo hello\nStandardOutput=socket\n",
    )?;
    host.machine.script(&format!(
        "ip link set lo up
         ip address add 192.0.2.1/32 dev lo
         systemctl daemon-reload
         systemctl start hello.socket
         for address in 192.0.2.1 127.0.0.1; do
           [ \"$(timeout 10 cat </dev/tcp/$address/{HOST_PORT})\" = hello ]
         done"
    ))?;

    let connect = |tenant: &str, to: &str| host.get(tenant, &format!("/connect?to={to}"));
    for (tenant, own, others) in [
        (DASHED, "127.0.0.1:8080", "127.0.0.1:9090"),
        (BACKUP, "127.0.0.1:9090", "127.0.0.1:8080"),
    ] {
        // Its own loopback works, so that the refusals below mean something.
        let answer = connect(tenant, own)?;
        ensure!(answer.starts_with("connected"), "{tenant}: {own}: {answer}");
        for loopback in [others, &format!("127.0.0.1:{HOST_PORT}")] {
            let answer = connect(tenant, loopback)?;
            ensure!(
                answer.starts_with("refused"),
                "{tenant}: {loopback}: {answer}"
            );
        }
        for address in [
            &format!("192.0.2.1:{HOST_PORT}"),
            "198.51.100.1:80",
            "169.254.169.254:80",
        ] {
            let answer = connect(tenant, address)?;
            ensure!(
                answer.starts_with("unreachable"),
                "{tenant}: {address}: {answer}"
            );
        }
        let namespace = format!("--net=/run/netns/tenant-{tenant}");
        let links = host
            .machine
            .run(["nsenter", &namespace, "ip", "-brief", "link"])?;
        ensure!(
            links.stdout.lines().count() == 1 && links.stdout.starts_with("lo "),
            "{tenant} has other links than its loopback: {}",
            links.stdout
        );
    }
    Ok(())
}

/// The ids on disk are the container's own, and those of its processes are nobody else's.
fn state_is_private(host: &Host<'_>, tenant: &str, other: &str) -> anyhow::Result<()> {
    let note = |tenant: &str| format!("/var/lib/tenantd/tenants/{tenant}/state/data/note");
    let owner = host
        .machine
        .run(["stat", "--format=%u:%g", &note(tenant)])?;
    ensure!(owner.trim() == "1000:1000", "{}", owner.stdout);
    let (own_id, other_id) = (host_id(host, tenant)?, host_id(host, other)?);
    ensure!(
        own_id.abs_diff(other_id) >= 65_536,
        "{tenant} runs as {own_id}, {other} as {other_id}"
    );

    // What the kernel lets the agent's process see and open.
    let pid = pid(host, tenant)?;
    let mounts = host.machine.read(&format!("/proc/{pid}/mountinfo"))?;
    ensure!(
        mounts.contains(&format!("/tenants/{tenant}/state/data")),
        "{mounts}"
    );
    ensure!(!mounts.contains(&format!("/tenants/{other}/")), "{mounts}");
    let id = own_id.to_string();
    for path in [
        note(other),
        note(tenant),
        format!("/proc/{}/root/state/note", self::pid(host, other)?),
    ] {
        let read = host.machine.attempt([
            "setpriv",
            "--reuid",
            &id,
            "--regid",
            &id,
            "--clear-groups",
            "cat",
            &path,
        ])?;
        ensure!(
            read.code == Some(1) && read.stderr.contains("Permission denied"),
            "{tenant} on {path}: {read:?}"
        );
    }
    let escape = host.request(
        tenant,
        &format!("/read?name=../../../tenants/{other}/state/data/note"),
        &[],
    )?;
    ensure!(!escape.success(), "{escape:?}");
    Ok(())
}

/// No capabilities, no new privileges, a root that is read-only.
fn no_rights(host: &Host<'_>, tenant: &str) -> anyhow::Result<()> {
    let status = host.get(tenant, "/status")?;
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
    ] {
        ensure!(status.contains(line), "{tenant} lacks {line:?}: {status}");
    }
    let mounts = host
        .machine
        .read(&format!("/proc/{}/mountinfo", pid(host, tenant)?))?;
    // proc_pid_mountinfo(5): the fifth field is the mount point, the sixth has its options.
    let options = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields.get(4) == Some(&"/"))
        .and_then(|fields| fields.get(5).copied())
        .with_context(|| format!("no root in {mounts}"))?;
    ensure!(
        options.split(',').any(|option| option == "ro"),
        "{tenant} has a root with {options}"
    );
    Ok(())
}

/// A tenant called `backup` and the node's own backup live side by side.
fn names_do_not_meet(host: &Host<'_>) -> anyhow::Result<()> {
    host.machine
        .run(["systemctl", "start", "tenantd-backup.service"])?;
    for tenant in [DASHED, BACKUP] {
        let snapshots = host.json(["snapshots", tenant])?;
        ensure!(
            snapshots.as_array().is_some_and(|all| all.len() == 1),
            "{tenant}: {snapshots}"
        );
    }
    // Stopping and removing the tenant leaves the node's own unit and the other tenant alone.
    let agent = host.property("tenant-foo-bar.service", "InvocationID")?;
    host.tenantd(["remove", BACKUP])?;
    ensure!(
        host.property("tenantd-backup.service", "LoadState")? == "loaded"
            && host.property("tenantd-backup.timer", "ActiveState")? == "active"
    );
    host.machine
        .run(["systemctl", "start", "tenantd-backup.service"])?;
    ensure!(host.property("tenant-foo-bar.service", "InvocationID")? == agent);
    host.expect(DASHED, "note", DASHED)
}

/// The agent's process, as the machine numbers it.
fn pid(host: &Host<'_>, tenant: &str) -> anyhow::Result<String> {
    let container = format!("tenant-{tenant}");
    let pid = host
        .machine
        .run(["podman", "inspect", "--format={{.State.Pid}}", &container])?;
    Ok(pid.trim().to_owned())
}

/// The one id that the agent's process has on the host.
fn host_id(host: &Host<'_>, tenant: &str) -> anyhow::Result<u32> {
    let status = host
        .machine
        .read(&format!("/proc/{}/status", pid(host, tenant)?))?;
    let ids: BTreeSet<&str> = status
        .lines()
        .filter_map(|line| line.strip_prefix("Uid:"))
        .flat_map(str::split_whitespace)
        .collect();
    ensure!(ids.len() == 1, "{tenant} has the ids {ids:?}");
    let id = ids.first().context("no id")?;
    id.parse().with_context(|| (*id).to_owned())
}
