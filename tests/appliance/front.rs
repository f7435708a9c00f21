//! The public front: Caddy, with certificates of a real ACME server, before tenants' doors.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::host::{Host, fake_with, on_prepared_host, refused};

/// How long a certificate may take; a challenge that fails is tried again by another.
const SOON: Duration = Duration::from_mins(2);

/// An authority, and names that lead to this host in different ways: one by port 80 alone, one by 443 alone, one not at
/// all. All others lead to 127.0.0.1.
const AUTHORITY: &str = r#"
mkdir -p /etc/pebble && cd /etc/pebble
key="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
openssl req -x509 $key -days 3 -subj '/CN=Authority of the test' -keyout root.key -out root.pem 2>/dev/null
openssl req $key -subj /CN=localhost -keyout key.pem -out request.pem 2>/dev/null
printf 'subjectAltName=DNS:localhost\nbasicConstraints=critical,CA:FALSE\n' >extensions
openssl x509 -req -in request.pem -CA root.pem -CAkey root.key -CAcreateserial -days 3 -extfile extensions \
    -out cert.pem 2>/dev/null
cat >config.json <<END
{"pebble": {"listenAddress": "127.0.0.1:14000", "managementListenAddress": "127.0.0.1:15000",
 "certificate": "/etc/pebble/cert.pem", "privateKey": "/etc/pebble/key.pem", "httpPort": 80, "tlsPort": 443,
 "ocspResponderURL": "", "externalAccountBindingRequired": false}}
END
systemd-run --quiet --unit=dns pebble-challtestsrv -defaultIPv6 '' -dns01 127.0.0.1:8053 -http01 '' -https01 '' \
    -tlsalpn01 '' -management 127.0.0.1:8055
systemd-run --quiet --unit=pebble --setenv=PEBBLE_VA_NOSLEEP=1 --setenv=PEBBLE_WFE_NONCEREJECT=0 \
    pebble -config /etc/pebble/config.json -dnsserver 127.0.0.1:8053
