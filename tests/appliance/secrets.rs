//! Secrets reach the agent and nothing else: not the disk, the journal, a process table, an answer, a unit or Podman.

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use xtask::machine::Machine;

use crate::host::{Host, LIMIT, fake, fake_with, on_host, refused};
use crate::node::{rebuild, save_keys};

const TENANT: &str = "foo-bar";

/// Values that occur nowhere else.
const FIRST: &str = "tgk4-Discord-first-w9Zr1cVqXo";
const SECOND: &str = "tgk4-Discord-second-Lm3YtPq8Bd";
const THIRD: &str = "tgk4-Discord-third-Hs6NfKe2Ua";
const ONLY_A_FILE: &str = "tgk4-Database-file-Jx0QvRi5Gy";

/// A tenant with a secret as a file, one as a variable too, and one that is made here.
fn spec(mode: &str) -> String {
    fake_with(
        TENANT,
        &format!(
            "env.FAKE_AGENT_MODE = \"{mode}\"\n\
             container.command = [\"/bin/fake-agent\"]\n\
             container.user = {{ uid = 1000, gid = 1000 }}\n\
             secrets.DATABASE = {{ file = \"database.conf\" }}\n\
             secrets.DISCORD = {{ env = \"DISCORD_TOKEN\" }}\n\
             secrets.GATEWAY = {{ generate = \"hex64\" }}"
        ),
    )
}

/// Gives a secret a value on standard input; more words for the command line.
fn set(host: &Host<'_>, name: &str, value: &str, more: &[&str]) -> anyhow::Result<()> {
    let words = ["tenantd", "secret", "set", TENANT, name, "-"];
    let argv = words.iter().chain(more).map(ToString::to_string);
    host.machine
        .attempt_with(argv, value.as_bytes(), LIMIT)?
        .check()?;
    Ok(())
}

/// What the agent finds in a file of its secrets.
fn file(host: &Host<'_>, name: &str) -> anyhow::Result<String> {
    let path = format!("/run/secrets/{name}");
    let output = host.tenantd(["exec", TENANT, "--", "cat", &path])?;
    Ok(output.stdout.trim_end().to_owned())
}

fn has_variable(host: &Host<'_>, value: &str) -> anyhow::Result<()> {
    let line = format!("DISCORD_TOKEN={value}");
    let variables = host.get(TENANT, "/env")?;
    ensure!(
        variables.lines().any(|found| found == line),
        "{line} is not in {variables}"
    );
    ensure!(file(host, "DISCORD")? == value);
    Ok(())
}

/// The row of `secret list` of one secret.
fn listed(host: &Host<'_>, name: &str) -> anyhow::Result<Value> {
    let list = host.json(["secret", "list", TENANT])?;
    let rows = list.as_array().cloned().unwrap_or_default();
    let row = rows.into_iter().find(|row| row["name"] == name);
    row.with_context(|| format!("no {name} in {list}"))
}

