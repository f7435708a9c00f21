//! Backups to a bucket of a real S3 server: what it keeps, what it is told, and what happens when it does not answer.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use xtask::machine::{Output, in_machine};

use crate::adapters::unit_tests;
use crate::bucket::{KEYS, REGION, Server};
use crate::crashes::not_frozen;
use crate::host::{Host, fake};
use crate::node::{rebuild, save_keys};

const BUCKET: &str = "backups";
const STORE: &str = "s3://backups/node/a";

/// Where the operator puts the key to the bucket.
const CREDENTIALS: &str = "/etc/tenantd/s3-credentials";

/// What the commands of a test may take when they do not wait for a store.
const AT_ONCE: Duration = Duration::from_secs(30);

/// What the agent keeps, and what its content begins with; neither may be seen in the bucket.
const NOTE: &str = "diary";
const CONTENT: &str = "between us";

/// Runs a test on a fresh host whose backups go to a bucket.
fn on_host_with_bucket(
    name: &str,
    test: impl FnOnce(&Host<'_>, &Server<'_>) -> anyhow::Result<()>,
) {
    in_machine(name, |machine| {
        let server = Server::start(machine)?;
        server.make_bucket(BUCKET)?;
        let host = Host { machine };
        host.install()?;
        write_credentials(&host, KEYS)?;
        host.init(name, &store_options(&server))?;
        host.start_daemon()?;
        test(&host, &server)
    });
}

fn write_credentials(host: &Host<'_>, keys: &str) -> anyhow::Result<()> {
    host.machine.write(CREDENTIALS, keys)?;
    host.machine.run(["chmod", "600", CREDENTIALS])?;
    Ok(())
}

/// What `init` is told of the bucket.
fn store_options(server: &Server<'_>) -> Vec<String> {
    let options = [
        ["--store", STORE],
        ["--endpoint", &server.endpoint()],
        ["--region", REGION],
        ["--credentials", CREDENTIALS],
    ];
    options.concat().into_iter().map(str::to_owned).collect()
}

/// A tenant with state: a note, and a file of several packs.
fn apply_with_state(host: &Host<'_>, tenant: &str) -> anyhow::Result<()> {
    host.apply(&fake(tenant))?;
    host.write(tenant, NOTE, &format!("{CONTENT}, {tenant}"))?;
    let directory = format!("/var/lib/tenantd/tenants/{tenant}/state/data");
    let large = format!("head --bytes=40M /dev/urandom >{directory}/ledger");
    host.machine.script(&large)?;
    Ok(())
}

/// Names, modes, owners and contents below a directory.
fn contents(host: &Host<'_>, directory: &str) -> anyhow::Result<String> {
    let script = format!(
        r"cd {directory}
          find . -printf '%P %y %m %U:%G %l\n' | sort
          find . -type f -exec sha256sum {{}} + | sort"
    );
    Ok(host.machine.script(&script)?.stdout)
}

/// What the store check of the doctor says.
fn doctor(host: &Host<'_>) -> anyhow::Result<(String, String)> {
    let output = host.try_tenantd(["doctor", "--json"])?;
    let checks: Vec<serde_json::Value> = output.json()?;
    let store = checks
        .into_iter()
        .find(|check| check["check"] == "store")
        .context("the doctor does not look at the store")?;
    let text = |field: &str| store[field].as_str().unwrap_or_default().to_owned();
    Ok((text("verdict"), text("finding")))
}

