//! `cargo xtask demo`: what tenantd does, shown on two real agents in a machine that stays up to play with.
//!
//! Every step proves what it claims, or the demo fails. It talks to tenantd only as an operator does.

use std::{path::PathBuf, thread, time::Duration};

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use crate::{
    machine::{
        self, Machine, curl,
        images::{nanobot, openclaw},
    },
    paths, process, progress,
};

/// How to show it.
#[derive(Debug, Args)]
pub struct Options {
    /// Erase the machine at the end.
    #[arg(long)]
    once: bool,
}

/// The machine's name, and the node's.
const NAME: &str = "demo";

/// How long an agent may take to answer, on a machine that does other things too.
const ANSWER_LIMIT: Duration = Duration::from_mins(4);

/// A tenant of the demo, and how to tell that its agent serves.
struct Tenant {
    id: &'static str,
    template: &'static str,
    image: fn() -> String,
    /// The agent's own word for "I can serve".
    probe: &'static str,
}

/// The one that loses its state and gets it back.
const ALICE: Tenant = Tenant {
    id: "alice",
    template: "openclaw",
    image: openclaw::reference,
    probe: "/startupz",
};
/// The one that works on beside it.
const BOB: Tenant = Tenant {
    id: "bob",
    template: "nanobot",
    image: nanobot::reference,
    probe: "/health",
};

/// What is written into alice's state through her agent's container.
const DIARY: &str = "alice was here";

/// Everything in a tree that a restore must bring back: kinds, modes, owners, links, names, sizes, times, contents.
const FINGERPRINT: &str = r#"cd "$0" && {
    find . ! -type d -printf '%y %m %U:%G %s %T@ %p %l\n' | sort
    find . -type d -printf '%y %m %U:%G %T@ %p\n' | sort
    find . -type f -print0 | sort -z | xargs -0r sha256sum
} | sha256sum | cut -d' ' -f1"#;

/// Shows it.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let binary = build()?;
    let demo = Demo {
        machine: Machine::named(NAME)?,
    };
    let shown = demo.show(&binary);
    if shown.is_err() {
        // What the machine said last often tells why; a machine that did not boot says nothing.
        if let Ok(journal) = demo.machine.journal(["--lines=40"]) {
            eprintln!("--- journal of machine {NAME} ---\n{}", journal.trim_end());
        }
    }
    let erased = if options.once {
        progress::step(format!("Erasing machine {NAME}"), || demo.machine.reset())
    } else {
        eprint!("{}", if shown.is_ok() { FAREWELL } else { FAILURE });
        Ok(())
    };
    // The first error is the one to report.
    shown.and(erased)
}

const FAREWELL: &str = "
The machine is up. To use it:
  cargo xtask machine --name demo shell                                 enter it; tenantd is on its path
  cargo xtask machine --name demo run -- tenantd list
  cargo xtask machine --name demo run -- tenantd logs alice -n 20
  cargo xtask machine --name demo run -- tenantd exec alice -- openclaw --version
  cargo xtask machine --name demo run -- curl --unix-socket /run/tenantd/ingress/bob.sock http://bob/health
  cargo xtask machine --name demo reboot                                both come back
To stop it:
  cargo xtask machine --name demo down                                  keeps its disk; `up` goes on
  cargo xtask machine --name demo reset                                 forgets it
";

const FAILURE: &str = "
The demo failed. The machine is left as it is:
  cargo xtask machine --name demo shell                                 enter it and look around
  cargo xtask machine --name demo reset                                 forget it
";

/// Builds the machine beside tenantd: the one mostly downloads, the other compiles.
fn build() -> anyhow::Result<PathBuf> {
    thread::scope(|scope| {
        let machine = scope.spawn(machine::build);
        // Unoptimised: the release build takes several times as long on two cores, and nothing here needs it.
        progress::step("Building tenantd (unoptimised)", || {
            let build = [
                "build",
                "--locked",
                "--package",
                "tenantd",
                "--bin",
                "tenantd",
            ];
            process::run(process::cargo().args(build))
        })?;
        match machine.join() {
            Ok(built) => built.context("could not build the test machine")?,
            Err(_) => bail!("building the test machine panicked"),
        }
        Ok(paths::target().join("debug/tenantd"))
    })
}

struct Demo {
    machine: Machine,
}

impl Demo {
    fn show(&self, binary: &std::path::Path) -> anyhow::Result<()> {
        progress::step(
            format!("Booting machine {NAME}, with an empty disk"),
            || {
                self.machine.reset()?;
                self.machine.boot()
            },
        )?;
        self.install(binary)?;
        self.apply()?;
        self.lose_and_restore()?;
        self.shown(&["status"])?;
        self.shown(&["list"])?;
        self.shown(&["snapshots"])
    }

