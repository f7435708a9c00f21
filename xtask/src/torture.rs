//! `cargo xtask torture`: the long run of what every change goes through in short. It draws crashes, losses of power,
//! histories, faults of a bucket and damaged objects from a seed, on a file system with reflinks.
//!
//! What is done is in the tests (`tests/repository/torture`, `src/fuzz`); this only gives them time, room and a seed.

use std::{fs, process, time::SystemTime};

use anyhow::Context as _;
use clap::Args;

use crate::{
    bench::backup::xfs::Xfs,
    host, paths,
    process::{cargo, run as run_command},
    progress,
};

/// Mutated inputs for each parser, for each minute.
const INPUTS_PER_MINUTE: u64 = 500;

/// How long, and from what.
#[derive(Debug, Args)]
pub struct Options {
    /// After so many minutes no part is begun any more; one round is always played to its end.
    #[arg(long, default_value_t = 10)]
    pub minutes: u64,
    /// Draw everything from this number, to see again what another run has seen; otherwise from the clock.
    #[arg(long)]
    pub seed: Option<u64>,
}

/// Tortures the backup engine, and says what was done; an error when a snapshot is not what it must be.
pub fn run(options: &Options) -> anyhow::Result<()> {
    host::provide(host::UNIT_TESTS)?;
    let seed = options.seed.unwrap_or_else(of_the_clock);
    println!("seed {seed}");
    let work = paths::target().join(format!("torture-{}", process::id()));
    fs::create_dir_all(&work).with_context(|| format!("could not create {}", work.display()))?;
    let xfs = Xfs::mount(&work)?;
    let inputs = INPUTS_PER_MINUTE * options.minutes.max(1);
    progress::step("Damaged objects", || {
        let mut test = cargo();
        test.args(["test", "--locked", "--package", "tenantd", "--lib"])
            .args(["fuzz::no_parser", "--", "--nocapture"])
            .env("TENANTD_FUZZ_INPUTS", inputs.to_string())
            .env("TENANTD_FUZZ_SEED", seed.to_string());
        run_command(&mut test)
    })?;
    progress::step(
        "Crashes, losses of power, histories, storms and a hammer",
        || {
            let mut test = cargo();
            test.args([
                "test",
                "--locked",
                "--package",
                "tenantd",
                "--test",
                "repository",
                "--",
            ])
            .args(["--exact", "torture::as_long_as_it_was_asked_for"])
            .args(["--ignored", "--nocapture"])
            .env("TMPDIR", xfs.directory())
            .env("TENANTD_TORTURE_MINUTES", options.minutes.to_string())
            .env("TENANTD_TORTURE_SEED", seed.to_string());
            run_command(&mut test)
        },
    )?;
    xfs.unmount()?;
    fs::remove_dir_all(&work).with_context(|| format!("could not remove {}", work.display()))
}

/// Short enough to be typed.
fn of_the_clock() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(1, |time| time.as_secs() % 1_000_000)
}
