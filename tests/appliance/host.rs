//! A machine with tenantd installed the way a host is installed, and words to talk to it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use xtask::machine::{Machine, Output, curl, in_machine, in_virtual_machine};

/// How long a command of tenantd may take in a test machine.
pub const LIMIT: Duration = Duration::from_mins(3);

/// The debug build of tenantd, which has failpoints.
pub const BINARY: &str = env!("CARGO_BIN_EXE_tenantd");

/// More of `node.toml`, for printf(1): what failed is tried again within seconds.
pub const RETRY_SOON: &str = r#"\n[failure]\nretry-after = "2s"\nretry-at-most = "4s"\n"#;

/// A host that tenantd runs on.
pub struct Host<'a> {
    /// The machine beneath.
    pub machine: &'a Machine,
}

/// Runs a test on a fresh host where tenantd is installed, set up and running.
pub fn on_host(name: &str, test: impl FnOnce(&Host<'_>) -> anyhow::Result<()>) {
    on_prepared_host(name, "true", &[], test);
}

/// As [`on_host`], after a script on the bare machine, and with more arguments for `tenantd init`.
pub fn on_prepared_host(
    name: &str,
    prepare: &str,
    init: &[&str],
    test: impl FnOnce(&Host<'_>) -> anyhow::Result<()>,
) {
    in_machine(name, |machine| prepared(machine, name, prepare, init, test));
}

/// As [`on_host`], in a virtual machine: with cgroup controllers, quotas and swap, on one slow processor.
pub fn on_virtual_host(name: &str, test: impl FnOnce(&Host<'_>) -> anyhow::Result<()>) {
    in_virtual_machine(name, |machine| prepared(machine, name, "true", &[], test));
}

fn prepared(
    machine: &Machine,
    name: &str,
    prepare: &str,
    init: &[&str],
    test: impl FnOnce(&Host<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let host = Host { machine };
    machine.script(prepare)?;
    host.install()?;
    host.init(
        name,
        &init.iter().map(ToString::to_string).collect::<Vec<_>>(),
    )?;
    host.start_daemon()?;
    test(&host)
}

/// A spec of the fake agent: quick to start, with one state directory.
pub fn fake(id: &str) -> String {
    fake_with(id, "")
}

/// As [`fake`], with more lines of TOML: tables, or `env.KEY = "value"`.
pub fn fake_with(id: &str, more: &str) -> String {
    format!(
        "id = \"{id}\"\nimage = \"localhost/fake-agent:1\"\ningress.port = 8080\n\
         probes.start.path = \"/healthz\"\nprobes.start.timeout = \"15s\"\n\
         state.data.path = \"/state\"\n{more}\n"
    )
}

impl Host<'_> {
    /// Installs tenantd, not yet set up.
    pub fn install(&self) -> anyhow::Result<()> {
        self.machine.install(BINARY)?;
        Ok(())
    }

    /// Sets the node up, with more options of `tenantd init`.
    pub fn init(&self, name: &str, options: &[String]) -> anyhow::Result<Output> {
        let output = self.machine.set_up(name, options)?;
        // A revision is good as soon as it answers; tests of trials say otherwise.
        self.machine.script(
            r#"f=/etc/tenantd/node.toml
               if [ -f $f ] && ! grep -q '^\[update\]' $f; then
                   printf '\n[update]\nhealthy-for = "0s"\n' >>$f
               fi"#,
        )?;
        Ok(output)
    }

    /// More rollbacks in a day than an operator would have, before nothing new is tried.
    pub fn many_rollbacks(&self) -> anyhow::Result<()> {
        self.machine.script(
            r"printf '\n[failure]\nrollbacks = 100\n' >>/etc/tenantd/node.toml
              tenantd reload",
        )?;
        Ok(())
    }

    /// How long a new revision must be healthy to be good.
    pub fn healthy_for(&self, period: &str) -> anyhow::Result<()> {
        self.machine.script(&format!(
            "sed -i 's/^healthy-for = .*/healthy-for = \"{period}\"/' /etc/tenantd/node.toml"
        ))?;
        self.tenantd(["reload"])?;
        Ok(())
    }

    /// Starts the daemon and what goes with it.
    pub fn start_daemon(&self) -> anyhow::Result<()> {
        self.machine.start_tenantd()
    }

    /// Runs `tenantd ARGS`; an error when it fails.
    pub fn tenantd<const N: usize>(&self, args: [&str; N]) -> anyhow::Result<Output> {
        self.try_tenantd(args)?.check()
    }

    /// Runs `tenantd ARGS`; the outcome is for the test to judge.
    pub fn try_tenantd<const N: usize>(&self, args: [&str; N]) -> anyhow::Result<Output> {
        let words = ["tenantd"].into_iter().chain(args);
        self.machine
            .attempt_with(words.map(str::to_owned), &[], LIMIT)
    }

    /// The answer of `tenantd ARGS --json`.
    pub fn json<const N: usize>(&self, args: [&str; N]) -> anyhow::Result<Value> {
        let words = ["tenantd"].into_iter().chain(args).chain(["--json"]);
        let output = self
            .machine
            .attempt_with(words.map(str::to_owned), &[], LIMIT)?
            .check()?;
        serde_json::from_str(&output.stdout).with_context(|| output.stdout.clone())
    }

    /// Applies a spec and waits until it is done.
    pub fn apply(&self, spec: &str) -> anyhow::Result<Output> {
        self.try_apply(spec)?.check()
    }

    /// Applies a spec; the outcome is for the test to judge.
    pub fn try_apply(&self, spec: &str) -> anyhow::Result<Output> {
        let words = ["tenantd", "apply", "-"].map(str::to_owned);
        self.machine.attempt_with(words, spec.as_bytes(), LIMIT)
    }

    /// Where a tenant stands, as `list` says.
    pub fn state(&self, tenant: &str) -> anyhow::Result<String> {
        let list = self.json(["list"])?;
        let row = list
            .as_array()
            .and_then(|rows| rows.iter().find(|row| row["id"] == tenant))
            .with_context(|| format!("no tenant {tenant} in {list}"))?;
        Ok(row["state"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits until a tenant stands there.
    pub fn wait_for_state(&self, tenant: &str, state: &str) -> anyhow::Result<()> {
        let what = format!("tenant {tenant} to be {state}");
        self.machine.wait_until(&what, LIMIT, |_| {
            // While the daemon starts it does not answer.
            Ok(match self.state(tenant) {
                Ok(found) if found == state => Ok(()),
                Ok(found) => Err(found),
                Err(error) => Err(format!("{error:#}")),
            })
        })
    }

    /// A GET through a tenant's ingress socket; the body of a good answer.
    pub fn get(&self, tenant: &str, path: &str) -> anyhow::Result<String> {
        Ok(self.request(tenant, path, &[])?.check()?.stdout)
    }

    /// A request through a tenant's ingress socket by curl with more arguments.
    pub fn request(&self, tenant: &str, path: &str, more: &[&str]) -> anyhow::Result<Output> {
        let more = more.iter().map(ToString::to_string);
        let words = curl(tenant, path).into_iter().chain(more);
        self.machine.attempt_with(words, &[], LIMIT)
    }

    /// Writes a file into the agent's state, through the agent.
    pub fn write(&self, tenant: &str, name: &str, content: &str) -> anyhow::Result<()> {
        let path = format!("/write?name={name}");
        self.request(tenant, &path, &["--data-binary", content])?
            .check()?;
        Ok(())
    }

    /// Makes sure that the agent reads this from its state.
    pub fn expect(&self, tenant: &str, name: &str, content: &str) -> anyhow::Result<()> {
        let found = self.get(tenant, &format!("/read?name={name}"))?;
        ensure!(
            found == content,
            "{tenant} reads {found:?} from {name}, not {content:?}"
        );
        Ok(())
    }

    /// What systemd says of a unit's property.
    pub fn property(&self, unit: &str, property: &str) -> anyhow::Result<String> {
        let words = ["systemctl", "show", "--value", "--property", property, unit];
        Ok(self.machine.run(words)?.trim().to_owned())
    }

    /// Which run of the agent this is; another after every restart.
    pub fn run_of(&self, tenant: &str) -> anyhow::Result<String> {
        self.property(&format!("tenant-{tenant}.service"), "InvocationID")
    }

    /// Has the next process that comes to this failpoint killed there.
    pub fn arm(&self, failpoint: &str) -> anyhow::Result<()> {
        self.machine.write("/run/tenantd/failpoint", failpoint)
    }

    /// Whether the armed failpoint was reached.
    pub fn was_hit(&self) -> anyhow::Result<bool> {
        Ok(!self
            .machine
            .attempt(["test", "-e", "/run/tenantd/failpoint"])?
            .success())
    }
}

/// The right exit code, and a message that says all this.
pub fn refused(output: &Output, code: i32, messages: &[&str]) -> anyhow::Result<()> {
    // A document of ten megabytes is not worth showing.
    let shown: String = format!("{output:?}").chars().take(10_000).collect();
    ensure!(output.code == Some(code), "not exit code {code}: {shown}");
    for message in messages {
        ensure!(
            output.stderr.contains(message),
            "{message:?} is not in {shown}"
        );
    }
    Ok(())
}