    fn install(&self, binary: &std::path::Path) -> anyhow::Result<()> {
        progress::step("Installing tenantd with packaging/install.sh", || {
            let said = self.machine.install(binary)?;
            progress::note(said.trim());
            Ok(())
        })?;
        progress::step("Setting the node up: tenantd init", || {
            self.machine.set_up(NAME, &[])?;
            self.machine.start_tenantd()
        })
    }

    fn apply(&self) -> anyhow::Result<()> {
        for tenant in [ALICE, BOB] {
            self.machine
                .write(&format!("/root/tenants/{}.toml", tenant.id), tenant.spec())?;
        }
        progress::step(
            format!(
                "Applying {} ({}) and {} ({})",
                ALICE.id, ALICE.template, BOB.id, BOB.template
            ),
            || self.shown(&["apply", "/root/tenants"]),
        )?;
        for tenant in [ALICE, BOB] {
            self.answers(&tenant)?;
        }
        Ok(())
    }

    /// Waits for the tenant's probe to be answered through its ingress socket.
    fn answers(&self, tenant: &Tenant) -> anyhow::Result<()> {
        let socket = format!("/run/tenantd/ingress/{}.sock", tenant.id);
        progress::step(
            format!("Asking {} for {} through {socket}", tenant.id, tenant.probe),
            || {
                let curl = curl(tenant.id, tenant.probe);
                let answer = self.machine.wait_for(curl, ANSWER_LIMIT)?;
                progress::note(answer.trim());
                Ok(())
            },
        )
    }

    /// Destroys alice's state and brings it back from a snapshot, identical to the byte; bob runs on meanwhile.
    fn lose_and_restore(&self) -> anyhow::Result<()> {
        let state = format!("/var/lib/tenantd/tenants/{}/state", ALICE.id);
        let write = format!("echo '{DIARY}' >\"$HOME/.openclaw/diary.txt\"");
        progress::step(
            "Writing a file into alice's state, from inside her container",
            || {
                self.machine
                    .run(["tenantd", "exec", ALICE.id, "--", "sh", "-c", &write])?;
                Ok(())
            },
        )?;
        let before = progress::step(
            "Stopping alice: a stopped agent's state can be compared",
            || {
                self.shown(&["stop", ALICE.id])?;
                self.fingerprint(&state)
            },
        )?;
        progress::note(format!("her state: {before}"));
        progress::step("Backing up all tenants and the node", || {
            self.shown(&["backup"])
        })?;
        progress::step(format!("Deleting {state}"), || {
            self.machine.run(["rm", "--recursive", "--force", &state])?;
            Ok(())
        })?;
        progress::step("Restoring alice", || self.shown(&["restore", ALICE.id]))?;
        let after = self.fingerprint(&state)?;
        progress::note(format!("her state: {after}"));
        ensure!(
            before == after,
            "alice's state came back as {after}, but was {before}"
        );
        progress::note("identical: every name, mode, owner, time and byte");

        progress::step("Starting alice", || self.shown(&["start", ALICE.id]))?;
        self.answers(&ALICE)?;
        let read = "cat \"$HOME/.openclaw/diary.txt\"";
        let found = self
            .machine
            .run(["tenantd", "exec", ALICE.id, "--", "sh", "-c", read])?;
        ensure!(
            found.trim() == DIARY,
            "alice's file says {:?}",
            found.trim()
        );
        progress::note(format!("her file says: {}", found.trim()));
        self.answers(&BOB)
    }

    fn fingerprint(&self, tree: &str) -> anyhow::Result<String> {
        let script = ["bash", "-euo", "pipefail", "-c", FINGERPRINT, tree];
        Ok(self.machine.run(script)?.trim().to_owned())
    }

    /// Runs `tenantd ARGS` with its words on this terminal.
    fn shown(&self, arguments: &[&str]) -> anyhow::Result<()> {
        eprintln!("    # tenantd {}", arguments.join(" "));
        let argv = ["tenantd"].into_iter().chain(arguments.iter().copied());
        let status = self.machine.inside()?.command(argv).status()?;
        ensure!(
            status.success(),
            "in machine {NAME}, `tenantd {}` failed: {status}",
            arguments.join(" ")
        );
        Ok(())
    }
}

impl Tenant {
    fn spec(&self) -> String {
        format!(
            "id = \"{}\"\ntemplate = \"{}\"\nplan = \"starter\"\nimage = \"{}\"\n",
            self.id,
            self.template,
            (self.image)()
        )
    }
}
