//! `cargo xtask bench appliance`: what running agents under tenantd costs, in a test machine, with the fake agent.
//!
//! `appliance.py` measures inside the machine; this drives it and says what each figure is compared with.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use clap::Args;
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    Latency, Measured, Peer, Report, Row, Target,
    measured::{figure, percentile},
};
use crate::{
    machine::{self, Machine, REPOSITORY, images::fake_agent},
    paths, process, progress,
};

/// How to measure.
#[derive(Debug, Args)]
pub struct Options {
    /// Leave the machine up at the end, with all its tenants.
    #[arg(long)]
    keep: bool,
}

/// The machine's name.
const NAME: &str = "bench";
/// Tenants that make a full host.
const MANY: usize = 100;
/// Runs of what takes a second.
const RUNS: usize = 7;
/// Runs of what takes several.
const LONG_RUNS: usize = 3;
/// Seconds for which the daemon is watched at rest: at least two pings of its watchdog (`WatchdogSec=30s`, halved).
const IDLE_SECONDS: u32 = 40;
/// Watchdog pings that can fall into that time.
const IDLE_PINGS: f64 = 3.0;
/// Requests in one go to the door, then to the agent, so that what else the host does meets both.
const REQUESTS: usize = 500;
/// How often both are asked.
const TURNS: usize = 6;
/// How long one verb of the script may take.
const LIMIT: Duration = Duration::from_mins(9);

/// One timed run: seconds on the clock, and of all processors within the machine.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Timed {
    seconds: f64,
    cpu: f64,
}

#[derive(Debug, Deserialize)]
struct Storm {
    seconds: f64,
    cpu: f64,
    /// How long each `tenantd list` took meanwhile.
    list: Vec<f64>,
}

#[derive(Debug, Deserialize)]
struct Idle {
    /// Seconds in which any thread woke up.
    awake: f64,
    /// How often each thread did.
    switches: BTreeMap<String, u64>,
    /// Of the daemon, in MiB, by the names of `proc_pid_status(5)`.
    memory: BTreeMap<String, f64>,
    /// Containers that ran meanwhile.
    running: usize,
}

/// Measures everything in one fresh machine.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let binary = build()?;
    let bench = Bench {
        machine: Machine::named(NAME)?,
    };
    progress::step(
        format!("Booting machine {NAME}, with an empty disk"),
        || {
            bench.machine.reset()?;
            bench.machine.boot()
        },
    )?;
    bench.install(&binary)?;
    let mut report = Report::new("appliance");
    bench.apply(&mut report)?;
    bench.door(&mut report)?;
    bench.many(&mut report)?;
    bench.reconcile(&mut report)?;
    bench.idle(&mut report)?;
    if !options.keep {
        progress::step(format!("Erasing machine {NAME}"), || bench.machine.reset())?;
    }
    Ok(report)
}

/// Builds the machine, then tenantd as it is released: side by side they would take the same processors.
pub(super) fn build() -> anyhow::Result<PathBuf> {
    progress::step(
        "Building the test machine, unless it is in the cache",
        machine::build,
    )?;
    progress::step("Building tenantd (release)", || {
        let build = [
            "build",
            "--locked",
            "--release",
            "--package",
            "tenantd",
            "--bin",
            "tenantd",
        ];
        process::run(process::cargo().args(build))
    })?;
    Ok(paths::target().join("release/tenantd"))
}

struct Bench {
    machine: Machine,
}

impl Bench {
    fn install(&self, binary: &std::path::Path) -> anyhow::Result<()> {
        progress::step("Installing tenantd and its specs", || {
            self.machine.install(binary)?;
            self.machine.run([
                "tenantd",
                "init",
                "--name",
                NAME,
                "--allow-missing-controllers",
            ])?;
            self.machine
                .run(["systemctl", "start", "tenantd.service"])?;
            for (directory, prefix, count) in [
                ("one", "solo", 1),
                ("ten", "ten", 10),
                ("many", "many", MANY),
            ] {
                let specs = (1..=count).map(|number| spec(&format!("{prefix}-{number}")));
                let script = specs
                    .enumerate()
                    .map(|(index, spec)| {
                        format!("cat >/root/{directory}/{index:03}.toml <<'END'\n{spec}END\n")
                    })
                    .collect::<Vec<_>>()
                    .concat();
                self.machine
                    .script(&format!("mkdir /root/{directory}\n{script}"))?;
            }
            Ok(())
        })
    }

