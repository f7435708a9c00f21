//! The egress door in a real tenant's namespace, before an Internet that is another namespace of the machine: what the
//! policy allows gets out by each of the three ways in, and no attack does.

mod clients;

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use xtask::machine::Output;

use crate::host::{Host, LIMIT, fake_with, on_host};

/// An id with a dash, whose units systemd escapes.
const TENANT: &str = "foo-bar";
const SOCKET: &str = r"tenantd-egress@foo\x2dbar.socket";
const DOOR: &str = r"tenantd-egress@foo\x2dbar.service";

const INTERNET: &str = include_str!("egress/internet.py");
const CARELESS_PROXY: &str = include_str!("egress/careless_proxy.py");
const ATTACKS: &str = include_str!("egress/attacks.py");

/// Addresses that lead to the namespace which stands for the Internet; the tables call the first four public.
const ADDRESSES: &str = "11.0.0.2/24 93.184.215.14/32 93.184.215.15/32 93.184.215.53/32 169.254.169.254/32 10.99.0.5/32";

/// Makes the Internet: servers in a namespace, a certificate authority, and the host's way to both.
fn connect_the_host(host: &Host<'_>) -> anyhow::Result<()> {
    let machine = host.machine;
    machine.write("/root/internet.py", INTERNET)?;
    machine.write("/root/careless_proxy.py", CARELESS_PROXY)?;
    machine.write("/root/attacks.py", ATTACKS)?;
    machine.script(&format!(
        r"cd /root
           openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority \
             -addext keyUsage=critical,keyCertSign,cRLSign -keyout ca.key -out ca.pem 2>/dev/null
           openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=good.test \
             -keyout server.key -out server.csr 2>/dev/null
           printf 'subjectAltName=DNS:good.test,DNS:*.good.test,DNS:evil.test,DNS:home.test\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n' >san
           openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
             -extfile san -out server.pem 2>/dev/null
           chmod 644 ca.pem
           ip netns add internet
           ip link add up0 type veth peer name down0 netns internet
           ip address add 11.0.0.1/24 dev up0
           ip link set up0 up
           ip link set lo up
           for address in {ADDRESSES}; do ip -n internet address add $address dev down0; done
           ip -n internet link set lo up
           ip -n internet link set down0 up
           ip route add default via 11.0.0.2
           systemd-run --quiet --unit=internet --property=NetworkNamespacePath=/run/netns/internet \
             python3 /root/internet.py /root/server.pem /root/server.key
           systemd-run --quiet --unit=careless-proxy python3 /root/careless_proxy.py
           mkdir -p /root/web && echo secret of the host >/root/web/index.html
           systemd-run --quiet --unit=hosts-service python3 -m http.server --protocol HTTP/1.1 --directory /root/web 80
           rm -f /etc/resolv.conf
           printf 'nameserver 93.184.215.53\noptions timeout:5 attempts:3\n' >/etc/resolv.conf
           sed -i 's/^hosts:.*/hosts: files dns/' /etc/nsswitch.conf"
    ))?;
    for url in ["http://good.test/", "http://127.0.0.1/"] {
        machine.wait_for(["curl", "-fsS", "--max-time", "5", url], LIMIT)?;
    }
    Ok(())
}

/// Runs a command as an agent's program would run: in the tenant's network, with its name server, as a user without
/// capabilities.
fn inside(host: &Host<'_>, command: &str) -> anyhow::Result<Output> {
    let script = format!(
        "echo nameserver 127.0.0.1 >/run/inside.conf
         exec nsenter --net=/run/netns/tenant-{TENANT} unshare --mount sh -c '
           mount --bind /run/inside.conf /etc/resolv.conf &&
           exec setpriv --reuid=1000 --regid=1000 --clear-groups --no-new-privs --bounding-set=-all \
             env -i PATH=$PATH sh -c \"$0\"' \"$0\""
    );
    let words = ["sh", "-c", &script, command].map(str::to_owned);
    host.machine.attempt_with(words, &[], LIMIT)
}

/// What each attack came to.
fn attacks(output: Output) -> anyhow::Result<BTreeMap<String, String>> {
    let output = output.check()?;
    serde_json::from_str(&output.stdout).with_context(|| output.stdout.clone())
}