#[test]
fn secrets_reach_the_agent_and_leave_no_trace() {
    on_host("secrets", |host| {
        refused(
            &host.try_apply(&spec("ok"))?,
            5,
            &["tenantd secret set foo-bar DATABASE"],
        )?;
        set(host, "DATABASE", ONLY_A_FILE, &[])?;
        set(host, "DISCORD", FIRST, &[])?;
        host.apply(&spec("ok"))?;
        ensure!(file(host, "database.conf")? == ONLY_A_FILE);
        has_variable(host, FIRST)?;
        let generated = file(host, "GATEWAY")?;
        ensure!(generated.len() == 64, "{generated}");
        the_files_are_the_agents_own(host)?;
        // Whoever has an agent started that runs takes nothing from it.
        host.machine
            .run(["systemctl", "start", "tenant-foo-bar.service"])?;
        ensure!(file(host, "database.conf")? == ONLY_A_FILE);

        // A restart delivers them again; an apply of the same spec changes nothing.
        host.tenantd(["restart", TENANT])?;
        has_variable(host, FIRST)?;
        ensure!(host.apply(&spec("ok"))?.stdout.contains("unchanged"));

        // A new value is brought in by a revision of its own.
        set(host, "DISCORD", SECOND, &["--apply"])?;
        has_variable(host, SECOND)?;
        let row = listed(host, "DISCORD")?;
        ensure!(row["in-use"] == 2 && row["revision"] == 2, "{row}");
        host.tenantd(["secret", "rotate", TENANT, "GATEWAY"])?;
        let rotated = file(host, "GATEWAY")?;
        ensure!(rotated.len() == 64 && rotated != generated);
        let revealed = host.tenantd(["secret", "reveal", TENANT, "GATEWAY"])?;
        ensure!(revealed.stdout == rotated);

        // A revision that fails goes back to the versions of the one before it.
        set(host, "DISCORD", THIRD, &[])?;
        let failed = host.try_apply(&spec("exit:3"))?;
        ensure!(!failed.success(), "{failed:?}");
        has_variable(host, SECOND)?;
        ensure!(listed(host, "DISCORD")?["in-use"] == 2);
        refused(
            &host.try_tenantd(["secret", "rm", TENANT, "DISCORD", "--yes"])?,
            5,
            &["uses secret DISCORD"],
        )?;

        host.tenantd(["backup"])?;
        host.tenantd(["drill", TENANT])?;
        let planted = [FIRST, SECOND, THIRD, ONLY_A_FILE, &generated, &rotated];
        no_trace(host.machine, &planted)?;

        // A crashed agent gets them again; a stopped one leaves nothing in memory.
        let before = host.run_of(TENANT)?;
        host.request(TENANT, "/crash", &["--request", "POST"])?;
        host.machine.wait_until("another run", LIMIT, |_| {
            let run = host.run_of(TENANT)?;
            let is_up = host.get(TENANT, "/healthz").is_ok();
            Ok(if run != before && is_up {
                Ok(())
            } else {
                Err(run)
            })
        })?;
        has_variable(host, SECOND)?;
        host.tenantd(["stop", TENANT])?;
        let left = host
            .machine
            .script("ls -A /run/tenantd/secrets; ls -A /run/credentials | grep secrets || true")?;
        ensure!(left.stdout.trim().is_empty(), "{}", left.stdout);
        no_trace(host.machine, &planted)?;
        host.tenantd(["remove", TENANT, "--purge", "--yes"])?;
        let left = host.machine.script("ls -A /var/lib/tenantd/secrets")?;
        ensure!(left.stdout.is_empty(), "{}", left.stdout);
        Ok(())
    });
}

/// In memory that is never swapped out, for the agent's user only, and in no core dump.
fn the_files_are_the_agents_own(host: &Host<'_>) -> anyhow::Result<()> {
    let mount = host.machine.run([
        "findmnt",
        "--noheadings",
        "--output=FSTYPE,OPTIONS",
        "/run/tenantd/secrets/foo-bar",
    ])?;
    let (kind, options) = mount.stdout.split_once(' ').context("no mount")?;
    let is_safe = kind == "ramfs" || options.split(',').any(|option| option.trim() == "noswap");
    ensure!(is_safe, "{}", mount.stdout);
    // A shell that cannot even list them would prove nothing.
    let listing = host.tenantd([
        "exec",
        TENANT,
        "--",
        "sh",
        "-c",
        "ls -ldn /run/secrets /run/secrets/DISCORD && ! (: >/run/secrets/x)",
    ])?;
    for start in ["dr-x------", "-r--------"] {
        let line = listing.stdout.lines().find(|line| line.starts_with(start));
        let line = line.with_context(|| format!("no {start} in {}", listing.stdout))?;
        ensure!(
            line.split_whitespace().skip(2).take(2).eq(["1000", "1000"]),
            "{line}"
        );
    }
    let limits = host
        .machine
        .script("cat /proc/$(podman inspect --format '{{.State.Pid}}' tenant-foo-bar)/limits")?;
    let core = limits
        .stdout
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let core: Vec<_> = core.unwrap_or_default().split_whitespace().collect();
    ensure!(core.get(4..6) == Some(&["1", "1"]), "{core:?}");
    Ok(())
}

