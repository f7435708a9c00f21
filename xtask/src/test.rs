//! `cargo xtask test`: everything that must hold before a change is merged, in the order in which it fails fastest.

use std::{num::NonZeroUsize, path::PathBuf, process::Command, thread};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde::Deserialize;

use crate::{
    deny,
    go_program::{BUTANE, IGNITION_VALIDATE, VERSITYGW},
    host, machine, process, progress,
    second_try::{self, Show},
    torture,
};

/// What to test.
#[derive(Debug, Args)]
pub struct Options {
    /// Also what takes too long for every change.
    #[arg(long)]
    full: bool,
    /// Only the integration tests whose name contains this; skips the checks and the unit tests.
    filter: Option<String>,
}

/// Runs the checks and the tests.
pub fn run(options: &Options) -> anyhow::Result<()> {
    thread::scope(|scope| {
        // Mostly downloads: it goes well beside the compiler.
        let mut builds = vec![(scope.spawn(machine::build), "the test machine")];
        if options.filter.is_none() {
            // With a filter, the test that needs it builds it.
            let build = || {
                let programs = [BUTANE, IGNITION_VALIDATE, VERSITYGW];
                programs
                    .iter()
                    .try_for_each(|program| program.ensure().map(drop))
            };
            builds.push((scope.spawn(build), "the programs in Go"));
            let kernel = scope.spawn(machine::build_virtual);
            builds.push((kernel, "the virtual machine's kernel"));
            checks(options)?;
        }
        for (build, what) in builds {
            match build.join() {
                Ok(built) => built.with_context(|| format!("could not build {what}"))?,
                Err(_) => bail!("building {what} panicked"),
            }
        }
        integration(options)
    })
}

fn checks(options: &Options) -> anyhow::Result<()> {
    progress::step("Format", || {
        process::run(process::cargo().args(["fmt", "--all", "--check"]))
    })?;
    progress::step("Lints", || {
        // All targets are those that `cargo test` runs; the tests in machines are not among them.
        for targets in [
            &["--workspace", "--all-targets"][..],
            &["--package", "tenantd", "--test", "appliance"],
        ] {
            let mut clippy = process::cargo();
            clippy.args(["clippy", "--locked"]).args(targets);
            process::run(clippy.args(["--", "--deny", "warnings"]))?;
        }
        Ok(())
    })?;
    progress::step("Licences and sources of dependencies", deny::check)?;
    host::provide(host::UNIT_TESTS)?;
    progress::step("Unit tests", || {
        let tests = || {
            let mut tests = process::cargo();
            tests.args(["test", "--locked", "--workspace", "--no-fail-fast", "--"]);
            if !options.full {
                tests.env(PROPTEST_SEED, "1");
            }
            tests
        };
        second_try::run(tests, &[], options.full, Show::Live)
    })?;
    if options.full {
        torture::run(&torture::Options {
            minutes: TORTURE,
            seed: None,
        })?;
    }
    Ok(())
}

/// Minutes of `cargo xtask torture` within `--full`.
const TORTURE: u64 = 10;

/// Makes every property draw the same cases each time (the `proptest` book, "Configuration"), so that a change
/// is judged by what it changes. `--full` draws new ones; what those find is kept beside the tests and repeated here.
const PROPTEST_SEED: &str = "PROPTEST_RNG_SEED";

/// The tests in the virtual machine, which has one slow processor: whichever they are begun beside, they end last.
/// So they begin first, beside all others.
const IN_VIRTUAL_MACHINE: &str = "virtual_machine::";

/// Each test boots a machine of its own. Twice as many at once as there are processors: machines mostly wait, for agents
/// that start and stop (52 tests on two processors: 11 minutes two at a time, at a load of 1.5).
fn integration(options: &Options) -> anyhow::Result<()> {
    // An empty one is every test, as no filter is.
    let filter = options
        .filter
        .as_deref()
        .filter(|filter| !filter.is_empty());
    let mut arguments: Vec<&str> = filter.into_iter().collect();
    if options.full {
        arguments.push("--include-ignored");
    }
    let listed = process::output(appliance().args(&arguments).arg("--list"))?;
    // A misspelt filter must not pass for a test that passed.
    ensure!(
        listed.contains(": test"),
        "no integration test has {:?} in its name",
        options.filter
    );
    let unit_tests = unit_test_binary()?;
    let processors = thread::available_parallelism().map_or(2, NonZeroUsize::get);
    let threads = format!("--test-threads={}", 2 * processors);
    let test = |more: &[&str], show| {
        let tests = || {
            let mut tests = appliance();
            tests.env(UNIT_TESTS, &unit_tests);
            tests
        };
        let arguments = [&arguments[..], more].concat();
        second_try::run(tests, &arguments, options.full, show)
    };
    progress::step("Integration tests in test machines", || {
        if filter.is_some() {
            return test(&[&threads], Show::Live);
        }
        thread::scope(|scope| {
            let slow = scope.spawn(|| test(&[IN_VIRTUAL_MACHINE], Show::AtEnd));
            let others = test(&["--skip", IN_VIRTUAL_MACHINE, &threads], Show::Live);
            let Ok(slow) = slow.join() else {
                bail!("running the tests in the virtual machine panicked");
            };
            others.and(slow)
        })
    })
}

/// `cargo test` of the tests in machines; further arguments are the test runner's.
fn appliance() -> Command {
    let mut tests = process::cargo();
    tests.args([
        "test",
        "--locked",
        "--package",
        "tenantd",
        "--test",
        "appliance",
        "--",
    ]);
    tests
}

/// Names the unit tests' binary to the integration tests: some of its tests need a machine and run in one.
const UNIT_TESTS: &str = "TENANTD_UNIT_TESTS";

/// What cargo says of a built target, as far as it matters here.
#[derive(Deserialize)]
struct Artifact {
    executable: Option<PathBuf>,
}

/// Builds the unit tests, which are built already but after `cargo xtask test FILTER`, and says where they are.
fn unit_test_binary() -> anyhow::Result<PathBuf> {
    let build = [
        "test",
        "--locked",
        "--package",
        "tenantd",
        "--lib",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ];
    let said = process::output(process::cargo().args(build))?;
    said.lines()
        .filter_map(|line| serde_json::from_str::<Artifact>(line).ok()?.executable)
        .next_back()
        .context("cargo built no unit tests")
}