    /// One tenant beside a bare container, then ten at once beside one.
    fn apply(&self, report: &mut Report) -> anyhow::Result<()> {
        let (mut bare, mut one) = (Vec::new(), Vec::new());
        progress::step(
            format!("{RUNS} times: a bare `podman run` until healthy, then one tenant applied"),
            || {
                for turn in 0..=RUNS {
                    let (podman, tenantd): (Timed, Timed) = (
                        self.measure(["podman", "bare"])?,
                        self.measure(["apply", "/root/one"])?,
                    );
                    // The first turn fills caches, of both.
                    if turn > 0 {
                        bare.push(podman);
                        one.push(tenantd);
                    }
                }
                Ok(())
            },
        )?;
        let mut ten: Vec<Timed> = Vec::new();
        progress::step(
            format!("{LONG_RUNS} times: ten tenants applied at once"),
            || {
                for _ in 0..LONG_RUNS {
                    ten.push(self.measure(["apply", "/root/ten"])?);
                }
                Ok(())
            },
        )?;
        let version = self
            .machine
            .run(["podman", "version", "--format", "{{.Client.Version}}"])?;
        report.add(Row {
            measure: "apply one tenant until healthy".to_owned(),
            ours: seconds(&one)?,
            peer: Some(Peer {
                measured: seconds(&bare)?,
                version: format!(
                    "podman {}: `podman run --detach --network=host` of the same image, until it answers",
                    version.trim()
                ),
            }),
            unit: "s",
            target: Target::AbovePeer(0.7),
            limits: format!(
                "the processor: {} CPU-s per apply, {} per bare `podman run`",
                cpu(&one)?,
                cpu(&bare)?
            ),
        });
        report.add(Row {
            measure: "apply 10 tenants at once until healthy".to_owned(),
            ours: seconds(&ten)?,
            peer: Some(Peer {
                measured: seconds(&one)?,
                version: "tenantd, one tenant".to_owned(),
            }),
            unit: "s",
            target: Target::TimesPeer(3.0),
            limits: format!(
                "the processor: {} CPU-s for ten on {} processors, {} for one",
                cpu(&ten)?,
                processors(),
                cpu(&one)?
            ),
        });
        Ok(())
    }

    /// The door's latency beside that of a client within the agent's namespace.
    fn door(&self, report: &mut Report) -> anyhow::Result<()> {
        const TENANT: &str = "solo-1";
        self.machine.run(["tenantd", "apply", "/root/one"])?;
        let (mut door, mut direct) = (Latency::default(), Latency::default());
        let (count, turns) = (REQUESTS.to_string(), TURNS);
        progress::step(
            format!("{turns} × {count} requests and messages through the door, and directly"),
            || {
                let inside = format!("--net=/run/netns/tenant-{TENANT}");
                for turn in 0..=turns {
                    let through: Latency = self.measure(["latency", TENANT, &count])?;
                    let past: Latency =
                        self.measure_by(["nsenter", &inside], ["latency", "agent", &count])?;
                    // The first requests start the door.
                    if turn > 0 {
                        door.take(through);
                        direct.take(past);
                    }
                }
                Ok(())
            },
        )?;
        for (what, ours, peers) in [
            (
                "request on a new connection",
                &mut door.new,
                &mut direct.new,
            ),
            (
                "64 bytes and back on an open connection",
                &mut door.open,
                &mut direct.open,
            ),
        ] {
            for (name, rank) in [("median", 0.5), ("p99", 0.99)] {
                report.add(Row {
                    measure: format!("door: {what}, {name}"),
                    ours: percentile(ours, rank)?,
                    peer: Some(Peer {
                        measured: percentile(peers, rank)?,
                        version: "TCP to the agent, within its namespace".to_owned(),
                    }),
                    unit: "µs",
                    target: Target::None,
                    limits: String::new(),
                });
            }
        }
        self.machine
            .run(["tenantd", "remove", "--purge", "--yes", TENANT])?;
        Ok(())
    }

    /// A full host from one command, which must stay answerable meanwhile.
    fn many(&self, report: &mut Report) -> anyhow::Result<()> {
        let storm: Storm = progress::step(
            format!("Applying {MANY} tenants at once, asking `tenantd list` meanwhile"),
            || self.measure(["storm", "/root/many"]),
        )?;
        let limits = format!(
            "the processor: {} CPU-s for {MANY} on {} processors",
            figure(storm.cpu),
            processors()
        );
        report.add(Row {
            measure: format!("apply {MANY} tenants at once until healthy, all well"),
            ours: storm.seconds.into(),
            peer: None,
            unit: "s",
            target: Target::None,
            limits: limits.clone(),
        });
        report.add(Row {
            measure: format!("slowest of {} `tenantd list` meanwhile", storm.list.len()),
            ours: storm.list.iter().copied().fold(0.0, f64::max).into(),
            peer: None,
            unit: "s",
            target: Target::AtMost(1.0),
            limits,
        });
        Ok(())
    }

