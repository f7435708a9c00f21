//! `cargo xtask bench wake`: how soon sleeping agents answer, what they keep meanwhile, and what the door costs warm.
//!
//! `wake.py` measures inside the machine; this drives it and says what each figure is compared with.

mod agents;
mod door;

use std::time::Duration;

use clap::Args;
use serde::{Deserialize, de::DeserializeOwned};

use self::agents::{AGENTS, Agent};
use super::{
    Measured, Peer, Report, Row, Target,
    appliance::build,
    measured::{figure, percentile},
    zram::Zram,
};
use crate::{
    machine::{Machine, REPOSITORY},
    progress,
};

/// How to measure.
#[derive(Debug, Args)]
pub struct Options {
    /// Leave the machine up at the end, with all its tenants.
    #[arg(long)]
    keep: bool,
    /// Do not make compressed swap on this host for the run; without any, nothing is paged out.
    #[arg(long)]
    no_swap: bool,
}

/// The machine's name.
const NAME: &str = "bench-wake";
/// Swap before it is compressed, in bytes: more than all agents have.
const SWAP: u64 = 8 << 30;
/// How often a frozen agent is woken.
const FROZEN_RUNS: usize = 60;
/// How often one that is stopped is.
const STOPPED_RUNS: usize = 5;
/// How long one verb of the script may take.
const LIMIT: Duration = Duration::from_mins(9);

#[derive(Debug, Deserialize)]
struct Paged {
    /// MiB of each agent before.
    running: Vec<f64>,
    /// MiB of each agent in its sleep.
    asleep: Vec<f64>,
    /// MiB that swap took for all of them.
    swap: f64,
    /// Milliseconds to the first byte of each.
    first: Vec<f64>,
}

/// Measures everything in one fresh machine.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let binary = build()?;
    let _swap = if options.no_swap {
        None
    } else {
        Some(progress::step(
            "Making compressed swap for this run",
            || Zram::new(SWAP),
        )?)
    };
    let bench = Bench {
        machine: Machine::named(NAME)?,
    };
    progress::step(
        format!("Booting machine {NAME}, with an empty disk"),
        || {
            bench.machine.reset()?;
            bench.machine.boot()?;
            bench.machine.install(&binary)?;
            bench.machine.run([
                "tenantd",
                "init",
                "--name",
                NAME,
                "--allow-missing-controllers",
            ])?;
            bench.machine.run(["systemctl", "start", "tenantd.service"])
        },
    )?;
    let mut report = Report::new("wake");
    for agent in &AGENTS {
        bench.apply(agent, "sleep.after = \"1h\"\n")?;
        bench.frozen(agent, &mut report)?;
        if !options.no_swap {
            bench.paged(agent, &mut report)?;
        }
        bench.stopped(agent, &mut report)?;
        if agent.name == "fake" {
            bench.door(&mut report)?;
        }
        bench.remove(&agent.tenants())?;
    }
    bench.crowd(&mut report)?;
    if !options.keep {
        progress::step(format!("Erasing machine {NAME}"), || bench.machine.reset())?;
    }
    Ok(report)
}

struct Bench {
    machine: Machine,
}

impl Bench {
    fn apply(&self, agent: &Agent, more: &str) -> anyhow::Result<()> {
        progress::step(
            format!("Applying {} × {}", agent.tenants, agent.name),
            || {
                for number in 1..=agent.tenants {
                    let path = format!("/root/{}/{number}.toml", agent.name);
                    self.machine.write(&path, agent.spec(number, more))?;
                }
                self.machine
                    .run(["tenantd", "apply", &format!("/root/{}", agent.name)])?;
                Ok(())
            },
        )
    }

    fn remove(&self, tenants: &[String]) -> anyhow::Result<()> {
        let command = ["tenantd", "remove", "--purge", "--yes"].map(str::to_owned);
        let argv = command.into_iter().chain(tenants.iter().cloned());
        self.machine.attempt_with(argv, &[], LIMIT)?.check()?;
        Ok(())
    }

    fn frozen(&self, agent: &Agent, report: &mut Report) -> anyhow::Result<()> {
        let runs = FROZEN_RUNS.to_string();
        let mut times: Vec<f64> = progress::step(
            format!("{FROZEN_RUNS} times: {} frozen, then asked", agent.name),
            || self.measure(["frozen", &agent.tenant(1), agent.path, &runs]),
        )?;
        for (name, rank, most) in [("p50", 0.5, 15.0), ("p99", 0.99, 60.0)] {
            report.add(Row {
                measure: format!("{}: frozen → first byte, {name}", agent.name),
                ours: percentile(&mut times, rank)?,
                peer: None,
                unit: "ms",
                target: Target::AtMost(most),
                limits: "the agent's own answer is part of it".to_owned(),
            });
        }
        Ok(())
    }

