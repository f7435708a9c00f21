//! Runs tests, and once more those few that failed beside others: alone. One that passes then is named, as a defect of
//! its own, and refuses nobody else's change. With hundreds of tests that start real systems, beside each other, on
//! whatever machine CI is, one such accident in a thousand would refuse every other run.

use std::{
    io::{BufRead, BufReader},
    process::{Command, ExitStatus, Stdio},
};

use anyhow::{Context as _, ensure};

use crate::progress;

/// More than so many is no accident.
const FEW: usize = 3;

/// Whether what is printed is shown as it comes, or whole at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// For the tests that one watches.
    Live,
    /// For those beside them.
    AtEnd,
}

/// Runs tests: `tests` is a `cargo test … --`, to which the test runner's own arguments are added. With `strict`,
/// there is no second try.
pub fn run(
    tests: impl Fn() -> Command,
    arguments: &[&str],
    strict: bool,
    show: Show,
) -> anyhow::Result<()> {
    let (status, said) = watch(tests().args(arguments), show)?;
    if status.success() {
        return Ok(());
    }
    let failed = failed(&said);
    ensure!(
        !strict && !failed.is_empty() && failed.len() <= FEW && is_whole(&said, failed.len()),
        "tests failed: {status}"
    );
    let names = failed.join(", ");
    progress::note(format!(
        "failed beside others, tried once more alone: {names}"
    ));
    let mut alone = tests();
    alone.args(["--exact", "--test-threads=1"]).args(&failed);
    let (status, said) = watch(&mut alone, show)?;
    ensure!(
        status.success() && summed(&said, "passed") >= failed.len(),
        "failed alone too: {names}"
    );
    progress::note(format!(
        "UNRELIABLE: passed alone, and failed beside others; mend the test or what it found: {names}"
    ));
    Ok(())
}

/// How it ended, and what it printed on its standard output.
fn watch(command: &mut Command, show: Show) -> anyhow::Result<(ExitStatus, String)> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("could not start the tests")?;
    let mut said = String::new();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.context("could not read what the tests say")?;
            let line = String::from_utf8_lossy(&line);
            if show == Show::Live {
                println!("{line}");
            }
            said.push_str(&line);
            said.push('\n');
        }
    }
    let status = child.wait().context("could not wait for the tests")?;
    if show == Show::AtEnd {
        print!("{said}");
    }
    Ok((status, said))
}

/// The tests of which the runner said that they failed.
fn failed(said: &str) -> Vec<&str> {
    let names = said.lines().filter_map(|line| {
        let name = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
        Some(name.strip_suffix(" - should panic").unwrap_or(name))
    });
    names.collect()
}

/// Whether every binary that began came to its summary, and the summaries count just those that failed by name. One
/// that crashed has none: what it had still to run is unknown.
fn is_whole(said: &str, failed: usize) -> bool {
    let begun = said.lines().filter(|line| {
        let count = line.strip_prefix("running ");
        let count = count.and_then(|line| line.split_once(" test"));
        count.is_some_and(|(count, _)| count.parse::<usize>().is_ok())
    });
    let ended = said.lines().filter(|line| line.starts_with(SUMMARY));
    begun.count() == ended.count() && summed(said, "failed") == failed
}

/// How the runner's summary lines begin.
const SUMMARY: &str = "test result: ";

/// How many `passed` or `failed`, over all of the runner's summary lines.
fn summed(said: &str, what: &str) -> usize {
    let summaries = said.lines().filter_map(|line| line.strip_prefix(SUMMARY));
    let counts = summaries.filter_map(|line| {
        let before = line.split_once(&format!(" {what}"))?.0;
        before.rsplit(' ').next()?.parse::<usize>().ok()
    });
    counts.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\
running 4 tests
test backup::a ... ok
test sleep::b ... FAILED
test sleep::c - should panic ... FAILED
test src/lib.rs - d (line 3) ... FAILED

failures:

---- sleep::b stdout ----
test of nothing

test result: FAILED. 1 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
";

    #[test]
    fn the_failed_tests_are_those_that_the_runner_names() {
        assert_eq!(
            failed(SAID),
            ["sleep::b", "sleep::c", "src/lib.rs - d (line 3)"]
        );
    }

    #[test]
    fn passes_are_counted_over_all_binaries() {
        let both = format!("{SAID}test result: ok. 12 passed; 0 failed; 0 ignored\n");
        assert_eq!((summed(&both, "passed"), summed(&both, "failed")), (13, 3));
    }

    fn shell(script: &'static str) -> impl Fn() -> Command {
        move || {
            let mut shell = Command::new("sh");
            shell.args(["-c", script, "sh"]);
            shell
        }
    }

    const OF_A_FLAKE: &str = "echo 'running 2 tests'; if [ \"$1\" = --exact ]; \
        then echo 'test result: ok. 1 passed; 0 failed'; \
        else echo 'test a ... FAILED'; echo 'test result: FAILED. 1 passed; 1 failed'; exit 101; fi";

    #[test]
    fn what_passes_alone_refuses_nothing_unless_one_is_strict() {
        assert!(run(shell(OF_A_FLAKE), &[], false, Show::AtEnd).is_ok());
        assert!(run(shell(OF_A_FLAKE), &[], true, Show::AtEnd).is_err());
    }

    #[test]
    fn what_fails_alone_or_in_numbers_or_is_not_found_again_fails() {
        let fails = |script| run(shell(script), &[], false, Show::AtEnd).is_err();
        // Always; not found again; too many; no name at all.
        assert!(fails(
            "echo 'running 1 test'; echo 'test a ... FAILED'; \
             echo 'test result: FAILED. 0 passed; 1 failed'; exit 101"
        ));
        assert!(fails(
            "echo 'running 1 test'; if [ \"$1\" = --exact ]; then echo 'test result: ok. 0 passed; 0 failed'; \
             else echo 'test a ... FAILED'; echo 'test result: FAILED. 0 passed; 1 failed'; exit 101; fi"
        ));
        assert!(fails(
            "echo 'running 4 tests'; for t in a b c d; do echo \"test $t ... FAILED\"; done; \
             echo 'test result: FAILED. 0 passed; 4 failed'; [ \"$1\" = --exact ]"
        ));
        assert!(fails("[ \"$1\" = --exact ]"));
        // One failed, and another ended the whole binary: what came after it was never run.
        assert!(fails(
            "echo 'running 3 tests'; if [ \"$1\" = --exact ]; then echo 'test result: ok. 1 passed; 0 failed'; \
             else echo 'test a ... FAILED'; exit 134; fi"
        ));
    }
}
