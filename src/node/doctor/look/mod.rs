//! Looks at the host, one file for each side of it. They judge nothing, and none waits without end: what cannot be looked
//! at is said so.

pub mod host;
pub mod os;
pub mod units;

use std::time::Duration;

use tokio::process::Command;

use crate::host::process;

/// What was seen, or why it could not be looked at.
pub type Look<T> = Result<T, String>;

/// Longest look at files: a file system on the network may hang.
const FILES_TIME: Duration = Duration::from_secs(15);

/// Longest wait for a program of the host.
const PROGRAM_TIME: Duration = Duration::from_secs(15);

/// The most that is read of what a program says, in bytes.
const SAID: usize = 1024 * 1024;

/// Runs a look at files, away from the tasks that must not wait, and gives it up after a while.
pub(super) async fn at_files<T: Send + 'static>(
    what: &str,
    look: impl FnOnce() -> T + Send + 'static,
) -> Look<T> {
    match tokio::time::timeout(FILES_TIME, tokio::task::spawn_blocking(look)).await {
        Ok(Ok(seen)) => Ok(seen),
        Ok(Err(_)) => Err(format!("the look at {what} ended with a panic")),
        Err(_) => Err(format!(
            "{what} did not answer within {} s",
            FILES_TIME.as_secs()
        )),
    }
}

/// What a program of the host says.
async fn said(program: &str, arguments: &[&str]) -> Look<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    let output = process::run(command, PROGRAM_TIME, SAID)
        .await
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let complaint = complaint.lines().next().unwrap_or_default().trim();
    Err(format!("{program} failed: {complaint}"))
}
