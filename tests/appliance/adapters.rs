//! The unit tests that need a real host: the adapters of `host`, and rendered units before the real gates.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use xtask::machine::in_machine;

/// Names the unit tests' binary; set by `cargo xtask test`.
const UNIT_TESTS: &str = "TENANTD_UNIT_TESTS";

/// How long they may take together, one after another.
const LIMIT: Duration = Duration::from_mins(5);

#[test]
fn the_adapters_and_the_rendered_units_hold_on_a_real_host() {
    in_machine("adapters", |machine| {
        let binary = std::env::var(UNIT_TESTS)
            .with_context(|| format!("{UNIT_TESTS} is not set; run `cargo xtask test adapters`"))?;
        machine.copy_in(binary, "/var/tmp/unit-tests")?;
        machine.run(["systemctl", "enable", "--now", "podman.socket"])?;
        let script = "cd / && exec /var/tmp/unit-tests --ignored --test-threads=1";
        let argv = ["sh", "-c", script].map(str::to_owned);
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
    });
}
