//! The causes for which an agent fails, each with its one name in records, API, CLI and logs.
//! Which of them it was is judged in `reconcile`.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why an agent failed, was restarted, or is not started again.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum FailureCause {
    /// It ended again and again, until systemd gave up (start limit).
    CrashLoop,
    /// It ended with an exit code that says that something is wrong.
    ExitCode,
    /// It ended with one of its template's `fatal-exit-codes`: a restart would change nothing.
    FatalExitCode,
    /// A signal ended it, other than the kernel's for lack of memory.
    Signal,
    /// It did not answer its start probe in time.
    StartTimeout,
    /// It runs and does not answer: its live probe, or the probe through its ingress.
    Unhealthy,
    /// The kernel killed it for lack of memory.
    OutOfMemory,
    /// What it may store is stored: its disk or its quota is full.
    StorageFull,
    /// Its image is not on this host.
    ImageMissing,
    /// What it needs failed: its restore or its network namespace.
    Dependency,
    /// The host, or something that this list does not know.
    Host,
}

impl FailureCause {
    /// Every cause.
    pub const ALL: [Self; 11] = [
        Self::CrashLoop,
        Self::ExitCode,
        Self::FatalExitCode,
        Self::Signal,
        Self::StartTimeout,
        Self::Unhealthy,
        Self::OutOfMemory,
        Self::StorageFull,
        Self::ImageMissing,
        Self::Dependency,
        Self::Host,
    ];

    /// The cause's name, as it is written everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CrashLoop => "crash-loop",
            Self::ExitCode => "exit-code",
            Self::FatalExitCode => "fatal-exit-code",
            Self::Signal => "signal",
            Self::StartTimeout => "start-timeout",
            Self::Unhealthy => "unhealthy",
            Self::OutOfMemory => "out-of-memory",
            Self::StorageFull => "storage-full",
            Self::ImageMissing => "image-missing",
            Self::Dependency => "dependency",
            Self::Host => "host",
        }
    }

    /// Whether the agent itself failed, so that its image or spec can be to blame. A full disk or a host in trouble says
    /// nothing about either.
    pub const fn is_the_agents(self) -> bool {
        matches!(
            self,
            Self::CrashLoop
                | Self::ExitCode
                | Self::FatalExitCode
                | Self::Signal
                | Self::StartTimeout
                | Self::Unhealthy
                | Self::OutOfMemory
        )
    }

    /// Whether another start can end otherwise without anybody changing anything.
    pub const fn may_pass(self) -> bool {
        !matches!(self, Self::FatalExitCode)
    }
}

impl fmt::Display for FailureCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_written_by_one_name_everywhere() {
        for cause in FailureCause::ALL {
            let written = serde_json::to_value(cause).unwrap();
            assert_eq!(written, cause.as_str());
            assert_eq!(
                serde_json::from_value::<FailureCause>(written).unwrap(),
                cause
            );
        }
    }
}
