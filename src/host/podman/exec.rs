//! Commands inside a running container, with a terminal or with separate streams.
//! Bytes are passed as they are; what a terminal looks like is the caller's business.

use std::fmt;
use std::pin::Pin;

use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, ResizeExecOptions, StartExecOptions, StartExecResults};
use bollard::models::ExecInspectResponse;
use futures_util::{Stream, StreamExt};
use hyper::body::Bytes;
use nix::sys::signal::Signal;
use tokio::io::AsyncWrite;

use super::Podman;
use super::error::{self, PodmanError};
use crate::host::process::ProcessId;

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct ExecRequest {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Whether it gets a terminal; then all its output comes as [`ExecOutput::Terminal`].
    pub terminal: bool,
    /// Whether it gets our input.
    pub input: bool,
    /// Additional variables, `NAME=value`.
    pub environment: Vec<String>,
    /// Another user than the container's.
    pub user: Option<String>,
    /// Another directory than the container's.
    pub directory: Option<String>,
}

/// A piece of what a command says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecOutput {
    /// From its terminal.
    Terminal(Bytes),
    /// From its standard output.
    Stdout(Bytes),
    /// From its standard error.
    Stderr(Bytes),
}

/// A command that runs in a container. Dropping it leaves the command running.
pub struct Exec {
    /// What it says; ends with the command.
    pub output: Pin<Box<dyn Stream<Item = Result<ExecOutput, PodmanError>> + Send>>,
    /// Its input, if it was asked for.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
    /// Its size and its end; apart, so that it can be asked while the streams are at work.
    pub control: ExecControl,
}

/// What can be asked of a command that runs in a container, beside its streams.
#[derive(Debug, Clone)]
pub struct ExecControl {
    id: String,
    podman: Podman,
}

impl fmt::Debug for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exec")
            .field("control", &self.control)
            .finish_non_exhaustive()
    }
}

impl Podman {
    /// Runs a command in the running container `name`.
    pub async fn exec(&self, name: &str, request: ExecRequest) -> Result<Exec, PodmanError> {
        let failed = |error| error::docker("run a command in", name, error);
        let options = CreateExecOptions {
            attach_stdin: Some(request.input),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(request.terminal),
            env: Some(request.environment),
            cmd: Some(request.command),
            user: request.user,
            working_dir: request.directory,
            ..CreateExecOptions::default()
        };
        let id = self
            .docker
            .create_exec(name, options)
            .await
            .map_err(failed)?
            .id;
        let start = StartExecOptions {
            detach: false,
            tty: request.terminal,
            output_capacity: None,
        };
        match self
            .docker
            .start_exec(&id, Some(start))
            .await
            .map_err(failed)?
        {
            StartExecResults::Attached { output, input } => {
                let name = name.to_owned();
                let output = output.map(move |piece| match piece {
                    Ok(LogOutput::StdErr { message }) => Ok(ExecOutput::Stderr(message)),
                    Ok(LogOutput::StdOut { message }) if !request.terminal => {
                        Ok(ExecOutput::Stdout(message))
                    }
                    Ok(other) => Ok(ExecOutput::Terminal(other.into_bytes())),
                    Err(error) => Err(error::docker("read from a command in", &name, error)),
                });
                Ok(Exec {
                    output: Box::pin(output),
                    input,
                    control: ExecControl {
                        id,
                        podman: self.clone(),
                    },
                })
            }
            StartExecResults::Detached => Err(PodmanError::Broken {
                verb: "attach to a command in",
                object: name.to_owned(),
                source: "Podman started it without its streams".into(),
            }),
        }
    }
}

impl ExecControl {
    /// Tells the terminal its size, in characters.
    pub async fn resize(&self, rows: u16, columns: u16) -> Result<(), PodmanError> {
        let size = ResizeExecOptions {
            height: rows,
            width: columns,
        };
        self.podman
            .docker
            .resize_exec(&self.id, size)
            .await
            .map_err(|error| error::docker("resize the terminal of", &self.id, error))
    }

    /// How the command ended; `None` while it runs.
    pub async fn exit_code(&self) -> Result<Option<i64>, PodmanError> {
        let answer = self.inspect().await?;
        Ok(match answer.running {
            Some(true) => None,
            _ => answer.exit_code,
        })
    }

    /// Sends a signal to the command and what it has started; nothing once it has ended.
    ///
    /// Podman's API has no call for it, but names the command's process on the host.
    pub async fn signal(&self, signal: Signal) -> Result<(), PodmanError> {
        let answer = self.inspect().await?;
        let pid = answer.pid.filter(|_| answer.running == Some(true));
        let process = pid
            .and_then(|pid| u32::try_from(pid).ok())
            .and_then(ProcessId::of);
        let Some(process) = process else {
            return Ok(());
        };
        process
            .signal(signal)
            .map_err(|source| PodmanError::Broken {
                verb: "signal the command",
                object: self.id.clone(),
                source: source.into(),
            })
    }

    async fn inspect(&self) -> Result<ExecInspectResponse, PodmanError> {
        self.podman
            .docker
            .inspect_exec(&self.id)
            .await
            .map_err(|error| error::docker("inspect the command", &self.id, error))
    }
}
