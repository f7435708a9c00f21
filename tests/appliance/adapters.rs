//! The unit tests that need a real host: the adapters of `host`, and rendered units before the real gates.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use xtask::machine::{Machine, REPOSITORY, in_machine};

/// Names the unit tests' binary; set by `cargo xtask test`.
const UNIT_TESTS: &str = "TENANTD_UNIT_TESTS";

/// How long they may take together, one after another.
const LIMIT: Duration = Duration::from_mins(5);

#[test]
fn the_adapters_and_the_rendered_units_hold_on_a_real_host() {
    in_machine("adapters", |machine| {
        // As much of an installed host as the adapters need: Podman's API and the run directories.
        machine.script(&format!(
            "systemctl enable --now podman.socket
             systemd-sysusers {REPOSITORY}/systemd/tenantd.sysusers
             systemd-tmpfiles --create {REPOSITORY}/systemd/tenantd.tmpfiles"
        ))?;
        // `s3` has a server for the first; the second are other tests' processes.
        let skipped = ["--skip", "a_real_server_", "--skip", "child_"];
        unit_tests(machine, &[], &skipped)
    });
}

/// Runs ignored unit tests in a machine; an error when one fails, or when none is run.
pub fn unit_tests(
    machine: &Machine,
    variables: &[(&str, &str)],
    arguments: &[&str],
) -> anyhow::Result<()> {
    let binary = std::env::var(UNIT_TESTS)
        .with_context(|| format!("{UNIT_TESTS} is not set; run `cargo xtask test`"))?;
    machine.copy_in(binary, "/var/tmp/unit-tests")?;
    let variables = variables
        .iter()
        .map(|(name, value)| format!("{name}={value}"));
    let run = ["/var/tmp/unit-tests", "--ignored", "--test-threads=1"];
    let argv = ["env", "--chdir=/"]
        .map(str::to_owned)
        .into_iter()
        .chain(variables)
        .chain(run.iter().chain(arguments).map(ToString::to_string));
    let output = machine.attempt_with(argv, &[], LIMIT)?.check()?;
    let told = output
        .stdout
        .lines()
        .find(|line| line.starts_with("test result: ok."));
    let summary = told.context("the unit tests gave no summary")?;
    eprintln!("{summary}");
    ensure!(
        !summary.contains(" 0 passed"),
        "nothing was run: {}",
        output.stdout
    );
    Ok(())
}
