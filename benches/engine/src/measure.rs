//! Runs one program and says what it cost: this process has no other children, so what the kernel adds up for
//! its children is that program's.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde::Serialize;

/// What a program cost.
#[derive(Debug, Serialize)]
pub struct Usage {
    /// On the clock, from before its start until its end.
    seconds: f64,
    /// Of all processors, in user and kernel mode.
    cpu: f64,
    /// The most memory that it had at once.
    peak_mib: f64,
    /// What it printed.
    output: String,
}

/// Runs a command with nothing to read.
#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds and kibibytes of one run"
)]
pub fn measure(command: &[String]) -> anyhow::Result<Usage> {
    let (program, arguments) = command.split_first().context("no command")?;
    let start = Instant::now();
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("could not start {program}"))?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(output.status.success(), "{program}: {}", output.status);
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Usage {
        seconds,
        cpu: cpu as f64 / 1e6,
        // ru_maxrss is in KiB (getrusage(2)).
        peak_mib: usage.max_rss() as f64 / 1024.0,
        output: String::from_utf8_lossy(&output.stdout).into_owned(),
    })
}