const CURL: &str = "curl -sS --max-time 10 --cacert /root/ca.pem";
const BY_PROXY: &str = "https_proxy=http://127.0.0.1:3128 http_proxy=http://127.0.0.1:3128";

/// Makes sure that a command inside prints this, or fails and says this.
fn expect(host: &Host<'_>, command: &str, expected: &str) -> anyhow::Result<()> {
    let output = inside(host, command)?;
    ensure!(
        output.stdout.contains(expected) || output.stderr.contains(expected),
        "{expected:?} is not in what `{command}` says: {output:?}"
    );
    Ok(())
}

fn spec(table: &str) -> String {
    fake_with(TENANT, &format!("[egress]\n{table}"))
}

#[test]
fn no_attack_from_inside_a_tenant_gets_out_or_in() {
    on_host("egress-attacks", |host| {
        // Its certificates are read by a user without rights.
        host.machine.script("chmod 755 /root")?;
        connect_the_host(host)?;
        let control = attacks(host.machine.attempt(["python3", "/root/attacks.py"])?)?;
        let kept: Vec<_> = control
            .iter()
            .filter(|(_, end)| *end != "through")
            .collect();
        ensure!(kept.is_empty(), "the control does not show: {kept:?}");

        host.apply(&spec("mode = \"allowlist\"\nallow = [\"good.test\", \"*.good.test\", \"loop.good.test:3128\"]"))?;
        // So that what follows means something.
        expect(
            host,
            &format!("{BY_PROXY} {CURL} https://good.test/"),
            "93.184.215.14 good.test",
        )?;
        let found = attacks(inside(host, "python3 /root/attacks.py")?)?;
        ensure!(found.len() == control.len(), "{found:?}");
        let through: Vec<_> = found.iter().filter(|(_, end)| *end == "through").collect();
        ensure!(through.is_empty(), "got through: {through:?}");

        // The same from the container itself, whose user and root are the agent's own.
        for (address, word) in [
            ("169.254.169.254:80", "unreachable"),
            ("11.0.0.1:80", "unreachable"),
        ] {
            let said = host.get(TENANT, &format!("/connect?to={address}"))?;
            ensure!(said.starts_with(word), "{address}: {said}");
        }
        for path in ["/run/podman", "/run/tenantd", "/run/dbus"] {
            let listed = host.try_tenantd(["exec", TENANT, "--", "ls", path])?;
            ensure!(!listed.success(), "{path} is in the container: {listed:?}");
        }

        let log = host.machine.journal(["--unit", DOOR])?;
        for said in [
            "it is a link-local address, where clouds keep their metadata",
            "it is a private address",
            "it is an address of this host",
            "it is not on this agent's list",
            "the name inside is not the one that was asked for",
        ] {
            ensure!(log.contains(said), "{said:?} is not in {log}");
        }
        a_flood_is_bounded(host)
    });
}

/// Connections that say nothing and names without end cost the door little, and others nothing.
fn a_flood_is_bounded(host: &Host<'_>) -> anyhow::Result<()> {
    let neighbour = spec("mode = \"allowlist\"\nallow = [\"good.test\"]").replace(TENANT, "other");
    host.apply(&neighbour)?;
    let flood = r#"
import socket, struct, time
streams = []
for _ in range(600):
    stream = socket.create_connection(("127.0.0.1", 3128), 8)
    stream.send(b"GET http://good.test/ HTTP/1.1\r\nX-Slow: ")
    streams.append(stream)
names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
names.settimeout(2)
for number in range(3000):
    name = f"n{number}.many.good.test"
    query = struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0)
    query += b"".join(bytes([len(p)]) + p.encode() for p in name.split(".")) + b"\0\0\1\0\1"
    names.sendto(query, ("127.0.0.1", 53))
    try:
        names.recv(512)
    except TimeoutError:
        pass
