//! Hosts on which tenants cannot run, and places that somebody else has: said clearly, and nothing changes.

use anyhow::ensure;
use serde_json::Value;
use xtask::machine::{Machine, Output, REPOSITORY, in_machine};

use crate::host::{BINARY, Host, LIMIT, fake, on_host, refused};

/// Programs that stand in for older ones, and a path on which there is no Podman.
const FAKES: &str = r#"
mkdir -p /root/old-podman /root/old-systemd /root/no-podman
printf '#!/bin/sh\necho podman version 4.9.4\n' >/root/old-podman/podman
printf '#!/bin/sh\necho "systemd 252 (252.39-1~deb12u1)"\n' >/root/old-systemd/systemctl
chmod +x /root/old-*/*
ln -s /usr/bin/* /usr/sbin/* /usr/local/bin/* /root/no-podman/ 2>/dev/null || true
rm /root/no-podman/podman
"#;

/// The usual path.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin";

/// A host that lacks something, for one command.
#[derive(Debug, Clone, Copy)]
enum Lack {
    Podman,
    NewPodman,
    NewSystemd,
    CgroupV2,
    Root,
}

impl Lack {
    /// Runs the command where it lacks this.
    fn run(self, machine: &Machine, command: &str) -> anyhow::Result<Output> {
        let path = |first: &str| format!("PATH={first}:{PATH} {command}");
        let script = match self {
            Self::Podman => format!("PATH=/root/no-podman {command}"),
            Self::NewPodman => path("/root/old-podman"),
            Self::NewSystemd => path("/root/old-systemd"),
            // In a mount namespace of its own: the machine keeps its hierarchy.
            Self::CgroupV2 => format!(
                "unshare --mount sh -c 'mount -t tmpfs tmpfs /sys/fs/cgroup && exec {command}'"
            ),
            Self::Root => format!("setpriv --reuid=65534 --regid=65534 --clear-groups {command}"),
        };
        machine.attempt_with(["bash", "-c", &script], &[], LIMIT)
    }
}

#[test]
fn an_unfit_host_is_refused_by_the_installer_and_by_init() {
    in_machine("unfit", |machine| {
        machine.script(FAKES)?;
        machine.copy_in(BINARY, "/usr/local/lib/tenantd")?;
        let install = format!("{REPOSITORY}/packaging/install.sh --binary /usr/local/lib/tenantd");
        let before = everything(machine)?;
        for (lack, message) in [
            (
                Lack::Podman,
                "this host has no Podman; tenantd needs 5.4 or later",
            ),
            (
                Lack::NewPodman,
                "Podman is 4.9.4; tenantd needs 5.4 or later",
            ),
            (
                Lack::NewSystemd,
                "systemd is 252; tenantd needs 255 or later",
            ),
            (
                Lack::CgroupV2,
                "this host runs cgroup v1; boot with systemd.unified_cgroup_hierarchy=1",
            ),
            (Lack::Root, "run this as root"),
        ] {
            refused(&lack.run(machine, &install)?, 1, &["install.sh: ", message])?;
            unchanged(machine, &before)?;
        }

        machine.install(BINARY)?;
        let before = everything(machine)?;
        for (lack, message) in [
            (
                Lack::Podman,
                "there is no Podman on this host; install version 5.4 or newer",
            ),
            (
                Lack::NewPodman,
                "Podman 4.9 is too old; tenantd needs 5.4 or newer",
            ),
            (
                Lack::CgroupV2,
                "this host runs cgroup v1; boot it with systemd.unified_cgroup_hierarchy=1",
            ),
            (Lack::Root, "this must be run as root"),
        ] {
            let output = lack.run(machine, "/usr/local/bin/tenantd init")?;
            refused(
                &output,
                3,
                &["this host cannot run tenants; nothing was changed", message],
            )?;
            unchanged(machine, &before)?;
        }
        Ok(())
    });
}

/// A process that listens on a Unix socket: `listen.py PATH GREETING [ANSWER]` greets whoever connects; with an answer
/// it reads a request, gives that and closes.
const LISTEN: &str = r"
cat >/root/listen.py <<'END'
import socket, sys
path, greeting, *answer = sys.argv[1:]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
held = []
while True:
    other, _ = listener.accept()
    held.append(other)
    try:
        other.sendall(greeting.encode())
        if answer:
            request = b''
            while not request.endswith(b'\r\n\r\n'):
                request += other.recv(4096) or b'\r\n\r\n'
            other.sendall(answer[0].encode().decode('unicode_escape').encode())
            held.remove(other)
            other.close()
    except OSError:
        pass
END
";

/// Has `listen.py` listen at a path, as a unit of this name.
fn listen(machine: &Machine, unit: &str, path: &str, more: &[&str]) -> anyhow::Result<()> {
    let argv = [
        "systemd-run",
        "--quiet",
        "--collect",
        "--unit",
        unit,
        "python3",
        "/root/listen.py",
        path,
    ];
    machine.run(argv.into_iter().chain(more.iter().copied()))?;
    let there = ["test", "-S", path];
    machine.wait_for(there, LIMIT)?;
    Ok(())
}

/// How an older Podman tells its version.
const OLD_PODMAN: &str =
    r#"HTTP/1.1 200 OK\r\nContent-Length: 19\r\nConnection: close\r\n\r\n{"Version":"4.9.3"}"#;

#[test]
fn an_unfit_host_is_refused_by_the_daemon_and_named_by_the_doctor() {
    on_host("unfit-daemon", |host| {
        let machine = host.machine;
        machine.script(LISTEN)?;
        host.apply(&fake("acme"))?;
        let run = host.run_of("acme")?;
        host.machine.run(["systemctl", "stop", "tenantd.service"])?;

        // Without the daemon the doctor looks for itself.
        let checks = doctor(host)?;
        found(
            &checks,
            "daemon",
            "failed",
            "tenantd is not running: tenantd does not answer",
        )?;
        for check in [
            "settings",
            "systemd",
            "podman",
            "cgroup",
            "store",
            "backup-timer",
        ] {
            found(&checks, check, "ok", "")?;
        }
        let said = host.try_tenantd(["doctor"])?;
        refused(
            &said,
            1,
            &["1 of the checks failed; what to do is said above"],
        )?;
        ensure!(
            said.stdout.contains("remedy: systemctl start tenantd"),
            "{}",
            said.stdout
        );
        // Its socket is there still, and only for the group; without it, nobody can be asked.
        machine.run(["rm", "/run/tenantd/api.sock"])?;
        let nobody = Lack::Root.run(machine, "tenantd doctor")?;
        refused(
            &nobody,
            6,
            &["only root can check the host without it: sudo tenantd doctor"],
        )?;

        let before = everything(machine)?;
        for (lack, message) in [
            (
                Lack::CgroupV2,
                "this host runs cgroup v1; boot it with systemd.unified_cgroup_hierarchy=1",
            ),
            (Lack::Root, "this must be run as root"),
        ] {
            let output = lack.run(machine, "tenantd serve")?;
            refused(
                &output,
                1,
                &["this host cannot run tenants; nothing was changed", message],
            )?;
            unchanged(machine, &before)?;
        }
        let v1 = Lack::CgroupV2.run(machine, "tenantd doctor --json")?;
        found(&v1.json()?, "cgroup", "failed", "cgroup v1")?;

        machine
            .script("systemctl stop podman.socket podman.service; rm -f /run/podman/podman.sock")?;
        let absent = "there is no Podman at /run/podman/podman.sock; install podman and run \
                      `systemctl enable --now podman.socket`";
        refused(
            &host.try_tenantd(["serve"])?,
            1,
            &["Podman cannot be used", absent],
        )?;
        found(&doctor(host)?, "podman", "failed", absent)?;
        listen(
            machine,
            "old-podman",
            "/run/podman/podman.sock",
            &["", OLD_PODMAN],
        )?;
        let old = "Podman 4.9 is too old; tenantd needs 5.4 or newer";
        refused(
            &host.try_tenantd(["serve"])?,
            1,
            &["Podman cannot be used", old],
        )?;
        found(&doctor(host)?, "podman", "failed", old)?;
        unchanged(machine, &before)?;

        // Meanwhile the tenant has not noticed; and all is well once Podman is.
        machine.script("systemctl stop old-podman; rm -f /run/podman/podman.sock")?;
        machine.run(["systemctl", "start", "podman.socket", "tenantd.service"])?;
        ensure!(host.run_of("acme")? == run, "the agent was restarted");
        found(&doctor(host)?, "daemon", "ok", "tenantd runs")
    });
}

/// Where the daemon listens.
const API: &str = "/run/tenantd/api.sock";

/// The daemon's own socket, taken by a file and by another process.
fn the_daemons_own(host: &Host<'_>) -> anyhow::Result<()> {
    let machine = host.machine;
    machine.run(["systemctl", "stop", "tenantd.service"])?;
    let api = API;
    machine.script(&format!("rm -f {api}; echo precious >{api}"))?;
    refused(
        &host.try_tenantd(["serve"])?,
        1,
        &["/run/tenantd/api.sock is taken by a file; move it away"],
    )?;
    ensure!(machine.read(api)?.trim() == "precious");
    machine.run(["rm", api])?;
    listen(machine, "stranger", api, &["220 mail"])?;
    refused(
        &host.try_tenantd(["serve"])?,
        1,
        &[
            "python3 (process ",
            ") already listens on /run/tenantd/api.sock",
        ],
    )?;
    let foreign = "listens at /run/tenantd/api.sock and does not talk like tenantd";
    refused(
        &host.try_tenantd(["list"])?,
        6,
        &["python3 (process ", foreign],
    )?;
    found(&doctor(host)?, "daemon", "failed", foreign)?;
    machine.script(&format!("systemctl stop stranger; rm -f {api}"))?;
    Ok(())
}

#[test]
fn a_socket_that_somebody_else_has_is_named_and_left_alone() {
    on_host("sockets", |host| {
        let machine = host.machine;
        host.apply(&fake("acme"))?;
        machine.script(LISTEN)?;
        let stranger = |path: &str| listen(machine, "stranger", path, &["220 mail"]);

        // A user who is no member of the group.
        let nobody = Lack::Root.run(machine, "tenantd list")?;
        let group = "be root, or a member of group tenantd";
        refused(
            &nobody,
            6,
            &[
                "you may not talk to tenantd at /run/tenantd/api.sock",
                group,
            ],
        )?;

        // The ingress of a tenant.
        let ingress = "/run/tenantd/ingress/beta.sock";
        let before = everything(machine)?;
        for (make, by, unmake) in [
            ("mkdir", "is taken by a directory; move it away", "rmdir"),
            ("touch", "is taken by a file; move it away", "rm"),
        ] {
            machine.run([make, ingress])?;
            let said = host.try_apply(&fake("beta"))?;
            refused(
                &said,
                5,
                &[
                    "tenant beta: /run/tenantd/ingress/beta.sock, where its users reach it, ",
                    by,
                ],
            )?;
            machine.run([unmake, ingress])?;
            unchanged(machine, &before)?;
        }
        stranger(ingress)?;
        let said = host.try_apply(&fake("beta"))?;
        refused(
            &said,
            5,
            &["is taken by python3 (process ", "); end it and apply again"],
        )?;
        let greeting = format!(
            "import socket; s = socket.socket(socket.AF_UNIX); s.connect('{ingress}'); \
             print(s.recv(8).decode())"
        );
        ensure!(machine.run(["python3", "-c", &greeting])?.trim() == "220 mail");
        machine.script(&format!("systemctl stop stranger; rm -f {ingress}"))?;
        unchanged(machine, &before)?;
        // What a killed process left is nobody's.
        machine.run([
            "python3",
            "-c",
            &format!("import socket; socket.socket(socket.AF_UNIX).bind('{ingress}')"),
        ])?;
        host.apply(&fake("beta"))?;
        host.get("beta", "/healthz")?;

        the_daemons_own(host)?;

        // One that another user made is told nothing, least of all an identity.
        machine.script(
            "systemd-run --quiet --unit=other --uid=65534 socat -u UNIX-LISTEN:/tmp/other.sock CREATE:/tmp/told
             until [ -S /tmp/other.sock ]; do :; done
             chmod 0666 /tmp/other.sock",
        )?;
        let said = host.try_tenantd(["--socket", "/tmp/other.sock", "list"])?;
        refused(
            &said,
            6,
            &["listens at /tmp/other.sock, which is not tenantd: it is neither root nor you"],
        )?;
        let told = machine.attempt(["cat", "/tmp/told"])?;
        ensure!(told.stdout.is_empty(), "it was told {:?}", told.stdout);

        // The socket of a daemon that was killed is taken over.
        machine.run([
            "python3",
            "-c",
            &format!("import socket; socket.socket(socket.AF_UNIX).bind('{API}')"),
        ])?;
        machine.run(["systemctl", "start", "tenantd.service"])?;
        ensure!(host.state("acme")? == "running" && host.state("beta")? == "running");
        Ok(())
    });
}

/// What the doctor finds, whether it ends well or not.
fn doctor(host: &Host<'_>) -> anyhow::Result<Value> {
    host.try_tenantd(["doctor", "--json"])?.json()
}

fn found(checks: &Value, check: &str, verdict: &str, finding: &str) -> anyhow::Result<()> {
    let found = checks
        .as_array()
        .and_then(|checks| checks.iter().find(|found| found["check"] == check));
    let fits = found.is_some_and(|found| {
        found["verdict"] == verdict
            && found["finding"]
                .as_str()
                .is_some_and(|text| text.contains(finding))
    });
    ensure!(
        fits,
        "{check} is not {verdict} with {finding:?}: {checks:#}"
    );
    Ok(())
}

/// Every file that an installation, `init` or a daemon makes, with its mode and content.
fn everything(machine: &Machine) -> anyhow::Result<String> {
    let found = machine.script(
        r"places=$(ls -d /etc/containers /etc/systemd /etc/tenantd /etc/sysusers.d /etc/tmpfiles.d \
              /run/netns /usr/local /var/lib/tenantd 2>/dev/null || true)
          find $places ! -name 'state.db-*' ! -path '*/state/*' -printf '%p %y %m %U:%G %l\n' | sort
          find $places -type f ! -name 'state.db*' ! -path '*/state/*' ! -path '/run/*' -exec sha256sum {} + | sort",
    )?;
    Ok(found.stdout)
}

fn unchanged(machine: &Machine, before: &str) -> anyhow::Result<()> {
    let after = everything(machine)?;
    let (old, new): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    let changes: Vec<_> = old
        .iter()
        .filter(|line| !new.contains(line))
        .map(|line| format!("- {line}"))
        .chain(
            new.iter()
                .filter(|line| !old.contains(line))
                .map(|line| format!("+ {line}")),
        )
        .collect();
    ensure!(changes.is_empty(), "changed:\n{}", changes.join("\n"));
    Ok(())
}
