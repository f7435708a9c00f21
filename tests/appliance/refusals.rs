//! What cannot be is refused with a clear message, and nothing changes.

use anyhow::{Context, ensure};
use serde_json::Value;
use xtask::machine::Output;

use crate::host::{Host, LIMIT, fake, fake_with, on_host, refused};

/// Puts the tenant's state out of the agent's reach: every start fails from here on.
const BREAK: &str = "chown 0:0 /var/lib/tenantd/tenants/foo-bar/state/data/starts
    chmod 0600 /var/lib/tenantd/tenants/foo-bar/state/data/starts";

#[test]
fn bad_input_is_refused_and_changes_nothing() {
    on_host("refusals", |host| {
        host.apply(&fake("acme"))?;
        let before = everything(host)?;
        let beta = |more: &str| fake_with("beta", more);
        let moved = |path: &str| fake("beta").replace("\"/state\"", &format!("{path:?}"));
        for (spec, message) in [
            (
                beta("pland = \"pro\""),
                "standard input:7:1: pland: unknown key `pland`; did you mean `plan`?",
            ),
            (
                fake("a/b"),
                "standard input:1:1: id: \"a/b\" is not a tenant id: only lower-case letters, \
                 digits and dashes are allowed",
            ),
            (
                beta("plan = \"gold\""),
                "plan: there is no plan `gold`; there are `pro`, `starter`, `team`",
            ),
            (
                beta("env.KEY = \"one\\ntwo\""),
                "env.KEY: the value contains a newline",
            ),
            (
                beta(&format!("# {}", "x".repeat(10 * 1024 * 1024))),
                "bytes, more than the 262144 that are read",
            ),
            (moved("/"), "a mount cannot cover the whole image"),
            (moved("../acme"), "is not an absolute path"),
            (moved("/data/../etc"), "is not plain"),
            (moved("/proc/1"), "belongs to the kernel"),
            (beta("state.inner.path = \"/state/inner\""), "overlap"),
            (beta("state.\"../acme\".path = \"/more\""), "is not a name"),
        ] {
            refused(&host.try_apply(&spec)?, 3, &[message])?;
            unchanged(host, &before)?;
        }

        // Two documents for one tenant.
        for (file, plan) in [("a", "starter"), ("b", "pro")] {
            let spec = beta(&format!("plan = \"{plan}\""));
            host.machine
                .write(&format!("/root/two/{file}.toml"), spec)?;
        }
        refused(
            &host.try_tenantd(["apply", "/root/two"])?,
            3,
            &[
                "a.toml",
                "b.toml both describe tenant beta; nothing was changed",
            ],
        )?;
        unchanged(host, &before)?;

        // A user who may not ask.
        let argv = [
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
        ];
        let argv = argv.into_iter().chain(["tenantd", "apply", "-"]);
        let argv = argv.map(str::to_owned);
        refused(
            &host
                .machine
                .attempt_with(argv, beta("").as_bytes(), LIMIT)?,
            6,
            &[
                "you may not talk to tenantd at /run/tenantd/api.sock; be root, or a member of group tenantd",
            ],
        )?;
        unchanged(host, &before)?;

        // A second daemon finds the socket taken and takes nothing from the first.
        let daemon = host.property("tenantd.service", "InvocationID")?;
        refused(
            &host.try_tenantd(["serve"])?,
            1,
            &[
                "the API cannot be served",
                "tenantd (process ",
                ") already listens on /run/tenantd/api.sock; end it first (`systemctl stop tenantd`",
            ],
        )?;
        unchanged(host, &before)?;
        ensure!(host.property("tenantd.service", "InvocationID")? == daemon);

        signs_are_literal(host)
    });
}

/// Signs that mean something to systemd, Quadlet or a shell reach the agent as written.
fn signs_are_literal(host: &Host<'_>) -> anyhow::Result<()> {
    let value = r#"100%h %% $HOME ${HOME} "double" \n \ ; # end "#;
    let spec = fake_with("beta", &format!("env.SIGNS = '''{value}'''"));
    host.apply(&spec)?;
    let variables = host.get("beta", "/env")?;
    let line = format!("SIGNS={value}");
    ensure!(variables.lines().any(|found| found == line), "{variables}");
    Ok(())
}

