//! A machine that knows nothing but its Ignition config becomes a node by itself, and the same node again after it is lost.

use anyhow::{Context as _, ensure};
use xtask::machine::{Machine, in_machine};

use crate::bucket::{KEYS, REGION, Server};
use crate::host::{BINARY, Host, LIMIT, fake};

/// What the operator has, and the binary where the machine will fetch it.
const OPERATOR: &str = r"
    mkdir -p /srv/operator/tenants /srv/www
    cd /srv/operator
    ssh-keygen -q -t ed25519 -N '' -f root
    age-keygen -o identity.txt
    age-keygen -o other.txt
    gzip -1 <tenantd >/srv/www/tenantd.gz
";

/// How Ignition does it in the initramfs, before the host's systemd starts: files first, then what is switched on.
/// Only the restart is in a hurry.
const IGNITE: &str = r"
    install -d /run/ignition-test && cd /run/ignition-test && rm -rf ./* /run/ignition
    cp /srv/operator/config.ign config.ign
    # Debian's Ignition relabels at its end, and this machine has no SELinux; all else is done by then.
    for stage in fetch-offline fetch files; do
        /usr/lib/dracut/modules.d/30ignition/ignition --platform=file --root=/ --stage=$stage --log-to-stdout \
            --config-cache=/run/ignition-test/cache.json >log 2>&1 ||
            grep --quiet 'CRITICAL : Ignition failed: failed to handle relabeling' log || { cat log; exit 1; }
    done
    mkdir -p /etc/systemd/system/tenantd-bootstrap.service.d
    printf '[Service]\nRestartSec=1s\n' >/etc/systemd/system/tenantd-bootstrap.service.d/test.conf
    systemctl daemon-reload
    systemctl preset tenantd-bootstrap.service
";

/// Makes a unit that stays of the server's, which ends with the boot.
const STORE_AT_BOOT: &str = r"
    unit=/etc/systemd/system/s3-server.service
    cp /run/systemd/transient/s3-server.service $unit
    mkdir -p /etc/systemd/system/multi-user.target.wants
    ln -s $unit /etc/systemd/system/multi-user.target.wants/
";

/// One attempt for each start.
const NO_RESTART: &str = r"
    printf '[Service]\nRestart=no\n' >/etc/systemd/system/tenantd-bootstrap.service.d/test.conf
    systemctl daemon-reload
";

/// The points at which a first boot is cut short.
const POINTS: [&str; 5] = [
    "bootstrap.set-up",
    "bootstrap.node-back",
    "bootstrap.enabled",
    "bootstrap.tenants-back",
    "bootstrap.secrets-gone",
];

#[test]
fn a_machine_becomes_a_node_by_its_ignition_config_and_the_same_node_again_when_it_is_lost() {
    in_machine("first-boot", |machine| {
        let host = Host { machine };
        let server = becomes_a_node(&host)?;
        let revision = host.json(["show", "acme"])?["revision"].clone();

        // It is lost, and comes back by itself, however often it is cut short.
        lose(machine)?;
        config(&host, &server, "identity.txt")?;
        ignite(machine)?;
        machine.script(NO_RESTART)?;
        let start = ["systemctl", "start", "tenantd-bootstrap"].map(str::to_owned);
        for point in POINTS {
            machine.run(["mkdir", "-p", "/run/tenantd"])?;
            machine.write(tenantd::failpoint::ARMED, point)?;
            let started = machine.attempt_with(start.clone(), &[], LIMIT)?;
            ensure!(!started.success(), "{point} was not passed");
            machine.run(["test", "!", "-e", tenantd::failpoint::ARMED])?;
        }
        machine.attempt_with(start, &[], LIMIT)?.check()?;
        is_up(&host)?;
        host.expect("acme", "note", "of the first machine")?;
        ensure!(host.json(["show", "acme"])?["revision"] == revision);

        // What was given for that is gone, and it goes on like any other.
        let found = machine.script("grep -rl AGE-SECRET-KEY /etc /var/lib/tenantd || true")?;
        ensure!(
            found.stdout.is_empty(),
            "the identity is still in {}",
            found.stdout
        );
        host.write("acme", "note", "of the second machine")?;
        host.tenantd(["backup"])?;
        Ok(())
    });
}

#[test]
fn nothing_runs_on_a_machine_that_cannot_read_the_store() {
    in_machine("first-boot-waits", |machine| {
        let host = Host { machine };
        let server = becomes_a_node(&host)?;
        lose(machine)?;
        config(&host, &server, "other.txt")?;
        ignite(machine)?;
        machine.run(["systemctl", "start", "--no-block", "tenantd-bootstrap"])?;
        waits_because(machine, "no node's repository that this identity can read")
    });
}

/// A machine that was never there becomes a node with one tenant: the store has nothing of it.
fn becomes_a_node<'a>(host: &Host<'a>) -> anyhow::Result<Server<'a>> {
    let machine = host.machine;
    let server = Server::start(machine)?;
    server.make_bucket("backups")?;
    machine.run(["mkdir", "-p", "/srv/operator"])?;
    machine.copy_in(BINARY, "/srv/operator/tenantd")?;
    machine.script(OPERATOR)?;
    machine.write("/srv/operator/s3.key", KEYS)?;
    machine.write("/srv/operator/tenants/acme.toml", fake("acme"))?;
    config(host, &server, "identity.txt")?;
    ignite(machine)?;
    // The store is elsewhere: it is there when the machine boots.
    let address = server.endpoint().replace("http://", "");
    machine.script(&format!(
        "{STORE_AT_BOOT}\nsed -i 's/127.0.0.1:0/{address}/' $unit"
    ))?;
    machine.reboot()?;
    is_up(host)?;
    host.write("acme", "note", "of the first machine")?;
    host.tenantd(["backup"])?;
    Ok(server)
}

/// The config, as the operator has it printed.
fn config(host: &Host<'_>, server: &Server<'_>, identity: &str) -> anyhow::Result<()> {
    let endpoint = server.endpoint();
    let identity = format!("/srv/operator/{identity}");
    let words = [
        "/srv/operator/tenantd",
        "node",
        "butane",
        "--host=host-1",
        "--store=s3://backups/host-1",
        &format!("--endpoint={endpoint}"),
        &format!("--region={REGION}"),
        "--credentials=/srv/operator/s3.key",
        "--root-key=/srv/operator/root",
        &format!("--identity={identity}"),
        "--restore",
        "--tenants=/srv/operator/tenants",
        "--binary=/srv/operator/tenantd",
        "--binary-url=http://127.0.0.1:8099/tenantd.gz",
        "--allow-missing-controllers",
        "--swap=none",
        "--ignition",
    ];
    let printed = host.machine.run(words)?.stdout;
    host.machine.write("/srv/operator/config.ign", printed)
}

/// Has Ignition put the files in place, fetching what is elsewhere. The machine's ports are its own.
fn ignite(machine: &Machine) -> anyhow::Result<()> {
    machine.script("busybox httpd -p 127.0.0.1:8099 -h /srv/www")?;
    let done = machine
        .script(IGNITE)
        .context("Ignition refuses the config");
    machine.script("pkill -f 'busybox httpd'")?;
    done.map(drop)
}

fn lose(machine: &Machine) -> anyhow::Result<()> {
    machine.script("/run/repository/packaging/install.sh --uninstall --purge")?;
    Ok(())
}

/// The first boot is done and has taken away what it was told.
fn is_up(host: &Host<'_>) -> anyhow::Result<()> {
    host.wait_for_state("acme", "running")?;
    host.machine
        .wait_until("the first boot to be done", LIMIT, |machine| {
            let left = machine.script("ls -d /etc/tenantd/bootstrap* 2>/dev/null || true")?;
            Ok(if left.stdout.is_empty() {
                Ok(())
            } else {
                Err(left.stdout)
            })
        })?;
    for unit in [
        "tenantd.service",
        "tenantd-backup.timer",
        "tenantd-final-backup.service",
    ] {
        ensure!(host.property(unit, "ActiveState")? == "active", "{unit}");
        ensure!(host.property(unit, "UnitFileState")? == "enabled", "{unit}");
    }
    Ok(())
}

/// The first boot says why it cannot go on, and tries again.
fn waits_because(machine: &Machine, why: &str) -> anyhow::Result<()> {
    let what = format!("the first boot to say {why:?}");
    machine.wait_until(&what, LIMIT, |machine| {
        let said = machine.journal(["--unit=tenantd-bootstrap.service", "--lines=20"])?;
        Ok(if said.contains(why) {
            Ok(())
        } else {
            Err(said)
        })
    })?;
    nothing_runs(machine)
}

fn nothing_runs(machine: &Machine) -> anyhow::Result<()> {
    let running = machine.script(
        "systemctl list-units --plain --no-legend 'tenant-*.service' tenantd.service tenantd-backup.timer \
         --state=active,activating,reloading",
    )?;
    ensure!(running.stdout.is_empty(), "{}", running.stdout);
    let state = machine.attempt(["test", "-e", "/var/lib/tenantd/tenants/acme"])?;
    ensure!(!state.success(), "acme has begun empty");
    Ok(())
}
