//! One call of an agent that is to put its files in order: a request through its ingress, or a command in its container.
//! When which is made, and what follows from the answer, is `quiesce`'s.

use std::time::Duration;

use futures_util::StreamExt as _;
use nix::sys::signal::Signal;

use crate::host::podman::{self, Exec, ExecOutput, ExecRequest, Podman, PodmanError};
use crate::host::probe::{self, Target, Unready};
use crate::layout::{Layout, UnitNames};
use crate::tenant::{QuiesceCall, TenantId};

/// So much of what a failed command says is kept, in bytes.
const SAID: usize = 1 << 10;

/// Why a call was not answered with "done".
#[derive(Debug, thiserror::Error)]
pub enum NotDone {
    /// The request.
    #[error(transparent)]
    Request(Unready),
    /// Podman could not run the command.
    #[error("`{command}` could not be run in the agent's container")]
    Podman {
        /// Its words.
        command: String,
        /// Why.
        #[source]
        source: Box<PodmanError>,
    },
    /// The command failed.
    #[error("`{command}` in the agent's container ended with {code}: {said}")]
    Code {
        /// Its words.
        command: String,
        /// Its exit code.
        code: i64,
        /// The beginning of what it said.
        said: String,
    },
    /// The command did not end in time; it was killed.
    #[error("`{command}` in the agent's container did not end within {seconds} s")]
    Slow {
        /// Its words.
        command: String,
        /// The time it was given.
        seconds: u32,
    },
}

/// Makes a call, and waits for its answer for so long.
///
/// # Errors
/// The agent did not do it, or not in time.
pub(super) async fn ask(
    layout: &Layout,
    tenant: &TenantId,
    call: &QuiesceCall,
    seconds: u32,
) -> Result<(), NotDone> {
    let limit = Duration::from_secs(seconds.into());
    match call {
        QuiesceCall::Request(path) => {
            let target = Target::Unix(layout.ingress_socket(tenant));
            let answer = probe::post(&target, path, limit).await;
            answer.map_err(NotDone::Request)
        }
        QuiesceCall::Command(words) => run(tenant, words, seconds, limit).await,
    }
}

async fn run(
    tenant: &TenantId,
    words: &[String],
    seconds: u32,
    limit: Duration,
) -> Result<(), NotDone> {
    let command = words.join(" ");
    let failed = |source| NotDone::Podman {
        command: command.clone(),
        source: Box::new(source),
    };
    let request = ExecRequest {
        command: words.to_vec(),
        ..ExecRequest::default()
    };
    let container = UnitNames(tenant).container();
    let started = async {
        let podman = Podman::connect(podman::SOCKET.into()).await?;
        podman.exec(&container, request).await
    };
    let slow = || NotDone::Slow {
        command: command.clone(),
        seconds,
    };
    let started = tokio::time::timeout(limit, started).await;
    let mut exec = started.map_err(|_| slow())?.map_err(failed)?;
    let Ok(ended) = tokio::time::timeout(limit, wait(&mut exec)).await else {
        // What is late must not go on while the files are taken for in order, or not.
        if let Err(error) = exec.control.signal(Signal::SIGKILL).await {
            tracing::warn!(%error, "a command in the agent's container could not be killed");
        }
        return Err(slow());
    };
    match ended.map_err(failed)? {
        (0, _) => Ok(()),
        (code, said) => Err(NotDone::Code {
            command: command.clone(),
            code,
            said,
        }),
    }
}

/// Waits for a command to end; gives its exit code and the beginning of what it said.
async fn wait(exec: &mut Exec) -> Result<(i64, String), PodmanError> {
    let mut said = Vec::new();
    while let Some(piece) = exec.output.next().await {
        let (ExecOutput::Terminal(bytes) | ExecOutput::Stdout(bytes) | ExecOutput::Stderr(bytes)) =
            piece?;
        let room = SAID - said.len();
        said.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
    // Its output has ended, so it has, or nobody knows how.
    let code = exec.control.exit_code().await?.unwrap_or(-1);
    Ok((code, String::from_utf8_lossy(&said).trim().to_owned()))
}
