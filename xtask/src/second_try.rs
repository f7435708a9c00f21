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
    let Said { failed, is_cut, .. } = read(&said);
    ensure!(
        !strict && !failed.is_empty() && failed.len() <= FEW && !is_cut,
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
        status.success() && read(&said).passed >= failed.len(),
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

/// What the runner said, as far as it matters here.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said<'a> {
    /// The tests that failed.
    failed: Vec<&'a str>,
    /// How many passed.
    passed: usize,
    /// A binary began and came to no summary: it crashed, and what it had still to run is unknown.
    is_cut: bool,
}

/// Reads what test binaries print one after the other. What a failed test has printed comes after all results, may be
/// another runner's words, and is not mistaken for them: a summary counts as many results as its binary has tests.
fn read(said: &str) -> Said<'_> {
    let mut read = Said::default();
    let mut open: Option<(usize, usize)> = None;
    for line in said.lines() {
        let Some((tests, results)) = &mut open else {
            open = tests_of(line).map(|tests| (tests, 0));
            continue;
        };
        if let Some(counts) = line.strip_prefix("test result: ") {
            let of = |what| count(counts, what);
            if of("passed") + of("failed") + of("ignored") == *tests {
                read.passed += of("passed");
                open = None;
            }
        } else if *results < *tests
            && let Some((name, result)) = result_of(line)
        {
            *results += 1;
            if result == "FAILED" {
                read.failed.push(name);
            }
        }
    }
    read.is_cut = open.is_some();
    read
}

/// `running 3 tests`.
fn tests_of(line: &str) -> Option<usize> {
    let (count, word) = line.strip_prefix("running ")?.split_once(' ')?;
    let count = count.parse().ok()?;
    word.starts_with("test").then_some(count)
}

/// `test a::b ... ok`, or `FAILED`, or `ignored, and why`.
fn result_of(line: &str) -> Option<(&str, &str)> {
    let (name, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let is_one = result == "ok" || result == "FAILED" || result.starts_with("ignored");
    let name = name.strip_suffix(" - should panic").unwrap_or(name);
    is_one.then_some((name, result))
}

/// The number before a word of a summary.
fn count(summary: &str, what: &str) -> usize {
    let before = summary
        .split_once(&format!(" {what}"))
        .map(|(before, _)| before);
    let number = before.and_then(|before| before.rsplit(' ').next()?.parse().ok());
    number.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\
running 5 tests
test backup::a ... ok
test sleep::b ... FAILED
test sleep::c - should panic ... FAILED
test sleep::d ... ignored, needs a kernel
test src/lib.rs - e (line 3) ... FAILED

failures:

---- sleep::b stdout ----
running 2 tests
test of::nothing ... FAILED
test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s

test result: FAILED. 1 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s
running 12 tests
test result: ok. 12 passed; 0 failed; 0 ignored
";

    #[test]
    fn the_results_are_those_of_the_runner_and_of_no_other() {
        let expected = Said {
            failed: vec!["sleep::b", "sleep::c", "src/lib.rs - e (line 3)"],
            passed: 13,
            is_cut: false,
        };
        assert_eq!(read(SAID), expected);
        let crashed = SAID.strip_suffix("test result: ok. 12 passed; 0 failed; 0 ignored\n");
        assert!(read(crashed.unwrap()).is_cut);
    }

    fn shell(script: &'static str) -> impl Fn() -> Command {
        move || {
            let mut shell = Command::new("sh");
            shell.args(["-c", script, "sh"]);
            shell
        }
    }

    const OF_A_FLAKE: &str = "if [ \"$1\" = --exact ]; \
        then echo 'running 1 test'; echo 'test result: ok. 1 passed; 0 failed'; \
        else echo 'running 2 tests'; echo 'test a ... FAILED'; \
        echo 'test result: FAILED. 1 passed; 1 failed'; exit 101; fi";

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