/// Where the whole disk and the swap can be looked through, byte by byte: neither has a value, nor has anything else.
pub fn no_disk_has_a_value(host: &Host<'_>) -> anyhow::Result<()> {
    set(host, "DATABASE", ONLY_A_FILE, &[])?;
    set(host, "DISCORD", FIRST, &[])?;
    // One processor: the container's times do not hold.
    host.apply(&spec("ok").replace("15s", "2min"))?;
    has_variable(host, FIRST)?;
    let generated = file(host, "GATEWAY")?;
    host.tenantd(["backup", TENANT])?;
    host.machine.run(["sync"])?;
    let planted = [FIRST, ONLY_A_FILE, &generated];
    for value in planted {
        let found = host.machine.disks_with(value)?;
        ensure!(found.is_empty(), "a value is on {found:?}");
    }
    no_trace(host.machine, &planted)
}

/// Looks for `planted` wherever a secret must not be: on every disk and in `/run` (without the mounts that agents read
/// their secrets from), in the journals, in what Podman and tenantd answer, in every process's arguments, and in every
/// process's environment but the agents' own.
pub fn no_trace(machine: &Machine, planted: &[&str]) -> anyhow::Result<()> {
    let encoded = planted.iter().map(|value| STANDARD.encode(value));
    let mut patterns: Vec<String> = planted.iter().map(ToString::to_string).collect();
    // As bytes of a longer text they may be shifted; at the beginning they are not.
    patterns.extend(encoded.map(|text| text.trim_end_matches('=')[..16].to_owned()));
    let decoy = "tgk4-decoy-Ew7MbCz1";
    patterns.push(decoy.to_owned());
    let script = r#"
        # In memory, and on a file system that is not looked through.
        patterns=$(mktemp --tmpdir=/dev/shm)
        trap 'rm "$patterns"' EXIT
        cat >"$patterns"
        look() { ! grep -qaF -f "$patterns" || echo "found in: $1"; }
        tail --lines=1 "$patterns" >/var/tmp/decoy
        sync
        find / /run /tmp /var -xdev -type f -print0 | sort -zu |
            xargs -0 grep -laF -f "$patterns" -- 2>/dev/null
        rm /var/tmp/decoy
        journalctl --all --output=export --namespace='*' | look journal
        podman ps --all --quiet | xargs -r podman inspect | look 'podman inspect'
        systemctl show '*' | look 'unit properties'
        for path in tenants secrets tenants/foo-bar tenants/foo-bar/units tenants/foo-bar/secrets \
            tenants/foo-bar/revisions tenants/foo-bar/revisions/1 tenants/foo-bar/spec operations node; do
            curl --silent --unix-socket /run/tenantd/api.sock "http://tenantd/v1/$path" | look "API: $path"
        done
        for process in /proc/[0-9]*; do
            tr '\0' '\n' <"$process/cmdline" 2>/dev/null | look "arguments of $process"
            case $(readlink "$process/exe") in
            */fake-agent) ;;
            *) tr '\0' '\n' <"$process/environ" 2>/dev/null | look "environment of $process" ;;
            esac
        done
    "#;
    let bash = ["bash", "-c", script].map(str::to_owned);
    let found = machine
        .attempt_with(bash, patterns.join("\n").as_bytes(), LIMIT)?
        .check()?;
    let found: Vec<_> = found.stdout.lines().collect();
    ensure!(
        found == ["/var/tmp/decoy"],
        "the decoy alone should be found, not: {found:?}"
    );
    Ok(())
}

#[test]
fn a_rebuilt_host_has_the_secrets_again() {
    on_host("secrets-lost", |host| {
        set(host, "DATABASE", ONLY_A_FILE, &[])?;
        set(host, "DISCORD", FIRST, &[])?;
        host.apply(&spec("ok"))?;
        let generated = file(host, "GATEWAY")?;
        host.apply(&fake("other"))?;
        host.tenantd(["backup"])?;
        save_keys(host)?;
        host.machine
            .run(["cp", "-a", "/var/lib/tenantd/backups", "/var/tmp/backups"])?;
        rebuild(host, &[], || {
            // Another machine has another key.
            host.machine.script(
                "mkdir -p /var/lib/tenantd; mv /var/tmp/backups /var/lib/tenantd/
                 chattr -i /var/lib/systemd/credential.secret 2>/dev/null || true
                 rm /var/lib/systemd/credential.secret",
            )?;
            Ok(())
        })?;
        host.wait_for_state(TENANT, "running")?;
        has_variable(host, FIRST)?;
        ensure!(file(host, "GATEWAY")? == generated);
        no_trace(host.machine, &[FIRST, ONLY_A_FILE, &generated])
    });
}
