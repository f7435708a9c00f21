//! `cargo xtask bench backup`: the backup engine beside other programs for the same work, on the same data, the same
//! store and the same processors.
//!
//! This file owns the order of things; `tools` knows the programs, `place` the store, `measures` the rows.

mod compare;
mod engine;
mod measures;
mod peers;
mod place;
mod promise;
mod scale;
mod tools;
pub(crate) mod xfs;

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use self::engine::Engine;
use self::measures::Bench;
use self::place::Kind;
use self::scale::Scale;
use self::tools::Tool;
use super::Report;
use crate::{paths, process, progress};

/// How to measure.
#[derive(Debug, Args)]
pub struct Options {
    /// Measure this program, too; may be repeated. Without any: restic.
    #[arg(long = "peer")]
    peers: Vec<peers::Peer>,
    /// Where all of them store.
    #[arg(long, default_value = "dir")]
    store: Kind,
    /// How much data: `small` ends within five minutes.
    #[arg(long, default_value = "small", ignore_case = true)]
    size: Size,
    /// Measure this build of the program `engine` instead of building one; to compare changes.
    #[arg(long)]
    engine: Option<std::path::PathBuf>,
    /// Measure only rows of these; may be repeated.
    #[arg(long = "only")]
    only: Vec<Part>,
}

/// How much data there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Size {
    /// A tenth of it, or less.
    Small,
    /// What the targets are about.
    Full,
}

/// What can be measured by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// D3: the first backup and the restore.
    Mixed,
    /// D1: the first backup, and one when nothing changed.
    Files,
    /// D2: a backup when few pages changed.
    Database,
    /// Restore after many increments.
    Increments,
    /// How long the agent stands still.
    Pause,
}

/// Measures all that was asked for.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let engine = match &options.engine {
        Some(program) => Engine::at(program)?,
        None => Engine::build()?,
    };
    let directory = paths::target().join("bench/backup");
    let mut tools = vec![Tool::Tenantd];
    let peers = match options.peers.as_slice() {
        [] => &[peers::Peer::Restic],
        peers => peers,
    };
    for peer in peers {
        let program = peer
            .provide()
            .with_context(|| format!("{peer:?} cannot be had; leave it out with --peer"))?;
        tools.push(Tool::Peer(*peer, program));
    }
    let scale = Scale::of(options.size);
    let bench = Bench::new(engine, tools, options.store, scale, &directory)?;
    let mut report = Report::new("backup");
    let wanted = |part| options.only.is_empty() || options.only.contains(&part);
    if wanted(Part::Mixed) {
        bench.mixed(&mut report)?;
    }
    if wanted(Part::Files) {
        bench.files(&mut report)?;
    }
    if wanted(Part::Database) {
        bench.database(&mut report)?;
    }
    if wanted(Part::Increments) {
        bench.increments(&mut report)?;
    }
    if wanted(Part::Pause) {
        bench.pause(&mut report)?;
    }
    bench.end()?;
    Ok(report)
}

/// Builds one package as it is released, and gives its program's path.
fn build(package: &str) -> anyhow::Result<std::path::PathBuf> {
    progress::step(format!("Building {package} (release)"), || {
        let build = ["build", "--release", "--package", package];
        process::run(process::cargo().args(build))
    })?;
    Ok(paths::target().join("release").join(package))
}
