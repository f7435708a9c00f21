//! An agent uses a provider's key that it never sees, up to its limit.

use anyhow::{Context as _, ensure};
use serde_json::Value;
use xtask::machine::Output;

use crate::host::{Host, LIMIT, fake_with, on_host, refused};
use crate::secrets::no_trace;

const TENANT: &str = "foo-bar";

/// systemd's names of the door.
const SOCKET: &str = "tenantd-endpoints@foo\\x2dbar.socket";
const SERVICE: &str = "tenantd-endpoints@foo\\x2dbar.service";

/// Keys that occur nowhere else.
const FIRST: &str = "sk-tgk4-first-Vb2KpXr7";
const SECOND: &str = "sk-tgk4-second-Qm9WcYd3";

const PRICES: &str = "name = \"models\"\n\
    [[models]]\nmodel = \"large-*\"\ninput = \"3\"\noutput = \"15\"\n";

/// A tenant whose endpoint leads to the provider; each of its answers has 700 tokens.
fn spec(tokens: u32) -> String {
    fake_with(
        TENANT,
        &format!(
            "secrets.MODELS_KEY = {{ env = \"MODELS_KEY\" }}\n\
             endpoints.models = {{ upstream = \"https://models.test/v1\", key = \"MODELS_KEY\", env = \"OPENAI_BASE_URL\" }}\n\
             spending = {{ tokens = {tokens}, money = \"100\" }}"
        ),
    )
}

/// What the agent gets from its endpoint, asked as its own variables say. Its `wget` knows no `no_proxy`.
fn ask(host: &Host<'_>) -> anyhow::Result<Output> {
    let script = "wget -q -Y off -O - --header \"Authorization: Bearer $MODELS_KEY\" --post-data '{}' $OPENAI_BASE_URL/messages";
    host.try_tenantd(["exec", TENANT, "--", "sh", "-c", script])
}

fn answered(host: &Host<'_>) -> anyhow::Result<()> {
    let answer = ask(host)?.check()?;
    ensure!(answer.stdout.contains("\"input_tokens\":600"), "{answer:?}");
    Ok(())
}

fn paused(host: &Host<'_>) -> anyhow::Result<()> {
    let answer = ask(host)?;
    ensure!(
        !answer.success() && answer.stderr.contains(" 429 "),
        "{answer:?}"
    );
    Ok(())
}

/// Requests, tokens, and whether the tenant is paused, as `spending` says.
fn spent(host: &Host<'_>) -> anyhow::Result<(u64, u64, bool)> {
    let reports = host.json(["spending", TENANT])?;
    let report = &reports[0];
    let requests = report["lines"][0]["requests"].as_u64().unwrap_or_default();
    let limits = &report["limits"];
    let tokens = limits["tokens"]
        .as_u64()
        .with_context(|| reports.to_string())?;
    Ok((requests, tokens, limits["paused"] == Value::Bool(true)))
}

/// Waits until the figures are these: the door writes them when an answer has ended, and the agent may have it before.
fn spent_becomes(host: &Host<'_>, expected: (u64, u64, bool)) -> anyhow::Result<()> {
    host.machine.wait_until("the figures", LIMIT, |_| {
        let spent = spent(host)?;
        Ok(if spent == expected {
            Ok(())
        } else {
            Err(format!("{spent:?}"))
        })
    })
}

fn set(host: &Host<'_>, key: &str, more: &[&str]) -> anyhow::Result<()> {
    let words = ["tenantd", "secret", "set", TENANT, "MODELS_KEY", "-"];
    let argv = words.iter().chain(more).map(ToString::to_string);
    host.machine
        .attempt_with(argv, key.as_bytes(), LIMIT)?
        .check()?;
    Ok(())
}

/// What the provider was asked last.
fn asked(host: &Host<'_>) -> anyhow::Result<String> {
    Ok(host
        .machine
        .script("cat /dev/shm/asked; : >/dev/shm/asked")?
        .stdout)
}

#[test]
fn an_agent_spends_by_a_key_that_it_never_sees_and_not_beyond_its_limit() {
    on_host("endpoints", |host| {
        let machine = host.machine;
        machine.write("/root/provider.sh", include_str!("endpoints/provider.sh"))?;
        machine.script("chmod +x /root/provider.sh")?;
        machine.script(include_str!("endpoints/prepare.sh"))?;
        let url = "https://models.test/";
        machine.wait_for(["curl", "-fsS", "--max-time", "5", url], LIMIT)?;
        asked(host)?;
        set(host, FIRST, &[])?;
        refused(
            &host.try_apply(&spec(1000))?,
            3,
            &["no price table `models`"],
        )?;
        machine.script("mkdir -p /etc/tenantd/prices.d")?;
        machine.write("/etc/tenantd/prices.d/models.toml", PRICES)?;
        host.tenantd(["reload"])?;
        host.apply(&spec(1000))?;
        let run = host.run_of(TENANT)?;

        let seen = host.tenantd([
            "exec",
            TENANT,
            "--",
            "sh",
            "-c",
            "echo $OPENAI_BASE_URL $MODELS_KEY",
        ])?;
        ensure!(
            seen.stdout.trim() == "http://127.0.0.1:3130/models held-by-tenantd",
            "{seen:?}"
        );
        answered(host)?;
        let head = asked(host)?;
        ensure!(head.contains("POST /v1/messages HTTP/1.1"), "{head}");
        ensure!(
            head.contains(&format!("Bearer {FIRST}")) && !head.contains("held-by-tenantd"),
            "{head}"
        );
        spent_becomes(host, (1, 700, false))?;

        // Neither the door's end nor its death loses what was counted.
        machine.run(["systemctl", "stop", SERVICE])?;
        answered(host)?;
        paused(host)?;
        spent_becomes(host, (2, 1400, true))?;
        // It may have left by itself.
        machine.attempt(["systemctl", "kill", "--signal=KILL", SERVICE])?;
        paused(host)?;
        spent_becomes(host, (2, 1400, true))?;
        let told = host.tenantd(["spending"])?;
        ensure!(
            told.stdout.contains("1400 of 1000 tokens") && told.stdout.contains("paused"),
            "{told:?}"
        );

        // Another limit and another key come in under the running agent.
        host.apply(&spec(10_000))?;
        answered(host)?;
        asked(host)?;
        set(host, SECOND, &["--apply"])?;
        answered(host)?;
        ensure!(asked(host)?.contains(&format!("Bearer {SECOND}")));
        ensure!(host.run_of(TENANT)? == run, "the agent was restarted");
        no_trace(machine, &[FIRST, SECOND])?;

        // Who has no endpoint any more has no door, and nothing of one stays behind a tenant.
        host.apply(&fake_with(TENANT, ""))?;
        ensure!(host.property(SOCKET, "ActiveState")? == "inactive");
        host.tenantd(["remove", TENANT, "--purge", "--yes"])?;
        let left = machine.script("ls -A /var/lib/private/tenantd-endpoints; ls /etc/systemd/system | grep endpoints@foo || true")?;
        ensure!(left.stdout.trim().is_empty(), "{}", left.stdout);
        Ok(())
    });
}