name() { curl --silent --fail --retry 20 --retry-connrefused --retry-delay 1 --data "{\"host\":\"$1\",\"addresses\":[\"$2\"]}" \
    http://127.0.0.1:8055/add-a; }
name www.acme.com 127.0.0.9
name bolt.example.org 127.0.0.10
name lost.example.org 127.0.0.11
systemd-run --quiet --unit=only-80 socat TCP-LISTEN:80,bind=127.0.0.9,fork,reuseaddr TCP:127.0.0.1:80
systemd-run --quiet --unit=only-443 socat TCP-LISTEN:443,bind=127.0.0.10,fork,reuseaddr TCP:127.0.0.1:443
"#;

const SETTINGS: &str = r#"
cat >>/etc/tenantd/node.toml <<END

[front]
domain = "example.org"
email = "ops@example.org"
acme-directory = "https://localhost:14000/dir"
acme-root = "/etc/pebble/root.pem"
bind = ["127.0.0.1"]
header-timeout = "2s"
max-body = "50MiB"
END
tenantd reload
"#;

/// Speaks to the front as strangers do, byte by byte where it matters. Prints nothing when all is well.
const STRANGER: &str = include_str!("front_stranger.py");

fn on_host_with_front(name: &str, test: impl FnOnce(&Host<'_>) -> anyhow::Result<()>) {
    on_prepared_host(name, "true", &[], |host| {
        let tools = xtask::front_tools::ensure()?;
        for program in xtask::front_tools::programs() {
            host.machine
                .copy_in(tools.join(program), &format!("/usr/bin/{program}"))?;
        }
        host.machine.script(AUTHORITY)?;
        host.machine.write("/root/stranger.py", STRANGER)?;
        test(host)
    });
}

/// Waits until a host's certificate is there, or was refused.
fn wait_for(host: &Host<'_>, name: &str, state: &str) -> anyhow::Result<Value> {
    let what = format!("the certificate of {name} to be {state}");
    host.machine.wait_until(&what, SOON, |_| {
        let report = host.json(["front"])?;
        let hosts = report["hosts"].as_array().cloned().unwrap_or_default();
        let found = hosts.into_iter().find(|found| found["host"] == name);
        Ok(match found {
            Some(found) if found["state"] == state => Ok(found),
            _ => Err(report.to_string()),
        })
    })
}

fn stranger(host: &Host<'_>, words: &[&str]) -> anyhow::Result<()> {
    let argv = ["python3", "/root/stranger.py"].iter().chain(words);
    host.machine.run(argv.map(ToString::to_string))?;
    Ok(())
}

#[test]
fn the_public_reaches_tenants_by_their_hosts_and_nobody_else_does() {
    on_host_with_front("front", |host| {
        host.machine.script(SETTINGS)?;
        let acme = fake_with("acme", "hosts = [\"www.acme.com\"]\nloopback-port = 18080");
        host.apply(&acme)?;
        host.apply(&fake_with("bolt", ""))?;
        certificates(host)?;
        stranger(host, &["all"])?;
        ways_in(host, &acme)?;
        logs_and_backups(host)?;
        without_the_daemon(host)?;
        comings_and_goings(host)?;
        wildcard(host)
    });
}

/// By HTTP-01 where only port 80 leads here, by TLS-ALPN-01 where only 443 does, and with a remedy where neither does.
fn certificates(host: &Host<'_>) -> anyhow::Result<()> {
    for name in ["acme.example.org", "www.acme.com", "bolt.example.org"] {
        wait_for(host, name, "valid")?;
    }
    let pebble = host.machine.journal(["--unit=pebble.service"])?;
    ensure!(
        pebble.contains("http-01") || pebble.contains("Attempting to validate w/ HTTP"),
        "{pebble}"
    );

    host.apply(&fake_with("lost", ""))?;
    let lost = wait_for(host, "lost.example.org", "refused")?;
    let remedy = lost["trouble"]["remedy"].as_str().unwrap_or_default();
    ensure!(remedy.contains("TCP ports 80 and 443"), "{lost}");
    let status = host.tenantd(["status"])?;
    ensure!(
        status
            .stdout
            .contains("lost: the certificate of lost.example.org is refused"),
        "{status:?}"
    );
    host.tenantd(["remove", "lost"])?;
    Ok(())
}

fn ways_in(host: &Host<'_>, acme: &str) -> anyhow::Result<()> {
    // What is another's, or the node's, nobody gets.
    let thief = fake_with("thief", "hosts = [\"www.acme.com\", \"acme.example.org\"]");
    refused(
        &host.try_apply(&thief)?,
        5,
        &[
            "tenant thief cannot have the host www.acme.com: tenant acme has it",
            "tenant thief cannot have the host acme.example.org",
        ],
    )?;
    // A port of the loopback, for proxies that cannot speak to sockets; it moves while the agent runs on.
    let run = host.run_of("acme")?;
    let by_port = |port: u16| {
        let url = format!("http://127.0.0.1:{port}/healthz");
        host.machine
            .wait_for(["curl", "--silent", "--fail", &url], SOON)
    };
    by_port(18080)?;
    host.apply(&acme.replace("18080", "18081"))?;
    by_port(18081)?;
    ensure!(host.run_of("acme")? == run, "the agent was restarted");
    host.apply(&fake_with("bolt", "loopback-port = 18082"))?;
    by_port(18082)?;

    // What other proxies are told, they understand.
    host.machine.script(
        r"tenantd front snippet caddy >/root/Caddyfile
          caddy validate --adapter caddyfile --config /root/Caddyfile
          tenantd front snippet nginx >/root/tenants.conf
          printf 'events {}\nhttp { include /root/tenants.conf; }\n' >/root/nginx.conf
          mkdir -p /var/log/nginx /var/lib/nginx
          nginx -t -e stderr -c /root/nginx.conf
          tenantd front snippet traefik | grep --fixed-strings 'http://127.0.0.1:18081'
          tenantd front snippet tailscale acme | grep '^tailscale serve .*:18081'",
    )?;
    Ok(())
}

fn logs_and_backups(host: &Host<'_>) -> anyhow::Result<()> {
    let log = host.tenantd(["logs", "acme", "--access"])?.stdout;
    ensure!(log.contains(" 200 GET acme.example.org/headers "), "{log}");
    ensure!(
        !log.contains("secret-token") && !log.contains("bolt.example.org"),
        "{log}"
    );
    let exposed = host.property("tenantd-front.service", "User")?;
    ensure!(exposed == "tenantd-front", "{exposed}");
    host.machine.script(
        r#"tenantd backup
          ls /var/lib/tenantd/node-snapshot/front/certificates/*/www.acme.com/www.acme.com.key
          pid=$(systemctl show --value --property=MainPID tenantd-front.service)
          # Caddy can reach tenants' doors and nothing that leads to root.
          as_caddy() { nsenter --target=$pid --mount setpriv --reuid=tenantd-front --regid=tenantd-front --clear-groups "$@"; }
          reach() { as_caddy curl --silent --max-time 5 --output /dev/null --unix-socket $1 http://x/; }
          reach /run/tenantd/ingress/acme.sock
          if reach /run/tenantd/api.sock || reach /run/podman/podman.sock || as_caddy ls /var/lib/tenantd; then exit 1; fi"#,
    )?;
    Ok(())
}

/// The front, its certificates and its configuration stay while nobody decides.
fn without_the_daemon(host: &Host<'_>) -> anyhow::Result<()> {
    host.machine.run(["systemctl", "stop", "tenantd.service"])?;
    stranger(host, &["answers"])?;
    host.machine.script(
        r"systemctl kill --signal=KILL tenantd-front.service
          systemctl restart tenantd-front.service",
    )?;
    stranger(host, &["answers"])?;
    // Events pass one by one: a link by hand leads to a server that waits for its first event to arrive.
    stranger(host, &["events"])?;
    host.machine
        .run(["systemctl", "start", "tenantd.service"])?;
    host.wait_for_state("acme", "running")
}

fn comings_and_goings(host: &Host<'_>) -> anyhow::Result<()> {
    // A tenant's coming cuts nobody else's connection.
    stranger(host, &["stays", "tenantd remove bolt"])?;
    // A host that is given up is nobody's at once.
    host.apply(&fake_with("acme", ""))?;
    let hosts = "/var/lib/tenantd-front/hosts";
    host.machine.wait_for(
        [
            "sh",
            "-c",
            &format!("test \"$(ls {hosts})\" = acme.example.org"),
        ],
        SOON,
    )?;
    stranger(host, &["given-up", "www.acme.com"])?;
    // Crashes between the steps: the next look goes on.
    for (point, change) in [
        ("front.linked", "hsts = \"1h\""),
        ("front.loaded", "hsts = \"2h\""),
    ] {
        // First the change: the daemon may look by itself at any time, and meet its end before it is told to. It reads
        // the change when it comes back, too.
        host.machine.script(&format!(
            "sed -i '/^hsts/d; s/^domain = .*/&\\n{}/' /etc/tenantd/node.toml",
            change.replace('"', "\\\"")
        ))?;
        host.arm(point)?;
        host.machine
            .script("systemctl reload tenantd.service || true")?;
        host.machine.wait_until("the failpoint", SOON, |_| {
            Ok(if host.was_hit()? {
                Ok(())
            } else {
                Err("not hit".to_owned())
            })
        })?;
        let seconds = if point == "front.linked" {
            "3600"
        } else {
            "7200"
        };
        host.machine.wait_for(
            [
                "grep",
                "--quiet",
                &format!("max-age={seconds}"),
                "/var/lib/tenantd-front/caddy.json",
            ],
            SOON,
        )?;
        stranger(host, &["hsts", seconds])?;
    }
    // Off, Caddy is stopped and stays so.
    host.arm("front.kept")?;
    host.machine.script(
        "sed -i 's/^domain = .*/&\\nmode = \"none\"/' /etc/tenantd/node.toml; tenantd reload",
    )?;
    host.machine.wait_for(
        ["sh", "-c", "! systemctl is-active --quiet tenantd-front && test ! -e /var/lib/tenantd-front/caddy.json"],
        SOON,
    )?;
    host.machine.script(
        "sed -i '/^mode = \"none\"/d' /etc/tenantd/node.toml; systemctl reload tenantd.service",
    )?;
    // Killed between the configuration and the start: the next daemon starts it.
    host.machine
        .wait_for(["systemctl", "is-active", "--quiet", "tenantd-front"], SOON)?;
    ensure!(
        host.was_hit().context("the failpoint")?,
        "front.kept was not reached"
    );
    // Who comes back is served by the certificate that there is.
    host.apply(&fake_with("acme", "hosts = [\"www.acme.com\"]"))?;
    host.tenantd(["reclaim", "bolt"])?;
    host.wait_for_state("bolt", "running")?;
    for name in ["www.acme.com", "bolt.example.org"] {
        wait_for(host, name, "valid")?;
    }
    stranger(host, &["answers"])
}

