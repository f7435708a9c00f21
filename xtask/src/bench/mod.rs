//! `cargo xtask bench NAME`: measures what was promised, beside what it is compared with, in one run.
//!
//! Owns the table, the JSON and the verdict; each benchmark measures in a file of its own. A missed target is no
//! failure of the command: it says so, and names the measurement that shows what limits it.

mod appliance;
pub(crate) mod backup;
mod latency;
mod measured;
mod report;
mod wake;
mod zram;

use clap::Subcommand;

pub use self::{
    latency::Latency,
    measured::Measured,
    report::{Peer, Report, Row, Target},
};

/// The benchmarks.
#[derive(Debug, Subcommand)]
pub enum Benchmark {
    /// Applying, reconciling and idling beside a bare `podman run`, and the door beside a direct connection.
    Appliance(appliance::Options),
    /// The backup engine beside other backup programs, on the same data, store and processors.
    Backup(backup::Options),
    /// How soon sleeping agents answer and what they keep, and the warm door beside systemd's own proxy.
    Wake(wake::Options),
}

/// Runs a benchmark, prints its table and writes `target/bench/NAME.json`.
pub fn run(benchmark: &Benchmark) -> anyhow::Result<()> {
    let report = match benchmark {
        Benchmark::Appliance(options) => appliance::run(options)?,
        Benchmark::Backup(options) => backup::run(options)?,
        Benchmark::Wake(options) => wake::run(options)?,
    };
    let path = report.write()?;
    print!("{report}");
    println!("written to {}", path.display());
    Ok(())
}