/// A server without versions: everything works, and what it does not protect is said.
fn the_probe_tells_and_leaves_nothing(host: &Host<'_>, server: &Server<'_>) -> anyhow::Result<()> {
    let probed = host.tenantd(["doctor", "--store", "--json"])?;
    let checks: Vec<serde_json::Value> = probed.json()?;
    let verdict = |name: &str| {
        let check = checks.iter().find(|check| check["check"] == name);
        check.map(|check| check["verdict"].as_str().unwrap_or_default().to_owned())
    };
    for name in ["reach", "write", "read", "range", "list", "clock"] {
        ensure!(verdict(name).as_deref() == Some("ok"), "{name}: {checks:?}");
    }
    for name in ["versions", "key"] {
        let is_warning = verdict(name).as_deref() == Some("warning");
        ensure!(is_warning, "{name}: {checks:?}");
    }
    let left = server.keys(BUCKET)?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

/// A failure with this exit code that says all this.
fn failed(output: &Output, code: i32, messages: &[&str]) -> anyhow::Result<()> {
    println!("{}", output.stderr);
    ensure!(
        output.code == Some(code),
        "not exit code {code}: {output:?}"
    );
    for message in messages {
        ensure!(
            output.stderr.contains(message),
            "{message:?} is not in {}",
            output.stderr
        );
    }
    Ok(())
}

#[test]
fn a_tenant_comes_back_from_a_bucket_that_tells_nothing_of_it() {
    on_host_with_bucket("s3-life", |host, server| {
        let state = "/var/lib/tenantd/tenants/foo-bar/state";
        let check = doctor(host)?;
        ensure!(
            check == ("ok".to_owned(), format!("{STORE} answers")),
            "{check:?}"
        );
        the_probe_tells_and_leaves_nothing(host, server)?;
        apply_with_state(host, "foo-bar")?;
        host.tenantd(["backup", "foo-bar"])?;
        let snapshots = host.json(["snapshots", "foo-bar"])?;
        ensure!(
            snapshots[0]["sent-bytes"].as_u64() > Some(40 << 20),
            "{snapshots}"
        );

        let keys = server.keys(BUCKET)?;
        let kinds = [
            "repository.json",
            "RESTORE.md",
            "restore.sh",
            "keys/",
            "packs/",
            "trees/",
            "commits/",
        ];
        for kind in kinds {
            ensure!(
                keys.iter().any(|key| key.contains(kind)),
                "no {kind} in {keys:?}"
            );
        }
        for key in &keys {
            let object = key.strip_prefix("node/a/").context("outside the prefix")?;
            let (repository, object) = object.split_once('/').context("outside a repository")?;
            let is_random = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
            ensure!(repository.len() == 32 && is_random(repository), "{key}");
            ensure!(kinds.iter().any(|kind| object.starts_with(kind)), "{key}");
        }
        let words = ["foo-bar", "foo?bar", NOTE, "ledger", CONTENT];
        let found = server.objects_with(&words)?;
        ensure!(found.is_empty(), "readable in {found}");

        // Lost while the agent is stopped, and asked for.
        let before = contents(host, state)?;
        host.tenantd(["stop", "foo-bar"])?;
        host.machine.script(&format!("rm -r {state}/data/*"))?;
        host.tenantd(["restore", "foo-bar"])?;
        ensure!(
            contents(host, state)? == before,
            "another state was restored"
        );
        host.tenantd(["start", "foo-bar"])?;
        host.expect("foo-bar", NOTE, &format!("{CONTENT}, foo-bar"))?;

        // Lost as a whole, with the keys in systemd's hands and not asked for: it starts with its state.
        host.machine.script(&format!(
            "mkdir -p /etc/credstore
             mv {CREDENTIALS} /etc/credstore/tenantd.s3
             systemctl restart tenantd.service"
        ))?;
        host.write("foo-bar", "more", "by credential")?;
        host.tenantd(["backup", "foo-bar"])?;
        ensure!(doctor(host)?.0 == "ok");
        host.tenantd(["stop", "foo-bar"])?;
        host.machine.script(&format!("rm -r {state}/data/*"))?;
        host.tenantd(["start", "foo-bar"])?;
        host.expect("foo-bar", "more", "by credential")?;

        // A shell has no credentials; the message says how it gets them.
        let beside = "tenantd restore foo-bar --to /var/lib/beside";
        let output = host.machine.attempt(beside.split(' '))?;
        let remedy = "systemd-run --pipe --wait --property=ImportCredential=tenantd.*";
        failed(&output, 1, &["no S3 keys: ", remedy])?;
        host.machine.script(&format!("{remedy} {beside}"))?;
        ensure!(host.machine.read("/var/lib/beside/data/more")? == "by credential");
        Ok(())
    });
}

#[test]
fn a_bucket_out_of_reach_costs_a_backup_and_nothing_else() {
    on_host_with_bucket("s3-down", |host, server| {
        apply_with_state(host, "acme")?;
        host.tenantd(["backup", "acme"])?;
        host.write("acme", "later", "not yet in the bucket")?;
        let agent = host.property("tenant-acme.service", "MainPID")?;

        server.stop()?;
        let (output, took) = std::thread::scope(|scope| {
            let backup = scope.spawn(|| {
                let begin = Instant::now();
                (host.try_tenantd(["backup", "acme"]), begin.elapsed())
            });
            while_the_backup_waits(host)?;
            let (output, took) = backup.join().ok().context("the backup's thread")?;
            anyhow::Ok((output?, took))
        })?;
        println!("gave up after {} s", took.as_secs());
        failed(
            &output,
            1,
            &[
                "the backup of tenant acme failed",
                "the store is out of reach or overloaded; check its endpoint and the network",
                &server.endpoint(),
                "Connection refused",
                "journalctl -u tenantd-backup@acme.service",
            ],
        )?;
        not_frozen(host)?;
        let refused = host.try_tenantd(["restore", "acme"])?;
        let untouched = "tenant acme was left as it is: the object store cannot be used";
        failed(&refused, 1, &[untouched])?;
        ensure!(host.property("tenant-acme.service", "MainPID")? == agent);

        server.start_again()?;
        host.tenantd(["backup", "acme"])?;
        host.tenantd(["restore", "acme", "--to", "/var/lib/beside"])?;
        let state = contents(host, "/var/lib/tenantd/tenants/acme/state/data")?;
        ensure!(
            contents(host, "/var/lib/beside/data")? == state,
            "not what was backed up"
        );

        // One that accepts and says nothing must not be waited for without end.
        server.fall_silent()?;
        let begin = Instant::now();
        let check = doctor(host)?;
        let silent = "the object store does not answer within 10 s";
        ensure!(check.0 == "failed" && check.1.contains(silent), "{check:?}");
        ensure!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
        server.speak()?;
        ensure!(doctor(host)?.0 == "ok");
        Ok(())
    });
}

/// The agent answers and is not frozen, and another tenant can be applied.
fn while_the_backup_waits(host: &Host<'_>) -> anyhow::Result<()> {
    host.machine
        .wait_until("the backup to wait for the store", AT_ONCE, |machine| {
            let journal = machine.journal(["--unit=tenantd-backup@acme.service"])?;
            let waits = journal.contains("object store call is repeated");
            Ok(if waits { Ok(()) } else { Err(journal) })
        })?;
    host.expect("acme", "later", "not yet in the bucket")?;
    not_frozen(host)?;
    let begin = Instant::now();
    host.apply(&fake("beta"))?;
    ensure!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
    Ok(())
}

#[test]
fn a_bucket_that_refuses_is_told_with_what_to_do() {
    on_host_with_bucket("s3-refusals", |host, server| {
        let set_url = |url: &str| {
            let edit = format!("s|^url = .*|url = \"{url}\"|");
            host.machine
                .run(["sed", "-i", &edit, "/etc/tenantd/node.toml"])?;
            host.tenantd(["reload"])
        };
        let refused = |why: &str, cause: &str| {
            let backup = host.try_tenantd(["backup", "acme"])?;
            failed(
                &backup,
                1,
                &["the backup of tenant acme failed", why, cause],
            )?;
            let check = doctor(host)?;
            ensure!(check.0 == "failed" && check.1.contains(why), "{check:?}");
            anyhow::Ok(())
        };

        // Mistyped at first; nothing has to be cleared away when that is put right.
        set_url("s3://absent/node/a")?;
        apply_with_state(host, "acme")?;
        let no_bucket = "there is no such bucket; make it, or correct `url` under [store]";
        refused(no_bucket, "s3://absent")?;
        set_url(STORE)?;
        host.tenantd(["backup", "acme"])?;

        host.write("acme", "later", "not yet in the bucket")?;
        write_credentials(host, "tenantd-test\nnot-the-secret\n")?;
        let wrong_key = "the store does not accept the key; check the two lines of its credentials";
        refused(wrong_key, "SignatureDoesNotMatch")?;
        an_order_fails_and_is_forgotten(host)?;
        write_credentials(host, KEYS)?;

        // Another bucket has none of the packs that the next snapshot would name.
        server.make_bucket("empty")?;
        set_url("s3://empty/node/a")?;
        let elsewhere = "the snapshots of acme are in s3://backups/node/a at http://127.0.0.1:";
        failed(&host.try_tenantd(["backup", "acme"])?, 1, &[elsewhere])?;
        ensure!(server.keys("empty")?.is_empty());

        set_url(STORE)?;
        not_frozen(host)?;
        host.tenantd(["backup", "acme"])?;
        host.tenantd(["restore", "acme", "--to", "/var/lib/beside"])?;
        ensure!(host.machine.read("/var/lib/beside/data/later")? == "not yet in the bucket");
        Ok(())
    });
}

/// A restore that was ordered and cannot read the store has failed, also when systemd tries
/// again and finds the order gone; the state stays, and a later start does not restore it.
fn an_order_fails_and_is_forgotten(host: &Host<'_>) -> anyhow::Result<()> {
    host.tenantd(["stop", "acme"])?;
    host.machine.write(
        "/run/tenantd/restore/acme",
        r#"{"snapshot":null,"identity":null,"until_done":false}"#,
    )?;
    let unit = "tenantd-restore@acme.service";
    let started = host.machine.attempt(["systemctl", "start", unit])?;
    ensure!(!started.success(), "a restore without a store succeeded");
    ensure!(host.property(unit, "ExecMainStatus")? == "69");
    host.tenantd(["start", "acme"])?;
    host.expect("acme", "later", "not yet in the bucket")
}

#[test]
fn a_lost_host_is_rebuilt_from_the_operators_keys_and_a_bucket() {
    on_host_with_bucket("s3-lost-host", |host, server| {
        for tenant in ["acme", "foo-bar"] {
            apply_with_state(host, tenant)?;
        }
        host.tenantd(["stop", "foo-bar"])?;
        host.tenantd(["backup"])?;
        let state =
            |tenant: &str| contents(host, &format!("/var/lib/tenantd/tenants/{tenant}/state"));
        let before = [state("acme")?, state("foo-bar")?];
        save_keys(host)?;
        rebuild(host, &store_options(server), || {
            write_credentials(host, KEYS)
        })?;

        host.wait_for_state("acme", "running")?;
        host.expect("acme", NOTE, &format!("{CONTENT}, acme"))?;
        host.wait_for_state("foo-bar", "stopped")?;
        host.tenantd(["start", "foo-bar"])?;
        host.expect("foo-bar", NOTE, &format!("{CONTENT}, foo-bar"))?;
        for (tenant, before) in ["acme", "foo-bar"].into_iter().zip(before) {
            let after = state(tenant)?;
            let (before, after) = (untouched_lines(&before), untouched_lines(&after));
            ensure!(before == after, "{tenant}: {before:#?} became {after:#?}");
        }
        host.tenantd(["backup"])?;
        Ok(())
    });
}

/// Without what the agent itself writes as it starts and stops.
fn untouched_lines(contents: &str) -> Vec<&str> {
    let own = ["data/starts", "data/last-shutdown"];
    let lines = contents.lines();
    lines
        .filter(|line| !own.iter().any(|file| line.contains(file)))
        .collect()
}

#[test]
fn a_real_server_keeps_what_a_store_promises() {
    in_machine("s3-contract", |machine| {
        let server = Server::start(machine)?;
        server.make_bucket(BUCKET)?;
        let variables = [
            ("TENANTD_S3_BUCKET", BUCKET),
            ("TENANTD_S3_ENDPOINT", &server.endpoint()),
            ("TENANTD_S3_REGION", REGION),
            ("TENANTD_S3_KEYS", KEYS),
        ];
        unit_tests(machine, &variables, &["a_real_server_"])
    });
}