    fn paged(&self, agent: &Agent, report: &mut Report) -> anyhow::Result<()> {
        let tenants = agent.tenants();
        let paged: Paged = progress::step(
            format!(
                "{} × {} asleep until they are paged out, then asked",
                agent.tenants, agent.name
            ),
            || {
                let words = ["paged".to_owned(), agent.path.to_owned()];
                self.measure_by(&[], words.into_iter().chain(tenants))
            },
        )?;
        report.add(Row {
            measure: format!("{}: paged out → first byte", agent.name),
            ours: Measured::of(paged.first)?,
            peer: None,
            unit: "ms",
            target: Target::AtMost(600.0),
            limits: "swap is compressed memory (zram)".to_owned(),
        });
        let running = Measured::of(paged.running.iter().copied())?;
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        let swap = paged.swap / paged.asleep.len() as f64;
        let asleep = Measured::of(paged.asleep.iter().map(|own| own + swap))?;
        let limits = format!(
            "{} measured; each keeps {} MiB and takes {} MiB of swap as it is compressed",
            agent.tenants,
            figure(asleep.median - swap),
            figure(swap)
        );
        let is_claw = agent.name == "openclaw";
        report.add(Row {
            measure: if is_claw {
                "openclaw: 20 × memory paged out, beside 3 × running".to_owned()
            } else {
                format!("{}: memory paged out, beside running", agent.name)
            },
            ours: if is_claw { asleep.times(20.0) } else { asleep },
            peer: Some(Peer {
                measured: if is_claw { running.times(3.0) } else { running },
                version: "the same agents, running".to_owned(),
            }),
            unit: "MiB",
            target: if is_claw {
                Target::TimesPeer(1.0)
            } else {
                Target::None
            },
            limits,
        });
        Ok(())
    }

    /// From stopped, beside a start of the same unit that is watched from within its namespace.
    fn stopped(&self, agent: &Agent, report: &mut Report) -> anyhow::Result<()> {
        let (tenant, runs) = (agent.tenant(1), STOPPED_RUNS.to_string());
        let started: Vec<f64> = progress::step(
            format!("{STOPPED_RUNS} times: {} started by hand", agent.name),
            || {
                let port = agent.port.to_string();
                let inside = format!("--net=/run/netns/tenant-{tenant}");
                let words = ["started", &tenant, &port, agent.probe, &runs];
                self.measure_by(&["nsenter", &inside], words.map(str::to_owned))
            },
        )?;
        self.apply(agent, "sleep.after = \"1s\"\nsleep.stop-after = \"1s\"\n")?;
        let woken: Vec<f64> = progress::step(
            format!(
                "{STOPPED_RUNS} times: {} stopped in its sleep, then asked",
                agent.name
            ),
            || self.measure(["stopped", &tenant, agent.path, &runs]),
        )?;
        let in_seconds = |times: Vec<f64>| Measured::of(times.into_iter().map(|ms| ms / 1e3));
        report.add(Row {
            measure: format!("{}: stopped → first byte", agent.name),
            ours: in_seconds(woken)?,
            peer: Some(Peer {
                measured: in_seconds(started)?,
                version: "`systemctl start` of the same unit, until the agent answers its probe within its namespace".to_owned(),
            }),
            unit: "s",
            target: Target::AbovePeer(0.3),
            limits: String::new(),
        });
        Ok(())
    }

    fn measure<T: DeserializeOwned, const N: usize>(&self, verb: [&str; N]) -> anyhow::Result<T> {
        self.measure_by(&[], verb.map(str::to_owned))
    }

    /// As [`Bench::measure`], with another command before it.
    fn measure_by<T: DeserializeOwned>(
        &self,
        before: &[&str],
        verb: impl IntoIterator<Item = String>,
    ) -> anyhow::Result<T> {
        let script = format!("{REPOSITORY}/xtask/src/bench/wake.py");
        let argv = before
            .iter()
            .copied()
            .chain(["python3", &script])
            .map(str::to_owned)
            .chain(verb);
        self.machine.attempt_with(argv, &[], LIMIT)?.check()?.json()
    }
}