    /// Everything looked at and nothing changed, by both ways that an operator has.
    fn reconcile(&self, report: &mut Report) -> anyhow::Result<()> {
        let runs = RUNS.to_string();
        let (applied, reloaded) = progress::step(
            format!(
                "{RUNS} times each: applying {MANY} unchanged specs, and `tenantd reload` with them in tenants.d"
            ),
            || {
                let applied: Vec<Timed> =
                    self.measure(["repeat", &runs, "tenantd", "apply", "/root/many"])?;
                self.machine
                    .script("cp /root/many/*.toml /etc/tenantd/tenants.d/ && tenantd reload")?;
                let reloaded: Vec<Timed> = self.measure(["repeat", &runs, "tenantd", "reload"])?;
                Ok((applied, reloaded))
            },
        )?;
        for (how, runs) in [
            ("`tenantd reload`: files, agents and specs", &reloaded),
            ("`tenantd apply DIR`", &applied),
        ] {
            report.add(Row {
                measure: format!("reconcile {MANY} unchanged tenants, {how}"),
                ours: seconds(runs)?,
                peer: None,
                unit: "s",
                target: Target::AtMost(0.3),
                limits: format!("the processor: {} CPU-s of the machine each", cpu(runs)?),
            });
        }
        Ok(())
    }

    /// The daemon at rest with a full host, once the doors have left.
    fn idle(&self, report: &mut Report) -> anyhow::Result<()> {
        let idle: Idle = progress::step(
            format!("Waiting for the doors to leave, then {IDLE_SECONDS} s of the daemon at rest"),
            || self.measure(["idle", &IDLE_SECONDS.to_string()]),
        )?;
        let mebibytes = |name: &str| idle.memory.get(name).copied().unwrap_or_default();
        report.add(Row {
            measure: format!("`tenantd serve` idle, {} agents running: RSS", idle.running),
            ours: mebibytes("VmRSS").into(),
            peer: None,
            unit: "MiB",
            target: Target::AtMost(30.0),
            limits: format!(
                "RssAnon {} MiB and RssFile {} MiB",
                figure(mebibytes("RssAnon")),
                figure(mebibytes("RssFile"))
            ),
        });
        let threads: Vec<String> = idle
            .switches
            .iter()
            .map(|(thread, count)| format!("{thread} {count}"))
            .collect();
        report.add(Row {
            measure: format!(
                "the same: seconds of {IDLE_SECONDS} in which it woke up (pings every 15 s)"
            ),
            ours: idle.awake.into(),
            peer: None,
            unit: "s",
            target: Target::AtMost(IDLE_PINGS),
            limits: format!(
                "voluntary context switches by thread: {}",
                threads.join(", ")
            ),
        });
        Ok(())
    }

    /// One verb of the script, inside the machine.
    fn measure<T: DeserializeOwned, const N: usize>(&self, verb: [&str; N]) -> anyhow::Result<T> {
        self.measure_by([], verb)
    }

    /// As [`Bench::measure`], with another command before it.
    fn measure_by<T: DeserializeOwned, const M: usize, const N: usize>(
        &self,
        before: [&str; M],
        verb: [&str; N],
    ) -> anyhow::Result<T> {
        let script = format!("{REPOSITORY}/xtask/src/bench/appliance.py");
        let argv = before
            .into_iter()
            .chain(["python3", &script])
            .chain(verb)
            .map(str::to_owned);
        self.machine.attempt_with(argv, &[], LIMIT)?.check()?.json()
    }
}

fn spec(id: &str) -> String {
    format!(
        "id = \"{id}\"\nimage = \"{}\"\ningress.port = 8080\nprobes.start.path = \"/healthz\"\n\
         state.data.path = \"/state\"\n",
        fake_agent::reference()
    )
}

fn seconds(runs: &[Timed]) -> anyhow::Result<Measured> {
    Measured::of(runs.iter().map(|run| run.seconds))
}

fn cpu(runs: &[Timed]) -> anyhow::Result<String> {
    let measured = Measured::of(runs.iter().map(|run| run.cpu))?;
    Ok(figure(measured.median))
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
