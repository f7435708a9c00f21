//! What a command can end with, and how that is shown: the only place that prints errors.

use std::error::Error;
use std::fmt::Write;
use std::io;

use camino::Utf8PathBuf;

use super::client::ClientError;
use super::console::Paint;
use super::exit::Exit;
use crate::api::Problem;
use crate::backup::{KeyError, SealError};
use crate::daemon::DaemonError;
use crate::drill::DrillError;
use crate::host::files::FileError;
use crate::host::process::ProcessError;
use crate::host::systemd::SystemdError;
use crate::node::doctor::mend::MendError;
use crate::node::ignition::{FirstBootError, PointerError};
use crate::node::{InitError, NodeKeyError};
use crate::protect::ProtectError;
use crate::secrets::SecretError;
use crate::sleep;
use crate::tenant::TenantId;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The daemon could not be asked, or refused.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Some of what was asked for failed.
    #[error("{} of {total} failed", failures.len())]
    Several {
        /// What failed.
        failures: Vec<Problem>,
        /// Of how many.
        total: usize,
    },
    /// A file could not be read.
    #[error("cannot read what was given")]
    File(#[from] FileError),
    /// A directory could not be read.
    #[error("cannot read directory {path}")]
    Directory {
        /// The directory.
        path: Utf8PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A directory without specs.
    #[error("{0} has no *.toml file in it")]
    NoSpecs(Utf8PathBuf),
    /// A document is not text.
    #[error("{0} is not UTF-8 text")]
    NotText(String),
    /// Standard input could not be read.
    #[error("cannot read standard input")]
    Input(#[source] io::Error),
    /// The command line asks for what cannot be.
    #[error("{0}")]
    Usage(String),
    /// Some repositories could not be judged.
    #[error("{count} of {total} repositories were not pruned to the end; why is said above")]
    NotPruned {
        /// How many.
        count: usize,
        /// Of how many.
        total: usize,
    },
    /// Some repositories are not as they should be.
    #[error("{count} of {total} repositories are not whole; what is wrong is said above")]
    NotVerified {
        /// How many.
        count: usize,
        /// Of how many.
        total: usize,
    },
    /// Some drills are not good.
    #[error("{count} of {total} drills are not good; why is said above")]
    NotDrilled {
        /// How many.
        count: usize,
        /// Of how many.
        total: usize,
    },
    /// No drill can be made.
    #[error(transparent)]
    Drill(Box<DrillError>),
    /// There is a tenant of that name.
    #[error("there is a tenant {0} already; import it under another name with --as")]
    TenantExists(TenantId),
    /// The operator said no.
    #[error("nothing was removed")]
    Declined,
    /// There is no entry of this name.
    #[error("there is no {kind} {name:?}; there are: {known}")]
    Unknown {
        /// `template` or `plan`.
        kind: &'static str,
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// There is no second revision to compare with.
    #[error(
        "tenant {0} has no two revisions to compare; `tenantd history {0}` lists those there are"
    )]
    NothingToCompare(TenantId),
    /// A spec that is stored cannot be changed.
    #[error(
        "the spec of {0} cannot be changed by a program; change your file of it, and `tenantd apply` that"
    )]
    SpecNotChanged(TenantId, #[source] toml_edit::TomlError),
    /// A connection would be refused; why is printed.
    #[error("the agent would not get through to {0}")]
    NoWayOut(String),
    /// Something that the doctor checked is not as it must be.
    #[error("{0} of the checks failed; what to do is said above")]
    Unfit(usize),
    /// What the doctor would mend, it could not.
    #[error("{0} of the repairs failed; why is said above")]
    Unmended(usize),
    /// One thing could not be mended.
    #[error("it was not mended")]
    Mend(#[source] MendError),
    /// Only root can change the host.
    #[error("only root can mend the host: sudo tenantd doctor --fix")]
    MendingNeedsRoot,
    /// The daemon is absent, and this user cannot look at the host instead.
    #[error(
        "the daemon is absent, and only root can check the host without it: sudo tenantd doctor"
    )]
    DoctorNeedsRoot(#[source] ClientError),
    /// A key or certificate cannot be used or made.
    #[error("the certificate cannot be made")]
    Signing(#[source] KeyError),
    /// An identity is none.
    #[error("the identity given cannot be used")]
    Identity(#[source] SealError),
    /// A secret could not be read on this host.
    #[error(transparent)]
    Secret(#[from] Box<SecretError>),
    /// The terminal could not be used.
    #[error("the terminal cannot be used")]
    Terminal(#[source] io::Error),
    /// The connection to a running command broke.
    #[error("the connection to the command broke; it may still run")]
    Session(#[source] io::Error),
    /// Output could not be written.
    #[error("cannot write the output")]
    Output(#[source] io::Error),
    /// A file could not be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: Utf8PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The node cannot be set up.
    #[error(transparent)]
    Init(Box<InitError>),
    /// The node's keys cannot be used.
    #[error(transparent)]
    Key(Box<NodeKeyError>),
    /// A backup or restore in this process failed.
    #[error(transparent)]
    Protect(Box<ProtectError>),
    /// The sleep service refused, or cannot be asked.
    #[error(transparent)]
    Sleep(#[from] sleep::ClientError),
    /// systemd could not be asked.
    #[error(transparent)]
    Systemd(#[from] SystemdError),
    /// The daemon ended badly.
    #[error(transparent)]
    Daemon(Box<DaemonError>),
    /// A first boot cannot be as it was asked for.
    #[error("no machine could become a node by this")]
    FirstBoot(#[from] FirstBootError),
    /// A provider could not be given the config.
    #[error("the provider would not take the config")]
    Pointer(#[from] PointerError),
    /// A tool of the host could not be run.
    #[error("a tool of this host cannot be run")]
    Process(#[from] ProcessError),
    /// A tool of the host refused.
    #[error("`{line}` failed: {said}")]
    Tool {
        /// The command.
        line: String,
        /// What it said.
        said: String,
    },
    /// The asynchronous runtime could not be made.
    #[error("cannot make a runtime")]
    Runtime(#[source] io::Error),
}

/// The large ones are boxed: results of commands are moved around a lot.
macro_rules! boxed {
    ($($error:ident => $variant:ident),+) => {
        $(impl From<$error> for CliError {
            fn from(error: $error) -> Self {
                Self::$variant(Box::new(error))
            }
        })+
    };
}

boxed!(InitError => Init, NodeKeyError => Key, ProtectError => Protect, DrillError => Drill, DaemonError => Daemon);

impl CliError {
    /// The exit code of each error.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Client(error) | Self::DoctorNeedsRoot(error) => error.exit(),
            Self::Several { failures, .. } => Exit::of_all(failures.iter().map(problem_exit)),
            Self::Usage(_) | Self::Pointer(_) => Exit::Usage,
            Self::FirstBoot(_)
            | Self::NoSpecs(_)
            | Self::NotText(_)
            | Self::Signing(_)
            | Self::Identity(_) => Exit::Invalid,
            Self::TenantExists(_) | Self::Sleep(sleep::ClientError::Refused(_)) => Exit::Conflict,
            Self::Sleep(_) => Exit::Unreachable,
            Self::Unknown { .. } | Self::NothingToCompare(_) => Exit::NotFound,
            Self::Init(error) => match **error {
                InitError::Done(_) => Exit::Conflict,
                _ => Exit::Invalid,
            },
            Self::Protect(error) => match **error {
                ProtectError::NotEmpty
                | ProtectError::Overcommitted(_)
                | ProtectError::NotRemoved(_)
                | ProtectError::StateLeft(..)
                | ProtectError::DirectoryExists(_)
                | ProtectError::PathAtWork(_)
                | ProtectError::HasState(..) => Exit::Conflict,
                ProtectError::Archive(_) => Exit::Invalid,
                ProtectError::NoRepository(_)
                | ProtectError::NoSnapshot { .. }
                | ProtectError::NothingStored(_)
                | ProtectError::NoPath { .. } => Exit::NotFound,
                ProtectError::WholeMount(_) => Exit::Usage,
                _ => Exit::Failed,
            },
            Self::Secret(error) => match **error {
                SecretError::NoVersion { .. } => Exit::NotFound,
                _ => Exit::Failed,
            },
            Self::Drill(error) => match **error {
                DrillError::Busy => Exit::Conflict,
                DrillError::NotInstalled(_) => Exit::NotFound,
                _ => Exit::Failed,
            },
            Self::File(error) if error.is_absent() => Exit::NotFound,
            Self::Directory { .. }
            | Self::File(_)
            | Self::Input(_)
            | Self::Declined
            | Self::NotPruned { .. }
            | Self::NotVerified { .. }
            | Self::NotDrilled { .. }
            | Self::Unfit(_)
            | Self::NoWayOut(_)
            | Self::SpecNotChanged(..)
            | Self::Unmended(_)
            | Self::Mend(_)
            | Self::MendingNeedsRoot
            | Self::Terminal(_)
            | Self::Session(_)
            | Self::Output(_)
            | Self::Write { .. }
            | Self::Key(_)
            | Self::Process(_)
            | Self::Tool { .. }
            | Self::Systemd(_)
            | Self::Daemon(_)
            | Self::Runtime(_) => Exit::Failed,
        }
    }

    /// Whether it only means that nobody reads what is printed (`tenantd list | head -1`).
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The text for standard error.
    pub fn report(&self, paint: Paint) -> String {
        match self {
            Self::Client(ClientError::Refused(problem)) => problem_report(problem, paint),
            Self::Several { failures, total } => {
                let mut text: String = failures
                    .iter()
                    .map(|problem| problem_report(problem, paint))
                    .collect();
                if *total > 1 {
                    let _ = writeln!(text, "{self}");
                }
                text
            }
            other => {
                let mut text = format!("{}: {other}\n", paint.bad("error"));
                for cause in std::iter::successors(other.source(), |&cause| cause.source()) {
                    push_cause(&mut text, &cause.to_string());
                }
                text
            }
        }
    }
}

/// The exit code of a problem: by its code where that says more than the status.
pub fn problem_exit(problem: &Problem) -> Exit {
    match (problem.code.as_str(), problem.status) {
        ("not-healthy" | "start-failed", _) => Exit::NotHealthy,
        (_, 400 | 413 | 415 | 422) => Exit::Invalid,
        (_, 401 | 403) => Exit::Unreachable,
        (_, 404) => Exit::NotFound,
        (_, 409 | 412) => Exit::Conflict,
        _ => Exit::Failed,
    }
}

/// A problem with its causes, single faults and log lines.
pub fn problem_report(problem: &Problem, paint: Paint) -> String {
    let mut text = format!("{}: {}\n", paint.bad("error"), problem.title);
    for cause in &problem.causes {
        push_cause(&mut text, cause);
    }
    for fault in &problem.faults {
        push_indented(&mut text, "  ", fault);
    }
    if !problem.log.is_empty() {
        text.push_str("  its last log lines:\n");
        for line in &problem.log {
            push_indented(&mut text, &paint.dim("  | "), line);
        }
    }
    text
}

fn push_cause(text: &mut String, cause: &str) {
    let mut lines = cause.lines();
    let _ = writeln!(text, "  because: {}", lines.next().unwrap_or_default());
    for line in lines {
        let _ = writeln!(text, "    {line}");
    }
}

fn push_indented(text: &mut String, indent: &str, lines: &str) {
    for line in lines.lines() {
        let _ = writeln!(text, "{}", format!("{indent}{line}").trim_end());
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use rstest::rstest;

    use super::*;

    #[test]
    fn a_problem_is_shown_with_all_it_knows() {
        let problem = Problem {
            code: "start-failed".to_owned(),
            status: 500,
            title: "tenant acme: tenant-acme.service did not start: it ended with 78".to_owned(),
            causes: vec!["the job failed".to_owned(), "two\nlines".to_owned()],
            faults: vec!["acme.toml:3:1: unknown key `imgae`\n  did you mean `image`?".to_owned()],
            log: vec!["migrating".to_owned(), "cannot migrate".to_owned()],
            operation: None,
        };
        let error = CliError::Client(ClientError::Refused(Box::new(problem)));
        assert_eq!(error.exit(), Exit::NotHealthy);
        insta::assert_snapshot!(error.report(Paint(false)), @r"
        error: tenant acme: tenant-acme.service did not start: it ended with 78
          because: the job failed
          because: two
            lines
          acme.toml:3:1: unknown key `imgae`
            did you mean `image`?
          its last log lines:
          | migrating
          | cannot migrate
        ");
    }

    #[test]
    fn an_error_is_shown_with_its_causes() {
        let error = CliError::Client(ClientError::NotRunning {
            socket: "/run/tenantd/api.sock".into(),
            source: io::Error::other("connection refused"),
        });
        assert_eq!(error.exit(), Exit::Unreachable);
        insta::assert_snapshot!(error.report(Paint(false)), @r"
        error: tenantd does not answer at /run/tenantd/api.sock; start it with `systemctl start tenantd`
          because: connection refused
        ");
    }

    #[rstest]
    #[case("spec-invalid", StatusCode::BAD_REQUEST, Exit::Invalid)]
    #[case("tenant-unknown", StatusCode::NOT_FOUND, Exit::NotFound)]
    #[case("tenant-held", StatusCode::CONFLICT, Exit::Conflict)]
    #[case("image-unusable", StatusCode::UNPROCESSABLE_ENTITY, Exit::Invalid)]
    #[case("revision-changed", StatusCode::PRECONDITION_FAILED, Exit::Conflict)]
    #[case("units-refused", StatusCode::UNPROCESSABLE_ENTITY, Exit::Invalid)]
    #[case("start-failed", StatusCode::INTERNAL_SERVER_ERROR, Exit::NotHealthy)]
    #[case("not-healthy", StatusCode::INTERNAL_SERVER_ERROR, Exit::NotHealthy)]
    #[case("disk-full", StatusCode::INSUFFICIENT_STORAGE, Exit::Failed)]
    #[case("host-unusable", StatusCode::SERVICE_UNAVAILABLE, Exit::Failed)]
    #[case("internal", StatusCode::INTERNAL_SERVER_ERROR, Exit::Failed)]
    fn a_problem_has_an_exit_code(
        #[case] code: &str,
        #[case] status: StatusCode,
        #[case] expected: Exit,
    ) {
        assert_eq!(problem_exit(&Problem::new(code, status, "")), expected);
    }
}