#[test]
fn a_failed_apply_leaves_things_as_they_were() {
    on_host("failures", |host| {
        host.many_rollbacks()?;
        host.apply(&fake("bystander"))?;
        let bystander = host.run_of("bystander")?;

        // At first: what is refused leaves nothing, what was tried leaves its evidence.
        let mut shown = Value::Null;
        for failure in failures() {
            failure.is_told(&host.try_apply(&failure.spec)?)?;
            nothing_is_left(host, &failure)?;
            if failure.starts {
                ensure!(host.state("foo-bar")? == "failed", "{}", failure.name);
                shown = reason(host)?;
                ensure!(shown.is_string(), "{} leaves no reason", failure.name);
            } else {
                ensure!(!is_listed(host, "foo-bar")?, "{} is listed", failure.name);
            }
        }
        // A refusal takes the evidence of an earlier failure from nobody.
        for failure in failures().iter().filter(|failure| !failure.starts) {
            failure.is_told(&host.try_apply(&failure.spec)?)?;
            ensure!(host.state("foo-bar")? == "failed", "{}", failure.name);
            ensure!(reason(host)? == shown, "{}", failure.name);
        }
        host.tenantd(["remove", "foo-bar"])?;
        ensure!(!is_listed(host, "foo-bar")?, "it was removed");

        // As an update: the previous revision runs and answers.
        host.apply(&fake("foo-bar"))?;
        host.write("foo-bar", "note", "kept")?;
        let good = host.json(["show", "foo-bar"])?["revision"].clone();
        let before = host.run_of("foo-bar")?;
        for failure in failures() {
            let output = host.try_apply(&failure.spec)?;
            failure.is_told(&output)?;
            if failure.starts {
                let back = format!("of tenant foo-bar failed; revision {good} is back");
                ensure!(output.stderr.contains(&back), "{output:?}");
            } else {
                ensure!(host.run_of("foo-bar")? == before, "the agent was restarted");
            }
            ensure!(host.json(["show", "foo-bar"])?["revision"] == good);
            ensure!(host.state("foo-bar")? == "running");
            ensure!(
                host.tenantd(["units", "foo-bar", "--diff"])?
                    .stdout
                    .is_empty()
            );
            host.expect("foo-bar", "note", "kept")?;
            ensure!(!host.get("foo-bar", "/env")?.contains("FAKE_AGENT_"));
            failure.is_in_the_history(host, &good)?;
        }

        // Later: a crash loop ends, with its reason, and hurts nobody else.
        host.machine.script(BREAK)?;
        // Its answer never comes.
        host.request("foo-bar", "/crash", &["--request", "POST"])?;
        host.wait_for_state("foo-bar", "failed")?;
        let shown = host.json(["show", "foo-bar"])?;
        let reason = shown["reason"].as_str().unwrap_or_default();
        ensure!(
            reason.starts_with("the agent ended with exit code 1; restarted "),
            "{reason:?}"
        );
        ensure!(host.property("tenant-foo-bar.service", "ActiveState")? == "failed");

        ensure!(host.state("bystander")? == "running");
        ensure!(
            host.run_of("bystander")? == bystander,
            "the bystander was restarted"
        );
        host.get("bystander", "/healthz")?;
        Ok(())
    });
}

fn is_listed(host: &Host<'_>, tenant: &str) -> anyhow::Result<bool> {
    let listed = host.json(["list"])?;
    let tenants = listed.as_array().context("list shows no array")?;
    Ok(tenants.iter().any(|shown| shown["id"] == tenant))
}

fn reason(host: &Host<'_>) -> anyhow::Result<Value> {
    Ok(host.json(["show", "foo-bar"])?["reason"].clone())
}

/// A spec that cannot come up, and what its author must be told.
struct Failure {
    name: &'static str,
    spec: String,
    code: i32,
    messages: Vec<&'static str>,
    /// It fails only once its agent is started.
    starts: bool,
}