print("flooded", flush=True)
time.sleep(120)
"#;
    host.machine.write("/root/flood.py", flood)?;
    host.machine.script(&format!(
        "systemd-run --quiet --unit=flood --property=NetworkNamespacePath=/run/netns/tenant-{TENANT} \
           --property=StandardOutput=file:/run/flood python3 /root/flood.py"
    ))?;
    host.machine.wait_until("the flood to stand", LIMIT, |_| {
        let said = host.machine.read("/run/flood").unwrap_or_default();
        Ok(if said.contains("flooded") {
            Ok(())
        } else {
            Err(said)
        })
    })?;
    // While its connections are open, the neighbour's door answers, and this one's has not grown.
    let answer = host.machine.attempt([
        "nsenter",
        "--net=/run/netns/tenant-other",
        "curl",
        "-sS",
        "--proxy",
        "http://127.0.0.1:3128",
        "http://good.test/",
    ])?;
    ensure!(answer.stdout.contains("good.test"), "{answer:?}");
    let pid = host.property(DOOR, "MainPID")?;
    let status = host.machine.read(&format!("/proc/{pid}/status"))?;
    // Its own memory, without the pages of the program's file, which a debug build has many of.
    let own: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|kib| kib.trim().parse().ok())
        .with_context(|| status.clone())?;
    ensure!(own < 32 * 1024, "the door has grown to {own} KiB");
    host.machine.run(["systemctl", "stop", "flood.service"])?;
    Ok(())
}

#[test]
fn a_tenant_gets_out_by_three_ways_as_far_as_its_policy_says() {
    on_host("egress-policies", |host| {
        host.machine.script("chmod 755 /root")?;
        connect_the_host(host)?;
        host.apply(&spec("mode = \"allowlist\"\nallow = [\"good.test\"]"))?;
        let run = host.run_of(TENANT)?;

        // By the proxy, with and without TLS; by the address that stands for the name; and from the agent itself.
        for scheme in ["https", "http"] {
            expect(
                host,
                &format!("{BY_PROXY} {CURL} {scheme}://good.test/"),
                "93.184.215.14 good.test",
            )?;
            expect(
                host,
                &format!("{CURL} {scheme}://good.test/"),
                "93.184.215.14 good.test",
            )?;
        }
        let said = host.get(TENANT, "/connect?to=good.test:443")?;
        ensure!(said.starts_with("connected: 198.18."), "{said}");
        let environment = host.get(TENANT, "/env")?;
        ensure!(
            environment.contains("https_proxy=http://127.0.0.1:3128\n"),
            "{environment}"
        );
        expect(
            host,
            &format!("{BY_PROXY} {CURL} -i http://evil.test/"),
            "(not-listed)",
        )?;
        expect(
            host,
            &format!("{CURL} https://evil.test/"),
            "Could not resolve host",
        )?;
        expect(
            host,
            "openssl s_client -brief -verify_return_error -CAfile /root/ca.pem -servername good.test \
             -connect good.test:443 </dev/null",
            "Verification: OK",
        )?;

        addresses_outlive_the_door(host)?;
        a_change_cuts_what_it_forbids(host)?;
        ensure!(
            host.run_of(TENANT)? == run,
            "a change of policy has restarted the agent"
        );

        // A homelab's own service, by name.
        host.apply(&spec(
            "mode = \"open\"\nprivate-networks = [\"10.99.0.5:443\"]",
        ))?;
        host.machine
            .wait_until("the exception to be in force", LIMIT, |_| {
                let output = inside(host, &format!("{CURL} https://home.test/"))?;
                Ok(if output.stdout.contains("10.99.0.5") {
                    Ok(())
                } else {
                    Err(format!("{output:?}"))
                })
            })?;
        expect(host, &format!("{CURL} http://home.test/ -i"), "403")?;

        // Nobody there: the door leaves, and figures have been written.
        host.apply(&spec("mode = \"none\""))?;
        ensure!(host.property(SOCKET, "ActiveState")? == "inactive");
        let said = host.get(TENANT, "/connect?to=127.0.0.1:3128")?;
        ensure!(said.starts_with("refused"), "{said}");

        host.tenantd(["remove", TENANT, "--purge", "--yes"])?;
        let left = host.machine.run([
            "find",
            "/var/lib/private/tenantd-egress",
            "/var/lib/tenantd-egress",
            "/etc/tenantd/egress",
            "-mindepth",
            "1",
        ])?;
        ensure!(left.trim().is_empty(), "{left:?}");
        let cycles = host.machine.journal(["--quiet"])?;
        ensure!(!cycles.contains("ordering cycle"));
        Ok(())
    });
}

