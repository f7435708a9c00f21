//! One line when a step begins and one when it ends, with its time. No terminal tricks: CI logs read the same.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

/// Prints what begins, does it, prints how long it took (or that it failed).
pub fn step<T>(what: impl Display, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    eprintln!("==> {what}");
    let start = Instant::now();
    let result = work();
    let outcome = if result.is_ok() { "done" } else { "FAILED" };
    eprintln!("    {outcome} in {}: {what}", seconds(start.elapsed()));
    result
}

/// A remark between steps.
pub fn note(what: impl Display) {
    eprintln!("    {what}");
}

/// `12.3 s`.
pub fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