/// Whom the test's DNS server tells its records; as lego's `exec` provider calls it.
const HOOK: &str = r#"#!/bin/sh
case $1 in
    present) what=set-txt ;;
    cleanup) what=clear-txt ;;
esac
curl --silent --show-error --fail --data "{\"host\":\"$2\",\"value\":\"$3\"}" http://127.0.0.1:8055/$what
echo "did $1 $2"
"#;

/// One certificate for all hosts below the domain: by a hook that fails, then works, through crashes; in force and renewed
/// without a connection that ends.
fn wildcard(host: &Host<'_>) -> anyhow::Result<()> {
    let unit = "tenantd-wildcard.service";
    host.machine.write(
        "/etc/tenantd/dns-hook",
        "#!/bin/sh\necho the zone is locked\nexit 1\n",
    )?;
    host.machine.script(
        r#"chmod 755 /etc/tenantd/dns-hook
          mkdir -p /run/systemd/system/tenantd-wildcard.service.d
          printf '[Service]\nReadWritePaths=/run/tenantd\n' >/run/systemd/system/tenantd-wildcard.service.d/failpoint.conf
          systemctl daemon-reload
          printf '\n[front.wildcard]\nhook = "/etc/tenantd/dns-hook"\nwait = "0s"\n' >>/etc/tenantd/node.toml
          tenantd reload"#,
    )?;
    host.machine.wait_until("the hook to fail", SOON, |_| {
        let report = host.json(["front"])?;
        let said = report["wildcard"]["trouble"]["reason"]
            .as_str()
            .unwrap_or_default();
        let is_over = host.property(unit, "ActiveState")? == "failed";
        Ok(if said.contains("the zone is locked") && is_over {
            Ok(())
        } else {
            Err(report["wildcard"].to_string())
        })
    })?;
    let status = host.tenantd(["status"])?.stdout;
    ensure!(
        status.contains("the certificate of *.example.org is refused"),
        "{status}"
    );

    // Killed with a record in the DNS, and between the certificate and the word that it is there.
    host.machine.write("/etc/tenantd/dns-hook", HOOK)?;
    for point in ["wildcard.presented", "wildcard.stored"] {
        host.arm(point)?;
        host.machine
            .script(&format!("if systemctl start {unit}; then exit 1; fi"))?;
        ensure!(host.was_hit()?, "{point} was not reached");
    }
    host.machine.run(["systemctl", "start", unit])?;
    host.machine.script(
        r#"cd /var/lib/tenantd-front/wildcard
          test ! -e presented.json
          test "$(stat --format='%a %U %G' account.json)" = "600 root tenantd-front"
          test "$(stat --format='%a %U %G' example.org.pem)" = "640 root tenantd-front""#,
    )?;
    let journal = host.machine.journal([&*format!("--unit={unit}")])?;
    for said in [
        "did present _acme-challenge.example.org.",
        "did cleanup _acme-challenge.example.org.",
    ] {
        ensure!(journal.contains(said), "{journal}");
    }

    // A new tenant is served by it at once, and asks for none of its own.
    host.machine.wait_for(
        [
            "grep",
            "--quiet",
            "shared.pem",
            "/var/lib/tenantd-front/caddy.json",
        ],
        SOON,
    )?;
    host.apply(&fake_with("cold", "wake = \"on-demand\""))?;
    wait_for(host, "cold.example.org", "valid")?;
    let served = |name: &str| {
        host.machine.script(&format!(
            "echo | openssl s_client -connect 127.0.0.1:443 -servername {name} 2>/dev/null \
                | openssl x509 -noout -serial -ext subjectAltName"
        ))
    };
    let first = served("cold.example.org")?.stdout;
    ensure!(first.contains("DNS:*.example.org"), "{first}");
    host.machine.script(
        r#"if ls -d /var/lib/tenantd-front/store/certificates/*/cold.example.org; then exit 1; fi
          # The loopback is everybody's, the key is not.
          test "$(curl --silent --output /dev/null --write-out '%{http_code}' http://127.0.0.1:2018/shared.pem)" = 404
          tenantd backup
          cmp /var/lib/tenantd/node-snapshot/front-wildcard/example.org.pem /var/lib/tenantd-front/wildcard/example.org.pem"#,
    )?;
    // A new one is in force at the next handshake; nothing is loaded, so open connections stay.
    let renew = "rm /var/lib/tenantd-front/wildcard/attempt.json && systemctl start tenantd-wildcard && tenantd remove bolt";
    stranger(host, &["stays", renew])?;
    let second = served("cold.example.org")?.stdout;
    ensure!(
        second.contains("DNS:*.example.org") && second != first,
        "{first} {second}"
    );
    sleeps_and_wakes(host)
}

/// The API hands on to the sleep service.
fn sleeps_and_wakes(host: &Host<'_>) -> anyhow::Result<()> {
    let ask = |what: &str| {
        let command = format!(
            "curl --silent --show-error --request POST --unix-socket /run/tenantd/api.sock http://x/v1/tenants/{what}"
        );
        let answer = host.machine.script(&command)?;
        serde_json::from_str::<Value>(&answer.stdout).with_context(|| answer.stdout.clone())
    };
    let answer = ask("cold/sleep")?;
    ensure!(answer["standing"] == "frozen", "{answer}");
    let answer = ask("cold/wake")?;
    ensure!(answer["standing"] == "awake", "{answer}");
    let answer = ask("nobody/wake")?;
    ensure!(answer["status"] == 404, "{answer}");
    Ok(())
}
