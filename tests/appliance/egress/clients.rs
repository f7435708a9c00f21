//! The programs with which real agents reach out, in their own containers: Node's and Python's clients, web sockets too, by the
//! proxy and without it; and the list that is made of what they were seen to do.

use std::collections::BTreeMap;

use anyhow::ensure;

use super::connect_the_host;
use crate::host::{Host, LIMIT, on_host};

const CLIENTS: &str = include_str!("clients.py");

#[test]
fn the_clients_of_real_agents_get_out_and_what_was_seen_becomes_a_list() {
    on_host("egress-clients", |host| {
        host.machine.script("chmod 755 /root")?;
        connect_the_host(host)?;
        let ca_for_node = "env.NODE_EXTRA_CA_CERTS = \"/home/node/.openclaw/ca.pem\"";
        for (tenant, more) in [("nanobot", ""), ("openclaw", ca_for_node)] {
            host.apply(&format!(
                "id = \"{tenant}\"\ntemplate = \"{tenant}\"\n{more}\n"
            ))?;
            host.machine.script(&format!(
                "install --mode=644 /root/ca.pem /var/lib/tenantd/tenants/{tenant}/state/home/ca.pem"
            ))?;
        }
        let without = [
            "-u",
            "https_proxy",
            "-u",
            "HTTPS_PROXY",
            "NODE_USE_ENV_PROXY=0",
        ];
        for before in [&[][..], &without[..]] {
            let said = node(host, before, "https://good.test/")?;
            ensure!(
                said.contains("93.184.215.14 good.test"),
                "{before:?}: {said}"
            );
        }
        let ends = python(host)?;
        let is_refused = |end: &String| end.starts_with("refused");
        ensure!(!ends.values().any(is_refused), "{ends:?}");

        // What was seen and not listed: one name is allowed from now on, the other stays out.
        host.machine
            .wait_until("the figures to be written", LIMIT, |_| {
                let python = host.tenantd(["egress", "allowlist", "nanobot"])?.stdout;
                let node = host.tenantd(["egress", "allowlist", "openclaw"])?.stdout;
                let seen = python.contains("\"evil.test\"") && node.contains("\"good.test\"");
                Ok(if seen {
                    Ok(())
                } else {
                    Err(format!("{python}{node}"))
                })
            })?;
        let run = host.run_of("nanobot")?;
        host.tenantd([
            "egress",
            "allowlist",
            "openclaw",
            "--apply",
            "-m",
            "as seen",
        ])?;
        host.apply(
            "id = \"nanobot\"\ntemplate = \"nanobot\"\n\
             egress.mode = \"allowlist\"\negress.allow = [\"good.test\"]\n",
        )?;
        ensure!(
            host.run_of("nanobot")? == run,
            "a change of policy has restarted the agent"
        );
        host.machine
            .wait_until("the list to be in force", LIMIT, |_| {
                let said = node(host, &[], "https://evil.test/")?;
                Ok(if said.starts_with("refused") {
                    Ok(())
                } else {
                    Err(said)
                })
            })?;
        let said = node(host, &[], "https://good.test/")?;
        ensure!(said.contains("93.184.215.14 good.test"), "{said}");
        host.machine
            .wait_until("both lists to be in force", LIMIT, |_| {
                let ends = python(host)?;
                let (elsewhere, here): (Vec<_>, Vec<_>) = ends
                    .iter()
                    .partition(|(name, _)| name.starts_with("elsewhere"));
                let is_refused = |(_, end): &(&String, &String)| end.starts_with("refused");
                let as_wanted = elsewhere.iter().all(is_refused) && !here.iter().any(is_refused);
                Ok(if as_wanted {
                    Ok(())
                } else {
                    Err(format!("{ends:?}"))
                })
            })
    });
}

/// What Node's own client says in the OpenClaw's container, with the variables that it has there.
fn node(host: &Host<'_>, before: &[&str], url: &str) -> anyhow::Result<String> {
    let script = format!(
        "fetch('{url}').then(a => a.text()).then(console.log, e => console.log('refused:', e.message))"
    );
    let mut words = vec!["tenantd", "exec", "openclaw", "--", "env"];
    words.extend(before);
    words.extend(["node", "-e", &script]);
    let words = words.into_iter().map(str::to_owned);
    let output = host.machine.attempt_with(words, &[], LIMIT)?;
    Ok(output.check()?.stdout)
}

/// What each of Python's clients came to in the nanobot's container.
fn python(host: &Host<'_>) -> anyhow::Result<BTreeMap<String, String>> {
    let ca = "/home/nanobot/.nanobot/ca.pem";
    let output = host.tenantd(["exec", "nanobot", "--", "python3", "-c", CLIENTS, ca])?;
    let pairs = output
        .stdout
        .lines()
        .filter_map(|line| line.split_once(": "));
    let ends: BTreeMap<String, String> = pairs
        .map(|(name, end)| (name.to_owned(), end.to_owned()))
        .collect();
    ensure!(ends.len() == 7, "{output:?}");
    Ok(ends)
}