fn failures() -> [Failure; 4] {
    let short =
        |more: &str| fake_with("foo-bar", more).replace("timeout = \"15s\"", "timeout = \"3s\"");
    let log = "its last log lines:";
    [
        Failure {
            name: "an image that is not there",
            spec: fake("foo-bar").replace("fake-agent:1", "absent:1"),
            code: 3,
            messages: vec![
                "tenant foo-bar: image localhost/absent:1 cannot be used: it is not on this host",
            ],
            starts: false,
        },
        Failure {
            name: "an agent that is never healthy",
            spec: short("env.FAKE_AGENT_MODE = \"never-healthy\""),
            code: 7,
            messages: vec!["the agent was not ready in time", log, "mode NeverHealthy"],
            starts: true,
        },
        Failure {
            name: "an agent that does not speak HTTP where it should",
            spec: short("env.FAKE_AGENT_LISTEN = \"127.0.0.1:9999\""),
            code: 7,
            messages: vec![
                "the agent was not ready in time",
                log,
                "listening on 127.0.0.1:9999",
            ],
            starts: true,
        },
        Failure {
            name: "an agent that ends at once",
            spec: short("env.FAKE_AGENT_MODE = \"no-such-mode\""),
            code: 7,
            messages: vec![
                "the agent ended with exit code 1",
                log,
                "fake-agent: FAKE_AGENT_MODE=no-such-mode is not known",
            ],
            starts: true,
        },
    ]
}

impl Failure {
    /// What was started is a failed revision that can be looked at; what was refused made none.
    fn is_in_the_history(&self, host: &Host<'_>, good: &Value) -> anyhow::Result<()> {
        let history = host.json(["history", "foo-bar"])?;
        let newest = &history[0];
        if !self.starts {
            ensure!(
                newest["revision"] == *good && newest["standing"] == "current",
                "{}: {newest}",
                self.name
            );
            return Ok(());
        }
        ensure!(newest["standing"] == "failed", "{}: {newest}", self.name);
        let failed = newest["revision"].to_string();
        let difference = host.tenantd(["diff", "foo-bar", &good.to_string(), &failed])?;
        ensure!(
            !difference.stdout.is_empty(),
            "{}: no difference",
            self.name
        );
        let current = history.as_array().into_iter().flatten();
        let current: Vec<_> = current
            .filter(|revision| revision["standing"] == "current")
            .map(|revision| revision["revision"].clone())
            .collect();
        ensure!(current == [good.clone()], "{current:?}");
        Ok(())
    }

    fn is_told(&self, output: &Output) -> anyhow::Result<()> {
        refused(output, self.code, &self.messages)?;
        for noise in ["container create", "conmon", "<ninfo>"] {
            ensure!(
                !output.stderr.contains(noise),
                "{}: {noise:?} hides the agent's own words: {}",
                self.name,
                output.stderr
            );
        }
        Ok(())
    }
}

fn nothing_is_left(host: &Host<'_>, failure: &Failure) -> anyhow::Result<()> {
    let left = host.machine.script(
        r"find /etc/containers/systemd /etc/systemd /run/netns /run/tenantd/ingress -name '*foo*bar*'
          systemctl list-units --all --plain --no-legend '*foo*bar*'
          podman ps --all --quiet --filter name=foo-bar",
    )?;
    ensure!(
        left.trim().is_empty(),
        "{} leaves: {}",
        failure.name,
        left.stdout
    );
    Ok(())
}

/// What is installed, byte by byte, what tenantd knows, and which agents run.
fn everything(host: &Host<'_>) -> anyhow::Result<(String, Value, String)> {
    let files = host.machine.script(
        r"find /etc/containers/systemd /etc/systemd /etc/tenantd /run/netns /run/tenantd/ingress \
              /var/lib/tenantd/tenants -maxdepth 3 -printf '%p %y %m %U:%G %l\n' | sort
          find /etc/containers/systemd /etc/systemd /etc/tenantd -type f -exec sha256sum {} + | sort",
    )?;
    Ok((files.stdout, host.json(["list"])?, host.run_of("acme")?))
}

fn unchanged(host: &Host<'_>, before: &(String, Value, String)) -> anyhow::Result<()> {
    let after = everything(host)?;
    ensure!(after == *before, "changed from {before:#?} to {after:#?}");
    Ok(())
}