/// The address that stood for a name stands for it after the door was killed.
fn addresses_outlive_the_door(host: &Host<'_>) -> anyhow::Result<()> {
    let said = host.get(TENANT, "/connect?to=good.test:443")?;
    let before = said
        .trim()
        .strip_prefix("connected: ")
        .context(said.clone())?
        .to_owned();
    host.machine
        .run(["systemctl", "kill", "--signal=KILL", DOOR])?;
    let resolve = format!(
        "--resolve good.test:443:{}",
        before.trim_end_matches(":443")
    );
    expect(
        host,
        &format!("{CURL} {resolve} https://good.test/"),
        "93.184.215.14 good.test",
    )?;
    let after = host.get(TENANT, "/connect?to=good.test:443")?;
    ensure!(
        after.trim() == format!("connected: {before}"),
        "{before}, then {after}"
    );
    // An address that stands for nothing: what the client says inside counts.
    expect(
        host,
        &format!("{CURL} --resolve good.test:443:198.19.255.1 https://good.test/"),
        "93.184.215.14 good.test",
    )?;
    expect(
        host,
        &format!("{CURL} --resolve evil.test:443:198.19.255.1 https://evil.test/"),
        "curl: (35)",
    )
}

/// A tunnel lives through a policy that allows it, and dies with one that does not.
fn a_change_cuts_what_it_forbids(host: &Host<'_>) -> anyhow::Result<()> {
    let talker = r#"
import socket, sys, time
stream = socket.create_connection(("127.0.0.1", 3128), 8)
stream.sendall(b"CONNECT good.test:80 HTTP/1.1\r\nHost: good.test\r\n\r\n")
stream.recv(4096)
stream.sendall(b"GET / HTTP/1.1\r\nHost: good.test\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
print(stream.recv(4096).split(b"\r\n")[0].decode(), flush=True)
count = 0
try:
    while True:
        stream.sendall(b"tick")
        if not stream.recv(4096):
            break
        count += 1
        print(f"alive {count}", flush=True)
        time.sleep(0.2)
except OSError:
    pass
print("cut", flush=True)
"#;
    host.machine.write("/root/talker.py", talker)?;
    host.machine.script(&format!(
        "systemd-run --quiet --unit=talker --property=NetworkNamespacePath=/run/netns/tenant-{TENANT} \
           --property=StandardOutput=file:/run/talker python3 /root/talker.py"
    ))?;
    let ticks = || -> anyhow::Result<usize> {
        let said = host.machine.read("/run/talker").unwrap_or_default();
        ensure!(!said.contains("cut"), "{said}");
        Ok(said.matches("alive").count())
    };
    let more_than = |count: usize| {
        host.machine.wait_until("the tunnel to carry", LIMIT, |_| {
            let now = ticks()?;
            Ok(if now > count {
                Ok(now)
            } else {
                Err(now.to_string())
            })
        })
    };
    more_than(0)?;
    host.apply(&spec(
        "mode = \"allowlist\"\nallow = [\"good.test\", \"evil.test\"]",
    ))?;
    let allowed = format!("{BY_PROXY} {CURL} http://evil.test/");
    host.machine
        .wait_until("the new policy to be in force", LIMIT, |_| {
            let output = inside(host, &allowed)?;
            Ok(if output.stdout.contains("93.184.215.15") {
                Ok(())
            } else {
                Err(format!("{output:?}"))
            })
        })?;
    more_than(ticks()?)?;
    host.apply(&spec("mode = \"allowlist\"\nallow = [\"evil.test\"]"))?;
    host.machine.wait_until("the tunnel to be cut", LIMIT, |_| {
        let said = host.machine.read("/run/talker")?;
        Ok(if said.contains("cut") {
            Ok(())
        } else {
            Err(said)
        })
    })
}
